//! `LSTMCell`, gates in Keras's order i (input), f (forget), c (candidate), o (output):
//!
//! ```text
//! i, f, o = recurrent_activation(x @ K + h @ R + b)
//! c' = f * c + i * activation(x @ Kc + h @ Rc + bc)
//! h' = o * activation(c')
//! ```
//!
//! libtorch's `lstm` takes the gates in the same order. It fuses all steps on the CPU (oneDNN) and
//! is used where its options are ours; it gives `c'` of the last step only.

use tch::{Kind, Tensor};

use super::cell::{Cell, activation};
use super::gates::{Gates, activated, exactly};
use super::steps::{self, Run, Wanted, at_ends};
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::scope::Scope;
use crate::spec::Spec;

#[derive(Debug)]
pub(super) struct LstmCell {
    gates: Gates,
    activations: Activations,
}

/// The activations of an LSTM.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activations {
    pub(super) activation: Activation,
    pub(super) recurrent: Activation,
}

impl LstmCell {
    pub(super) fn read(scope: &mut Scope<'_>, step: &Spec) -> Result<Self> {
        let gates = Gates::read(scope, step, 4, None)?;
        if scope.options.bool("unit_forget_bias", true)?
            && let Some(bias) = gates.bias
        {
            scope.reinitialize(bias, Initializer::with_unit_forget);
        }
        Ok(Self {
            gates,
            activations: Activations::read(scope)?,
        })
    }

    /// Whether libtorch's own `lstm` computes what is wanted.
    fn is_fused(&self, sequence: &Tensor, wanted: &Wanted<'_>) -> Result<bool> {
        let Activations {
            activation,
            recurrent,
        } = self.activations;
        Ok(activation == Activation::Tanh
            && recurrent == Activation::Sigmoid
            && sequence.f_kind()? == Kind::Float
            && sequence.numel() > 0
            && !(wanted.states && wanted.ends.is_some()))
    }

    /// All steps by libtorch's `lstm`.
    fn fused(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run> {
        let initial = initial.iter().map(|state| state.f_unsqueeze(0));
        let initial = initial.collect::<std::result::Result<Vec<_>, _>>()?;
        let mut parameters = vec![
            context.variable(self.gates.kernel)?.f_tr()?,
            context.variable(self.gates.recurrent)?.f_tr()?,
        ];
        let bias = context.optional(self.gates.bias)?;
        if let Some(bias) = &bias {
            // libtorch has a second bias, that of the state.
            parameters.extend([bias.f_zeros_like()?, bias.shallow_clone()]);
        }
        let mut operands = [sequence].into_iter().chain(&initial).chain(&parameters);
        let learns = operands.any(Tensor::requires_grad);
        let (outputs, h, c) = sequence.f_lstm(
            &initial,
            &parameters,
            bias.is_some(),
            1,
            0.0,
            learns,
            false,
            false,
        )?;
        let last = match wanted.ends {
            Some(ends) => at_ends(&outputs, ends)?,
            None => h.f_squeeze_dim(0)?,
        };
        let states = if wanted.states {
            vec![last.shallow_clone(), c.f_squeeze_dim(0)?]
        } else {
            Vec::new()
        };
        Ok(Run {
            outputs: wanted.outputs.then_some(outputs),
            last,
            states,
        })
    }
}

impl Cell for LstmCell {
    fn check(&self, step: &Spec) -> std::result::Result<(), String> {
        self.gates.check(step)
    }

    fn states(&self) -> Vec<Vec<i64>> {
        vec![self.gates.state(), self.gates.state()]
    }

    fn run(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run> {
        if self.is_fused(sequence, wanted)?
            && let Some(sequence) = self.gates.dropout.dropped(sequence, context)?
        {
            return self.fused(&sequence, initial, wanted, context);
        }
        let bias = context.optional(self.gates.bias)?;
        let inputs = self
            .gates
            .project(sequence, bias.as_ref(), context)?
            .f_unbind(0)?;
        let recurrence = self.gates.recurrence(sequence.size()[1], context)?;
        steps::run(inputs.len(), initial, wanted, |at, states| {
            let z = recurrence.add(&states[0], Some(&inputs[at]))?;
            self.activations.advance(&z, &states[1])
        })
    }
}

impl Activations {
    pub(super) fn read(scope: &Scope<'_>) -> Result<Self> {
        let options = scope.options;
        Ok(Self {
            activation: activation(options, "activation", Activation::Tanh)?,
            recurrent: activation(options, "recurrent_activation", Activation::Sigmoid)?,
        })
    }

    /// The states after a step, `[h', c']`, from the sums `z` of its four gates along axis 1.
    pub(super) fn advance(&self, z: &Tensor, c: &Tensor) -> Result<Vec<Tensor>> {
        let units = c.size()[1];
        let [early, candidate, o] = exactly(z.f_split_with_sizes([2 * units, units, units], 1)?)?;
        let [i, f] = activated(self.recurrent, &early)?;
        let candidate = self.activation.apply(&candidate)?;
        let o = self.recurrent.apply(&o)?;
        let c = f.f_mul(c)?.f_addcmul(&i, &candidate)?;
        let h = o.f_mul(&self.activation.apply(&c)?)?;
        Ok(vec![h, c])
    }
}
