//! Keras's `optimizer.variables`: what a model file holds of an optimizer, and a checkpoint too.

use std::ops::Range;

use super::Optimizer;
use super::part::State;
use super::slot::{Kind, Slot};
use crate::error::{Error, Result};
use crate::tensor_group::Held;
use crate::variables::Variable;

/// One of Keras's `optimizer.variables`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerVariable<'a> {
    /// Unique in the optimizer, such as `dense/kernel/momentum` or `iteration`: the name in a
    /// checkpoint.
    pub key: String,
    /// Keras's name, such as `dense_kernel_momentum`, which need not be unique.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: &'a [i64],
    /// Its value.
    pub value: OptimizerValue<'a>,
    /// Which of its elements `value` has, if it belongs to a variable of the model: all, unless the
    /// optimizer is one of several.
    pub held: Option<Range<usize>>,
    /// Which part of the whole one it is, if a tensor group has split the variable that it belongs to
    /// and it lies like that.
    pub part: Option<&'a Held>,
    /// Whether Keras lists and so saves it. It does not list what an optimizer made by itself
    /// (Nadam's product, Adafactor's placeholders) where a LossScaleOptimizer built that optimizer.
    pub listed: bool,
}

/// Value of an [`OptimizerVariable`], of Keras's type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerValue<'a> {
    /// A scalar of int64.
    Int64(i64),
    /// A scalar of int32.
    Int32(i32),
    /// float32 values in row-major order.
    Float32(&'a [f32]),
}

