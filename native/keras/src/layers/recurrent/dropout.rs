//! Dropout of recurrent cells: one mask for all steps of a sequence, for its inputs and for its
//! states.

use tch::Tensor;

use crate::config::Options;
use crate::context::Context;
use crate::error::Result;
use crate::layers::regularization::dropout_mask;

/// Rates of a cell.
#[derive(Debug)]
pub(super) struct Dropout {
    inputs: f64,
    recurrent: f64,
    /// Masks for each of them: one, or one for each gate.
    masks: i64,
}

impl Dropout {
    /// Reads `dropout` and `recurrent_dropout`, which Keras clips to 0..=1. `gates` have masks of
    /// their own if `apart` or if states are dropped.
    pub(super) fn read(options: &Options<'_>, gates: i64, apart: bool) -> Result<Self> {
        // Masks depend on the run's seed: a layer's own seed would repeat them on every worker.
        options.ignore(&["seed"]);
        let inputs = options.f64("dropout", 0.0)?.clamp(0.0, 1.0);
        let recurrent = options.f64("recurrent_dropout", 0.0)?.clamp(0.0, 1.0);
        // Cells with several gates leave out a rate of 1 (`0.0 < rate < 1.0`).
        let effective = |rate: f64| if gates > 1 && rate == 1.0 { 0.0 } else { rate };
        Ok(Self {
            inputs: effective(inputs),
            recurrent: effective(recurrent),
            masks: if apart || recurrent > 0.0 { gates } else { 1 },
        })
    }

    /// The sequence (`[steps, ...step]`) after dropout of its inputs, if that is all the dropout
    /// there is; `None` where gates or states have masks of their own.
    pub(super) fn dropped(
        &self,
        sequence: &Tensor,
        context: &mut Context<'_>,
    ) -> Result<Option<Tensor>> {
        if context.training && (self.recurrent > 0.0 || (self.inputs > 0.0 && self.masks > 1)) {
            return Ok(None);
        }
        match self.of_inputs(&sequence.size()[1..], context)? {
            Some(factors) => Ok(Some(sequence.f_mul(&factors)?)),
            None => Ok(Some(sequence.shallow_clone())),
        }
    }

    /// Factors for the inputs of every step, `[1 or gates, ...step]`.
    pub(super) fn of_inputs(
        &self,
        step: &[i64],
        context: &mut Context<'_>,
    ) -> Result<Option<Tensor>> {
        self.factors(self.inputs, step, context)
    }

    /// Factors for the state at every step, `[1 or gates, ...state]`.
    pub(super) fn of_states(
        &self,
        state: &[i64],
        context: &mut Context<'_>,
    ) -> Result<Option<Tensor>> {
        self.factors(self.recurrent, state, context)
    }

    fn factors(
        &self,
        rate: f64,
        shape: &[i64],
        context: &mut Context<'_>,
    ) -> Result<Option<Tensor>> {
        if !context.training || rate == 0.0 {
            return Ok(None);
        }
        let shape = [&[self.masks], shape].concat();
        let mask = dropout_mask(context.rng(), rate, &shape)?;
        let mask = mask.f_to_device(context.device())?;
        Ok(Some(mask.f_to_kind(context.compute())?))
    }
}
