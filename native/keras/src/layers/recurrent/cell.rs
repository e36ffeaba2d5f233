//! What a recurrent cell is, and a cell as a layer: one step from given states.

use std::fmt::Debug;

use tch::{Kind, Tensor};

use super::steps::{Run, Wanted};
use super::{conv_lstm, gru, lstm, simple, stacked};
use crate::activations::Activation;
use crate::arguments::{Args, Tree};
use crate::config::Options;
use crate::context::Context;
use crate::dtype::{DType, Policy};
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// A recurrent cell.
pub(super) trait Cell: Debug + Send {
    /// Why inputs of one step of this spec (without the time) do not fit, if they do not.
    fn check(&self, step: &Spec) -> std::result::Result<(), String>;

    /// The shapes of the states, without the batch.
    fn states(&self) -> Vec<Vec<i64>>;

    /// The shape of a step's output, without the batch.
    fn output(&self) -> Vec<i64> {
        self.states().swap_remove(0)
    }

    /// Runs all steps of `sequence` (`[steps, batch, ...]`, one step at least) from the states
    /// `initial`. Both are of the dtype that the cell computes in.
    fn run(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run>;
}

/// A cell with the dtype it computes in.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) cell: Box<dyn Cell>,
    policy: Policy,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let Some(Tree::Leaf(step)) = scope.args.get(0, "inputs") else {
        return Err(scope.mismatch("takes the inputs of one step as its first argument"));
    };
    Ok(Built::layer(Unit::read(scope, step)?))
}

impl Unit {
    /// Reads the cell of a cell's or a layer's class from its options; `step` is the spec of its
    /// inputs.
    pub(super) fn read(scope: &mut Scope<'_>, step: &Spec) -> Result<Self> {
        let cell: Box<dyn Cell> = match scope.class {
            "SimpleRNN" | "SimpleRNNCell" => Box::new(simple::SimpleCell::read(scope, step)?),
            "GRU" | "GRUCell" => Box::new(gru::GruCell::read(scope, step)?),
            "StackedRNNCells" => Box::new(stacked::StackedCells::read(scope, step)?),
            "LSTM" | "LSTMCell" => Box::new(lstm::LstmCell::read(scope, step)?),
            _ => Box::new(conv_lstm::ConvLstmCell::read(scope, step)?),
        };
        cell.check(step).map_err(|reason| scope.mismatch(reason))?;
        Ok(Self {
            cell,
            policy: scope.policy,
        })
    }

    /// Builds the cell that `scope` holds under `attribute` in serialized form.
    pub(super) fn child(
        scope: &mut Scope<'_>,
        attribute: &str,
        serialized: &serde_json::Value,
        step: &Spec,
    ) -> Result<Self> {
        let built = scope.child(attribute, serialized, &Args::one(step.clone()))?;
        let layer: Box<dyn std::any::Any> = built.layer;
        let Ok(unit) = layer.downcast::<Self>() else {
            let class = &serialized["class_name"];
            return Err(Error::Unsupported {
                place: scope.options.place().to_owned(),
                what: format!("the class {class} as a cell"),
                supported: "SimpleRNNCell, GRUCell, LSTMCell, StackedRNNCells".to_owned(),
            });
        };
        Ok(Self {
            policy: built.policy,
            ..*unit
        })
    }

    /// [`Cell::run`] in the cell's own dtype.
    pub(super) fn run(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run> {
        context.under(self.policy, |context| {
            let kind = context.compute();
            let sequence = sequence.f_to_kind(kind)?;
            let initial = initial.iter().map(|state| state.f_to_kind(kind));
            let initial = initial.collect::<std::result::Result<Vec<_>, _>>()?;
            self.cell.run(&sequence, &initial, wanted, context)
        })
    }

    /// States of zeros for `batch` rows.
    pub(super) fn zeros(&self, batch: i64, like: &Tensor) -> Result<Vec<Tensor>> {
        let kind = self.policy.compute.kind().unwrap_or(Kind::Float);
        let shapes = self.cell.states().into_iter();
        let zeros = shapes.map(|shape| {
            let shape = [&[batch], shape.as_slice()].concat();
            Ok(Tensor::f_zeros(shape, (kind, like.device()))?)
        });
        zeros.collect()
    }

    /// Why the states given for a batch do not fit, if they do not.
    pub(super) fn check_states(&self, given: &[&Spec]) -> std::result::Result<(), String> {
        let shapes = self.cell.states();
        let fits = |(spec, shape): (&&Spec, &Vec<i64>)| {
            let sizes = spec.dims.iter().skip(1);
            spec.rank() == shape.len() + 1
                && sizes
                    .zip(shape)
                    .all(|(size, wanted)| size.is_none_or(|size| size == *wanted))
        };
        if given.len() == shapes.len() && given.iter().zip(&shapes).all(fits) {
            return Ok(());
        }
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        Err(format!(
            "has states of the shapes {shapes:?} (without the batch), got {}",
            given.join(", ")
        ))
    }

    /// The specs of a step's or a sequence's states.
    pub(super) fn state_specs(&self, batch: Option<i64>, dtype: DType) -> Vec<Spec> {
        let shapes = self.cell.states().into_iter();
        shapes
            .map(|shape| with_batch(batch, None, &shape, dtype))
            .collect()
    }
}

/// `[batch, (steps,) ...shape]`.
pub(super) fn with_batch(
    batch: Option<i64>,
    steps: Option<Option<i64>>,
    shape: &[i64],
    dtype: DType,
) -> Spec {
    let shape = shape.iter().copied().map(Some);
    let dims: Vec<_> = std::iter::once(batch).chain(steps).chain(shape).collect();
    Spec::new(dims, dtype)
}

/// A cell alone: `(inputs, states)` of one step to the output and the new states. Keras nests the
/// states; a call's outputs are known by their places in the flat list.
impl Layer for Unit {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let step = args.only()?;
        self.cell.check(step)?;
        let states = args.get(1, "states").map(Tree::leaves).unwrap_or_default();
        self.check_states(&states)?;
        let dtype = self.policy.compute;
        let output = with_batch(step.dims[0], None, &self.cell.output(), dtype);
        let states = self.state_specs(step.dims[0], dtype);
        let all = std::iter::once(output).chain(states);
        Ok(Tree::List(all.map(Tree::Leaf).collect()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let sequence = args.only().map_err(Error::values)?.y()?.f_unsqueeze(0)?;
        let states = args.get(1, "states").map(Tree::leaves).unwrap_or_default();
        let states = states.iter().map(|state| Ok(state.y()?.shallow_clone()));
        let states = states.collect::<Result<Vec<_>>>()?;
        let wanted = Wanted {
            outputs: false,
            states: true,
            ends: None,
        };
        let run = self.run(&sequence, &states, &wanted, context)?;
        let all = std::iter::once(run.last).chain(run.states);
        Ok(Tree::List(
            all.map(|tensor| Tree::Leaf(tensor.into())).collect(),
        ))
    }
}

/// Option `key`: absent is Keras's default, null is no activation.
pub(super) fn activation(
    options: &Options<'_>,
    key: &str,
    default: Activation,
) -> Result<Activation> {
    if options.value(key).is_none() && !options.is_null(key) {
        return Ok(default);
    }
    Activation::read(options, key)
}