/// A value of an [`OptimizerVariable`] that can be changed in place.
#[derive(Debug, PartialEq)]
pub enum OptimizerValueMut<'a> {
    /// A scalar of int64.
    Int64(&'a mut i64),
    /// float32 values in row-major order.
    Float32(&'a mut [f32]),
    /// The zero that stands where Keras keeps nothing.
    Placeholder,
}

/// A variable of a model file or a checkpoint: its shape and its value.
pub type SavedVariable<'a> = (&'a [i64], OptimizerValue<'a>);

impl Optimizer {
    /// The variables that Keras lists, in its order: what an export holds.
    pub fn keras_variables(&self) -> Vec<OptimizerVariable<'_>> {
        let all = self.variables().into_iter();
        all.filter(|variable| variable.listed).collect()
    }

    /// All variables, in Keras's order: what a checkpoint holds.
    pub fn variables(&self) -> Vec<OptimizerVariable<'_>> {
        let scalar = |key: &str, name: &str, value| OptimizerVariable {
            key: key.into(),
            name: name.into(),
            shape: &[],
            value,
            held: None,
            part: None,
            listed: true,
        };
        let lists_own = self.loss_scale.is_none();
        let float = |value| OptimizerValue::Float32(std::slice::from_ref(value));
        let mut all = Vec::new();
        if let Some(scale) = &self.loss_scale {
            all.extend(
                scale
                    .values()
                    .map(|(name, value)| scalar(&format!("loss_scale/{name}"), name, value)),
            );
        }
        all.push(scalar(
            "iteration",
            "iteration",
            OptimizerValue::Int64(self.iterations),
        ));
        let rate = self.learning_rate.constant();
        all.extend(rate.map(|rate| scalar("learning_rate", "learning_rate", float(rate))));
        let states = self.variables.iter().zip(&self.states);
        let mut slots: Vec<_> = states
            .flat_map(|(variable, state)| {
                state
                    .ranked()
                    .map(move |(rank, slot)| (rank, variable, slot))
            })
            .collect();
        slots.sort_by_key(|&(rank, ..)| rank);
        all.extend(
            slots
                .into_iter()
                .map(|(_, variable, slot)| OptimizerVariable {
                    listed: lists_own || slot.kind != Kind::Placeholder,
                    ..slot_variable(variable, slot)
                }),
        );
        let shared = self.rule.shared();
        // Keras gives it no name.
        all.extend(shared.map(|shared| OptimizerVariable {
            listed: lists_own,
            ..scalar(shared.name, "variable", float(&self.shared))
        }));
        all
    }

    /// The values of [`Self::variables`], in the same order, to be changed in place.
    pub fn values_mut(&mut self) -> Vec<OptimizerValueMut<'_>> {
        let float = |value| OptimizerValueMut::Float32(std::slice::from_mut(value));
        let mut all = Vec::new();
        if let Some(scale) = &mut self.loss_scale {
            all.extend(scale.values_mut());
        }
        all.push(OptimizerValueMut::Int64(&mut self.iterations));
        all.extend(self.learning_rate.constant_mut().map(float));
        all.extend(slots_mut(&mut self.states).map(|slot| match slot.kind {
            Kind::Placeholder => OptimizerValueMut::Placeholder,
            Kind::Named | Kind::Bare => OptimizerValueMut::Float32(&mut slot.values),
        }));
        all.extend(self.rule.shared().map(|_| float(&mut self.shared)));
        all
    }

    /// Goes on from the optimizer variables of a model file that Keras saved, in Keras's order.
    /// Returns whether the state was taken over: it is not if the file's optimizer had not been
    /// built, so that it has no slots. Keras skips such variables, too.
    ///
    /// # Errors
    /// Before any change, if the variables are those of another optimizer or another model.
    pub fn set_keras_variables(&mut self, saved: &[SavedVariable<'_>]) -> Result<bool> {
        let own = self.keras_variables();
        let wrapper = self.loss_scale.is_some();
        let unbuilt = 1 + usize::from(self.learning_rate.constant().is_some());
        let unbuilt = if wrapper { 2 + unbuilt } else { unbuilt };
        let is_unbuilt = saved.len() == unbuilt && saved.len() < own.len();
        if is_unbuilt && saved.iter().all(|(shape, _)| shape.is_empty()) {
            return Ok(false);
        }
        if saved.len() != own.len() {
            return Err(Error::WeightsMismatch {
                place: format!("optimizer {}", self.class.name),
                reason: format!("{} variables, expected {}", saved.len(), own.len()),
            });
        }
        self.set(saved, |variable| variable.listed)?;
        Ok(true)
    }

    /// Restores the state from a checkpoint, where `find` gives a variable by its key: all of it, also to
    /// one of several optimizers, or to one of a part of a model.
    ///
    /// # Errors
    /// Before any change, if a variable is missing or of another shape.
    pub fn restore<'v>(
        &mut self,
        mut find: impl FnMut(&str) -> Option<SavedVariable<'v>>,
    ) -> Result<()> {
        let own = self.variables().into_iter();
        let saved = own.map(|variable| {
            find(&variable.key).ok_or_else(|| Error::WeightsMismatch {
                place: format!("optimizer variable {}", variable.key),
                reason: "nothing of that name".into(),
            })
        });
        let saved: Vec<_> = saved.collect::<Result<_>>()?;
        self.set(&saved, |_| true)
    }

    /// Sets the variables that are `wanted`, in Keras's order, once all fit.
    fn set(
        &mut self,
        saved: &[SavedVariable<'_>],
        wanted: impl Fn(&OptimizerVariable<'_>) -> bool,
    ) -> Result<()> {
        let all = self.variables();
        // Of those that are wanted what is to be set of the whole; nothing of the others.
        let own = |one: &OptimizerVariable<'_>| (one.part.cloned(), one.held.clone());
        let wanted = all.iter().map(|one| wanted(one).then(|| own(one)));
        let wanted: Vec<_> = wanted.collect();
        let own = all
            .iter()
            .zip(&wanted)
            .filter(|(_, wanted)| wanted.is_some());
        for ((own, _), (shape, value)) in own.zip(saved) {
            if own.whole_shape() != *shape || !value.fits(own) {
                return Err(Error::WeightsMismatch {
                    place: format!("optimizer variable {}", own.key),
                    reason: format!(
                        "{} of shape {shape:?}, expected {} of shape {:?}",
                        value.type_name(),
                        own.value.type_name(),
                        own.whole_shape()
                    ),
                });
            }
        }
        let own = self.values_mut().into_iter().zip(wanted);
        let own = own.filter_map(|(own, wanted)| Some((own, wanted?)));
        for ((own, (part, held)), (_, value)) in own.zip(saved) {
            match (own, *value) {
                (OptimizerValueMut::Int64(own), OptimizerValue::Int64(value)) => *own = value,
                (OptimizerValueMut::Int64(own), OptimizerValue::Int32(value)) => {
                    *own = value.into()
                }
                (OptimizerValueMut::Float32(own), OptimizerValue::Float32(values)) => {
                    let part = part.map(|part| part.take(values));
                    let values = part.as_deref().unwrap_or(values);
                    own.copy_from_slice(held.map_or(values, |held| &values[held]));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl OptimizerVariable<'_> {
    /// The shape of the whole one, of which this may be a part.
    pub fn whole_shape(&self) -> &[i64] {
        self.part.map_or(self.shape, |part| &part.shape)
    }

    /// Elements of all of it, or of the part that it is.
    pub fn len(&self) -> usize {
        let sizes = self.shape.iter().map(|&n| usize::try_from(n).unwrap_or(0));
        sizes.product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl OptimizerValue<'_> {
    /// Whether this can be kept where `own` is, of which it has all elements.
    fn fits(self, own: &OptimizerVariable<'_>) -> bool {
        match (own.value, self) {
            (OptimizerValue::Float32(_), Self::Float32(values)) => {
                let sizes = own.whole_shape().iter();
                let sizes = sizes.map(|&size| usize::try_from(size).unwrap_or(0));
                values.len() == sizes.product::<usize>()
            }
            (OptimizerValue::Int64(_) | OptimizerValue::Int32(_), Self::Float32(_))
            | (OptimizerValue::Float32(_), _) => false,
            (_, Self::Int64(value)) => value >= 0,
            (_, Self::Int32(value)) => value >= 0,
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Int64(_) => "int64",
            Self::Int32(_) => "int32",
            Self::Float32(_) => "float32",
        }
    }
}

fn slot_variable<'a>(variable: &'a Variable, slot: &'a Slot) -> OptimizerVariable<'a> {
    let name = match slot.kind {
        Kind::Named => format!("{}_{}", variable.path.replace('/', "_"), slot.name),
        Kind::Bare | Kind::Placeholder => variable.name.clone(),
    };
    let value = match slot.kind {
        Kind::Placeholder => OptimizerValue::Int32(0),
        Kind::Named | Kind::Bare => OptimizerValue::Float32(&slot.values),
    };
    OptimizerVariable {
        key: format!("{}/{}", variable.path, slot.name),
        name,
        shape: &slot.shape,
        value,
        held: Some(slot.held.clone()),
        part: variable
            .held
            .as_ref()
            .filter(|_| slot.shape == variable.shape),
        listed: true,
    }
}

/// All slots in the order in which Keras creates them.
pub(super) fn slots_mut(states: &mut [State]) -> impl Iterator<Item = &mut Slot> {
    let mut slots: Vec<_> = states.iter_mut().flat_map(State::ranked_mut).collect();
    slots.sort_by_key(|&(rank, _)| rank);
    slots.into_iter().map(|(_, slot)| slot)
}
