//! What a layer is built from, and where it declares its variables by name.

use flambeau_formats::Array;
use tch::Kind;

use crate::arguments::Args;
use crate::assets::Assets;
use crate::config::Options;
use crate::constraints::Constraint;
use crate::dtype::{DType, Policy};
use crate::error::{Error, Result};
use crate::graph::Split;
use crate::initializers::Initializer;
use crate::layer::Built;
use crate::registry;
use crate::regularizers::Regularizer;
use crate::spec::Spec;
use crate::tensor_group::{Held, TensorPart};
use crate::variables::Handle;

/// A variable that a layer declared.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Keras's path without the model's name.
    pub(crate) path: String,
    /// Its layer's group in a Keras weights file.
    pub(crate) group: String,
    /// Group and name of the layer around its own that lists it too.
    pub(crate) adopter: Option<(String, String)>,
    /// Where Keras lists it: compared with those of the other variables.
    pub(crate) order: Vec<usize>,
    /// Of the whole variable.
    pub(crate) shape: Vec<i64>,
    /// What this rank of a tensor group has of it, if not all.
    pub(crate) held: Option<Held>,
    pub(crate) kind: Kind,
    /// What its layer computes in.
    pub(crate) compute: DType,
    pub(crate) initializer: Initializer,
    /// Whether gradients can change it.
    pub(crate) trainable: bool,
    /// Whether its layer, or a model around it, is frozen.
    pub(crate) frozen: bool,
    /// Whether training passes change it, and ranks take the mean of theirs weighted by rows.
    pub(crate) averaged: bool,
    /// Whether another process has it, which runs the stage that it is of.
    pub(crate) elsewhere: bool,
    /// Whether its rows are elsewhere, from where passes fetch those that they look up.
    pub(crate) rows_elsewhere: bool,
    /// Whether its rows are looked up and nothing else reads it, so that its gradient consists of
    /// slices.
    pub(crate) looked_up: bool,
    /// What it adds to the loss while gradients change it.
    pub(crate) regularizer: Option<Regularizer>,
    /// What it is brought back to after each step.
    pub(crate) constraint: Option<Constraint>,
}

/// What a layer is built from, and where it declares its variables.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// The layer's Keras class.
    pub(crate) class: &'a str,
    /// Its config.
    pub(crate) options: &'a Options<'a>,
    /// The specs of its first call.
    pub(crate) args: &'a Args<Spec>,
    pub(crate) place: Place<'a>,
    pub(crate) policy: Policy,
    /// Variables and children declared so far.
    pub(crate) count: usize,
}

/// Where in the model variables are declared.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) declared: &'a mut Vec<Declared>,
    /// Whether a layer adds up something over the rows of all replicas in training.
    pub(crate) sums: &'a mut bool,
    pub(crate) assets: &'a Assets,
    pub(crate) path: String,
    pub(crate) group: String,
    pub(crate) order: Vec<usize>,
    /// False below a frozen layer or model.
    pub(crate) trainable: bool,
    /// The rank's place in its tensor group.
    pub(crate) tensor: TensorPart,
    /// What the layer does with its part of the group.
    pub(crate) split: Split,
}

