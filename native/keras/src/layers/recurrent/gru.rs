//! `GRUCell`, gates in Keras's order z (update), r (reset), h (candidate):
//!
//! ```text
//! z, r = recurrent_activation(x @ Kzr + h @ Rzr + bzr)
//! candidate = activation(x @ Kh + r * (h @ Rh + b'h) + bh)    with `reset_after`
//! candidate = activation(x @ Kh + (r * h) @ Rh + bh)          without
//! h' = z * h + (1 - z) * candidate
//! ```
//!
//! With `reset_after` the bias is `[2, 3 * units]`: of the inputs, and of the state. libtorch's own
//! `gru` runs the same steps on the CPU and is no faster.

use tch::Tensor;

use super::cell::{Cell, activation};
use super::gates::{Gates, activated, exactly};
use super::steps::{self, Run, Wanted};
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::scope::Scope;
use crate::spec::Spec;

#[derive(Debug)]
pub(super) struct GruCell {
    gates: Gates,
    activation: Activation,
    recurrent_activation: Activation,
    reset_after: bool,
}

impl GruCell {
    pub(super) fn read(scope: &mut Scope<'_>, step: &Spec) -> Result<Self> {
        let options = scope.options;
        let reset_after = options.bool("reset_after", true)?;
        Ok(Self {
            gates: Gates::read(scope, step, 3, reset_after.then_some(2))?,
            activation: activation(options, "activation", Activation::Tanh)?,
            recurrent_activation: activation(options, "recurrent_activation", Activation::Sigmoid)?,
            reset_after,
        })
    }

    /// The bias of the inputs' product, and that of the candidate's part of the state's product.
    /// The state's biases of z and r are added to the inputs', once for all steps.
    fn biases(&self, context: &Context<'_>) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(bias) = context.optional(self.gates.bias)? else {
            return Ok((None, None));
        };
        if !self.reset_after {
            return Ok((Some(bias), None));
        }
        let units = self.gates.units;
        let [inputs, state] = exactly(bias.f_unbind(0)?)?;
        let [early, candidate] = exactly(state.f_split_with_sizes([2 * units, units], 0)?)?;
        let early = early.f_constant_pad_nd([0, units])?;
        Ok((Some(inputs.f_add(&early)?), Some(candidate)))
    }
}

impl Cell for GruCell {
    fn check(&self, step: &Spec) -> std::result::Result<(), String> {
        self.gates.check(step)
    }

    fn states(&self) -> Vec<Vec<i64>> {
        vec![self.gates.state()]
    }

    fn run(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run> {
        let units = self.gates.units;
        let (bias, state_bias) = self.biases(context)?;
        let inputs = self.gates.project(sequence, bias.as_ref(), context)?;
        let [early, late] = exactly(inputs.f_split_with_sizes([2 * units, units], -1)?)?;
        let (early, late) = (early.f_unbind(0)?, late.f_unbind(0)?);
        let recurrence = self.gates.recurrence(sequence.size()[1], context)?;
        let (both, last) = (recurrence.gates(0, 2)?, recurrence.gates(2, 1)?);
        steps::run(early.len(), initial, wanted, |at, states| {
            let h = &states[0];
            let sum = both.add(h, Some(&early[at]))?;
            let [z, r] = activated(self.recurrent_activation, &sum)?;
            let sum = if self.reset_after {
                late[at].f_addcmul(&r, &last.add(h, state_bias.as_ref())?)?
            } else {
                last.add(&r.f_mul(h)?, Some(&late[at]))?
            };
            let candidate = self.activation.apply(&sum)?;
            Ok(vec![candidate.f_lerp_tensor(h, &z)?])
        })
    }
}
