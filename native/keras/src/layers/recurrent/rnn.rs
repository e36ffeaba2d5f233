//! `SimpleRNN`, `GRU`, `LSTM`, `ConvLSTM1D` to `3D` and `RNN`: a cell over the steps of a sequence
//! `[batch, steps, ...]`, first to last or, with `go_backwards`, last to first.

use serde_json::json;
use tch::{Kind, Tensor};

use super::cell::{Unit, with_batch};
use super::packing::Packing;
use super::steps::{Run, Wanted};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Rnn {
    cell: Unit,
    return_sequences: bool,
    return_state: bool,
    go_backwards: bool,
    zero_output_for_mask: bool,
    dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    // How the loop is made makes no difference here.
    options.ignore(&["unroll", "use_cudnn"]);
    options.require("time_major", &json!(false))?;
    options.require_null("num_constants")?;
    if options.bool("stateful", false)? {
        return Err(Error::Unsupported {
            place: options.place().to_owned(),
            what: "stateful = true".to_owned(),
            supported: "false: rows come in no fixed order and in parts on several executors, so \
                        that no batch goes on where the one before it ended; give states as \
                        initial_state, or make the sequences longer"
                .to_owned(),
        });
    }
    let call = Call::new(scope.args).map_err(|reason| scope.mismatch(reason))?;
    let step = step_of(call.sequence).map_err(|reason| scope.mismatch(reason))?;
    let own_cell = match scope.class {
        "RNN" => None,
        "SimpleRNN" => Some("simple_rnn_cell"),
        "GRU" => Some("gru_cell"),
        "LSTM" => Some("lstm_cell"),
        _ => Some("conv_lstm_cell"),
    };
    let cell = match own_cell {
        Some(name) => scope.part("cell", name, |scope| Unit::read(scope, &step))?,
        None => {
            let cell = options.value("cell");
            let cell = cell.ok_or_else(|| options.invalid("cell is missing"))?;
            Unit::child(scope, "cell", cell, &step)?
        }
    };
    Ok(Built::layer(Rnn {
        cell,
        return_sequences: options.bool("return_sequences", false)?,
        return_state: options.bool("return_state", false)?,
        go_backwards: options.bool("go_backwards", false)?,
        zero_output_for_mask: options.bool("zero_output_for_mask", false)?,
        dtype: scope.policy.compute,
    }))
}

/// The spec of one step of a sequence.
pub(super) fn step_of(sequence: &Spec) -> std::result::Result<Spec, String> {
    if sequence.rank() < 3 {
        return Err(format!(
            "needs inputs of shape (batch, steps, ...), got {sequence}"
        ));
    }
    let dims = [&sequence.dims[..1], &sequence.dims[2..]].concat();
    Ok(sequence.with_dims(dims))
}

/// The arguments of a call: `(sequences, initial_state=None, mask=None, training=False)`.
pub(super) struct Call<'a, T> {
    pub(super) sequence: &'a T,
    /// None if they were not given.
    pub(super) states: Vec<&'a T>,
    /// The argument `mask`.
    pub(super) mask: Option<&'a T>,
    /// Whether the sequence's own mask counts. Keras 3 passes it on only where the sequence is the
    /// only tensor among the arguments (`Layer.__call__`, step 6); Keras 2 always did.
    pub(super) heeds_mask: bool,
}

impl<'a, T> Call<'a, T> {
    pub(super) fn new(args: &'a Args<T>) -> std::result::Result<Self, String> {
        let inputs = args.inputs();
        let Some((sequence, listed)) = inputs.split_first() else {
            return Err("is called without a sequence".to_owned());
        };
        let states = args
            .get(1, "initial_state")
            .map(Tree::leaves)
            .unwrap_or_default();
        // Keras 2 wrote `[sequence, *states]` as the first argument.
        let heeds_mask = states.is_empty();
        let states = if listed.is_empty() {
            states
        } else {
            listed.to_vec()
        };
        Ok(Self {
            sequence,
            states,
            mask: args.value(2, "mask"),
            heeds_mask,
        })
    }
}