impl<'a> Scope<'a> {
    /// The spec of the only input.
    pub(crate) fn input(&self) -> Result<&'a Spec> {
        self.args.only().map_err(|reason| self.mismatch(reason))
    }

    /// The size of an axis of the only input, which must be known.
    pub(crate) fn input_size(&self, axis: i64) -> Result<i64> {
        let size = self.input()?.size(axis);
        size.map_err(|reason| self.mismatch(reason))
    }

    /// An error about the inputs.
    pub(crate) fn mismatch(&self, reason: impl Into<String>) -> Error {
        Error::ShapeMismatch {
            place: self.options.place().to_owned(),
            reason: reason.into(),
        }
    }

    /// Declares the trainable variable `name`, initialized, regularized and constrained by the
    /// options that begin with `prefix`. A layer declares its own before those of its children, in
    /// the order of Keras's `layer.weights`.
    pub(crate) fn weight(
        &mut self,
        name: &str,
        prefix: &str,
        shape: &[i64],
        default_initializer: &str,
    ) -> Result<Handle> {
        let initializer = self.initializer(prefix, default_initializer)?;
        self.weight_with(name, prefix, shape, initializer)
    }

    /// The initializer that an option beginning with `prefix` names.
    pub(crate) fn initializer(&self, prefix: &str, default: &str) -> Result<Initializer> {
        Initializer::read(self.options, &format!("{prefix}_initializer"), default)
    }

    /// As [`Self::weight`] with an initializer at hand; options begin with the name.
    pub(crate) fn initialized_weight(
        &mut self,
        name: &str,
        shape: &[i64],
        initializer: Initializer,
    ) -> Result<Handle> {
        self.weight_with(name, name, shape, initializer)
    }

    fn weight_with(
        &mut self,
        name: &str,
        prefix: &str,
        shape: &[i64],
        initializer: Initializer,
    ) -> Result<Handle> {
        let rule = |kind: &str| {
            let key = format!("{prefix}_{kind}");
            let place = format!("{}, {key}", self.options.place());
            (self.options.value(&key), place)
        };
        let (regularizer, place) = rule("regularizer");
        let regularizer = match regularizer {
            Some(value) => Regularizer::from_config(value, &place)?,
            None => None,
        };
        let (constraint, place) = rule("constraint");
        let constraint = match constraint {
            Some(value) => Constraint::from_config(value, &place)?,
            None => None,
        };
        if self.policy.variable != DType::FLOAT32 {
            let dtype = self.policy.variable;
            return Err(Error::Unsupported {
                place: self.options.place().to_owned(),
                what: format!("keeping variables in {dtype}"),
                supported: "dtype float32, mixed_float16, mixed_bfloat16".to_owned(),
            });
        }
        let handle = self.declare(name, shape, initializer, true);
        if let Some(declared) = self.place.declared.get_mut(handle.0) {
            declared.regularizer = regularizer;
            declared.constraint = constraint;
        }
        Ok(handle)
    }

    /// As [`Self::weight`] where the layer has the variable only if `wanted`; its options are read
    /// in any case.
    pub(crate) fn weight_if(
        &mut self,
        wanted: bool,
        name: &str,
        prefix: &str,
        shape: &[i64],
        default_initializer: &str,
    ) -> Result<Option<Handle>> {
        if wanted {
            return self
                .weight(name, prefix, shape, default_initializer)
                .map(Some);
        }
        for rule in ["initializer", "regularizer", "constraint"] {
            self.options.ignore(&[&format!("{prefix}_{rule}")]);
        }
        Ok(None)
    }

    /// Changes how a variable of this layer is initialized.
    pub(crate) fn reinitialize(
        &mut self,
        variable: Handle,
        change: impl FnOnce(Initializer) -> Initializer,
    ) {
        if let Some(declared) = self.place.declared.get_mut(variable.0) {
            declared.initializer = change(declared.initializer.clone());
        }
    }

    /// Declares a state that training passes assign, as BatchNormalization's moving statistics;
    /// ranks average theirs, weighted by rows.
    pub(crate) fn moving_state(
        &mut self,
        name: &str,
        shape: &[i64],
        default_initializer: &str,
    ) -> Result<Handle> {
        let initializer = self.initializer(name, default_initializer)?;
        Ok(self.initialized_state(name, shape, initializer))
    }

    /// Says that the layer adds up something over the rows of all replicas in training.
    pub(crate) fn sums_over_replicas(&mut self) {
        *self.place.sums = true;
    }

    /// Says that the layer reads `handle` only by [`Context::look_up`], unless a regularizer reads
    /// all of it: then this gives false.
    pub(crate) fn looks_up(&mut self, handle: Handle) -> bool {
        let Some(declared) = self.place.declared.get_mut(handle.0) else {
            return false;
        };
        declared.looked_up = declared.regularizer.is_none();
        declared.looked_up
    }

    /// Says that of the variable `handle`, declared as a whole, this rank has its part of `axis` only.
    pub(crate) fn hold_part(&mut self, handle: Handle, axis: usize) {
        let part = self.place.tensor;
        if let Some(declared) = self.place.declared.get_mut(handle.0) {
            let size = declared.shape.get(axis).copied().unwrap_or(0);
            declared.held = Some(Held {
                shape: declared.shape.clone(),
                axis,
                range: part.of(size),
            });
        }
    }

    /// As [`Self::moving_state`] where no option names the initializer.
    pub(crate) fn initialized_state(
        &mut self,
        name: &str,
        shape: &[i64],
        initializer: Initializer,
    ) -> Handle {
        self.declare(name, shape, initializer, false)
    }

    /// The file `name` that the layer keeps in the model's archive.
    pub(crate) fn asset(&self, name: &str) -> Option<&'a [u8]> {
        self.place.assets.file(&self.place.group, name)
    }

    /// The array `name` that the layer keeps among the weights, no variable of its.
    pub(crate) fn stored(&self, name: &str) -> Option<&'a Array> {
        self.place.assets.array(&self.place.group, name)
    }

    /// Declares a variable that neither gradients nor passes change, in a dtype of its own.
    pub(crate) fn constant(
        &mut self,
        name: &str,
        shape: &[i64],
        kind: Kind,
        initializer: Initializer,
    ) -> Handle {
        let handle = self.declare(name, shape, initializer, false);
        if let Some(declared) = self.place.declared.get_mut(handle.0) {
            declared.kind = kind;
            declared.averaged = false;
        }
        handle
    }

    fn declare(
        &mut self,
        name: &str,
        shape: &[i64],
        initializer: Initializer,
        trainable: bool,
    ) -> Handle {
        let place = &mut self.place;
        let order = [place.order.as_slice(), &[self.count]].concat();
        self.count += 1;
        place.declared.push(Declared {
            name: name.to_owned(),
            path: format!("{}/{name}", place.path),
            group: place.group.clone(),
            adopter: None,
            order,
            shape: shape.to_vec(),
            held: None,
            kind: Kind::Float,
            compute: self.policy.compute,
            initializer,
            trainable,
            frozen: !place.trainable,
            averaged: !trainable && place.trainable,
            elsewhere: false,
            rows_elsewhere: false,
            looked_up: false,
            regularizer: None,
            constraint: None,
        });
        Handle(place.declared.len() - 1)
    }

    /// Finds the variable of one of these `names` among those of the child built under
    /// `attribute`, and lists it among this layer's own too, as Keras does with a variable of the
    /// child that the layer itself keeps in an attribute. Gives its handle and shape.
    pub(crate) fn adopt(&mut self, attribute: &str, names: &[&str]) -> Option<(Handle, Vec<i64>)> {
        let group = format!("{}/{attribute}", self.place.group);
        let name = self.place.path.rsplit('/').next().unwrap_or_default();
        let mut declared = self.place.declared.iter_mut().enumerate();
        let (at, found) = declared.find(|(_, declared)| {
            declared.group == group && names.contains(&declared.name.as_str())
        })?;
        found.adopter = Some((self.place.group.clone(), name.to_owned()));
        Some((Handle(at), found.shape.clone()))
    }

    /// Builds a layer that this one holds under `attribute`, from its serialized form.
    pub(crate) fn child(
        &mut self,
        attribute: &str,
        serialized: &serde_json::Value,
        args: &Args<Spec>,
    ) -> Result<Built> {
        self.child_split(attribute, serialized, args, Split::Whole)
    }

    /// As [`Self::child`], of a layer that does its part for this one's.
    pub(crate) fn child_split(
        &mut self,
        attribute: &str,
        serialized: &serde_json::Value,
        args: &Args<Spec>,
        split: Split,
    ) -> Result<Built> {
        let entry = registry::Entry::read(serialized)?;
        let place = self.below(attribute, &entry.name);
        registry::build(&entry, args, Place { split, ..place })
    }

    /// Builds a layer that this one makes itself, from its own options, and holds under
    /// `attribute` with the given name, as `LSTM` its cell.
    pub(crate) fn part<T>(
        &mut self,
        attribute: &str,
        name: &str,
        build: impl FnOnce(&mut Scope<'_>) -> Result<T>,
    ) -> Result<T> {
        let (class, options, args, policy) = (self.class, self.options, self.args, self.policy);
        build(&mut Scope {
            class,
            options,
            args,
            place: self.below(attribute, name),
            policy,
            count: 0,
        })
    }

    /// The place of the variables of a layer that this one holds.
    fn below(&mut self, attribute: &str, name: &str) -> Place<'_> {
        let order = [self.place.order.as_slice(), &[self.count]].concat();
        self.count += 1;
        Place {
            declared: &mut *self.place.declared,
            sums: &mut *self.place.sums,
            assets: self.place.assets,
            path: format!("{}/{name}", self.place.path),
            group: format!("{}/{attribute}", self.place.group),
            order,
            trainable: self.place.trainable,
            tensor: self.place.tensor,
            // What reads the variables of a layer in it would have to know of parts.
            split: Split::Whole,
        }
    }
}
