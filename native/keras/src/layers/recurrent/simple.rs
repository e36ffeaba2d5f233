//! `SimpleRNNCell`: `h' = activation(x @ kernel + h @ recurrent_kernel + bias)`.

use tch::Tensor;

use super::cell::{Cell, activation};
use super::gates::Gates;
use super::steps::{self, Run, Wanted};
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::scope::Scope;
use crate::spec::Spec;

#[derive(Debug)]
pub(super) struct SimpleCell {
    gates: Gates,
    activation: Activation,
}

impl SimpleCell {
    pub(super) fn read(scope: &mut Scope<'_>, step: &Spec) -> Result<Self> {
        Ok(Self {
            gates: Gates::read(scope, step, 1, None)?,
            activation: activation(scope.options, "activation", Activation::Tanh)?,
        })
    }
}

impl Cell for SimpleCell {
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
        let bias = context.optional(self.gates.bias)?;
        let inputs = self
            .gates
            .project(sequence, bias.as_ref(), context)?
            .f_unbind(0)?;
        let recurrence = self.gates.recurrence(sequence.size()[1], context)?;
        steps::run(inputs.len(), initial, wanted, |at, states| {
            let sum = recurrence.add(&states[0], Some(&inputs[at]))?;
            Ok(vec![self.activation.apply(&sum)?])
        })
    }
}