impl Call<'_, Value> {
    /// The mask that hides steps, and the one of the outputs.
    pub(super) fn masks(&self) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let own = self.sequence.mask();
        let given = self.mask.map(Value::y).transpose()?;
        let hiding = given.or(own.filter(|_| self.heeds_mask));
        let share = |mask: Option<&Tensor>| mask.map(Tensor::shallow_clone);
        Ok((share(hiding), share(given.or(own))))
    }
}

impl Layer for Rnn {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let call = Call::new(args)?;
        let step = step_of(call.sequence)?;
        self.cell.cell.check(&step)?;
        if !call.states.is_empty() {
            self.cell.check_states(&call.states)?;
        }
        let (batch, steps) = (call.sequence.dims[0], call.sequence.dims[1]);
        let steps = self.return_sequences.then_some(steps);
        let output = with_batch(batch, steps, &self.cell.cell.output(), self.dtype);
        if !self.return_state {
            return Ok(Tree::Leaf(output));
        }
        let states = self.cell.state_specs(batch, self.dtype);
        let all = std::iter::once(output).chain(states);
        Ok(Tree::List(all.map(Tree::Leaf).collect()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let call = Call::new(args).map_err(Error::values)?;
        let (hiding, mask) = call.masks()?;
        let sequence = self.ordered(&call.sequence.y()?.f_transpose(0, 1)?)?;
        let size = sequence.size();
        if size[0] == 0 {
            return Err(Error::values("got sequences without a step"));
        }
        let packing = match hiding {
            Some(mask) => {
                let mask = self.ordered(&steps_first(&mask, &size)?)?;
                Packing::new(&mask, self.zero_output_for_mask)?
            }
            None => None,
        };
        let initial = if call.states.is_empty() {
            self.cell.zeros(size[1], &sequence)?
        } else {
            let given = call
                .states
                .iter()
                .map(|state| Ok(state.y()?.shallow_clone()));
            given.collect::<Result<_>>()?
        };
        let wanted = Wanted {
            outputs: self.return_sequences,
            states: self.return_state,
            ends: packing.as_ref().map(|packing| &packing.ends),
        };
        let run = match &packing {
            None => self.cell.run(&sequence, &initial, &wanted, context)?,
            Some(packing) => {
                let packed = packing.pack(&sequence)?;
                let run = self.cell.run(&packed, &initial, &wanted, context)?;
                packing.unpack(run, &initial)?
            }
        };
        self.results(run, mask, context.compute())
    }
}

impl Rnn {
    /// Steps in the order in which they run.
    fn ordered(&self, steps: &Tensor) -> Result<Tensor> {
        if self.go_backwards {
            return Ok(steps.f_flip([0])?);
        }
        Ok(steps.shallow_clone())
    }

    fn results(&self, run: Run, mask: Option<Tensor>, kind: Kind) -> Result<Tree<Value>> {
        let output = match run.outputs {
            Some(outputs) => {
                let outputs = outputs.f_transpose(0, 1)?.f_to_kind(kind)?;
                Value::new(outputs).with_mask(mask)
            }
            None => Value::new(run.last.f_to_kind(kind)?),
        };
        if !self.return_state {
            return Ok(Tree::Leaf(output));
        }
        let states = run
            .states
            .iter()
            .map(|state| Ok(Value::new(state.f_to_kind(kind)?)));
        let all = std::iter::once(Ok(output)).chain(states);
        let all = all.map(|value| value.map(Tree::Leaf));
        Ok(Tree::List(all.collect::<Result<_>>()?))
    }
}

/// A mask `[batch, steps]` or `[batch, steps, 1]` as bool `[steps, batch]`; `size` is that of the
/// sequence, steps first.
fn steps_first(mask: &Tensor, size: &[i64]) -> Result<Tensor> {
    let flat = match mask.size().as_slice() {
        [_, _, 1] => mask.f_squeeze_dim(2)?,
        _ => mask.shallow_clone(),
    };
    if flat.size() != [size[1], size[0]] {
        return Err(Error::values(format!(
            "got a mask of shape {:?}; it must be [batch, steps], here [{}, {}]",
            mask.size(),
            size[1],
            size[0]
        )));
    }
    Ok(flat.f_transpose(0, 1)?.f_to_kind(Kind::Bool)?)
}
