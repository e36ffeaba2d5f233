//! A step of a worker whose weights are kept and updated elsewhere: it ends with the gradients.

use super::{Position, Totals, Trainer, f64_to_f32};
use crate::batch::Batch;
use crate::error::Error;
use crate::exchange::Exchange;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Gradient, IndexedSlices, Model, Pass, Rows};
use std::sync::Arc;
use tch::Tensor;

impl Trainer {
    /// Draws what is random in a pass as worker number `worker` of several, and fetches what it looks up
    /// from `rows`.
    pub(crate) fn train_as(&mut self, worker: usize, rows: Arc<dyn Rows>) {
        self.replica = Some(worker as u64);
        self.rows = Some(rows);
    }

    /// Forward and backward pass over one batch; its sums. The gradients stay here, and moving
    /// statistics have come on.
    ///
    /// # Errors
    /// [`Error::Numeric`] if the loss is not finite, [`Error::Keras`].
    pub(crate) fn compute(&mut self, batch: &Batch, at: Position) -> Result<Totals, Error> {
        let mut exchange = Exchange::zeros(&self.objective);
        let (forward, pass) = self.forward(batch, at, &mut exchange)?;
        let totals = self.totals(&exchange);
        let loss = totals.losses[0] / totals.rows;
        if !loss.is_finite() {
            return Err(Error::Numeric {
                loss,
                epoch: at.epoch,
                step: at.step,
            });
        }
        let rows = batch.rows as f64;
        let loss = self.scaled_loss(&forward, &exchange, rows)?;
        self.gradients_by_row(&loss, &pass, f64_to_f32(rows))?;
        Ok(totals)
    }

    /// Fills the share with gradients. Of a matrix whose rows are looked up only those are looked at that
    /// this batch and the one before looked up.
    fn gradients_by_row(&mut self, loss: &Tensor, pass: &Pass, rows: f32) -> Result<(), Error> {
        let limit = self.optimizer.needs().limit;
        self.share.clear_slices();
        let (gradients, slices) = self.share.gradients_mut();
        slices.iter_mut().for_each(|slices| slices.set_limit(limit));
        let spans = self.model.trainable().spans();
        let mut take = |variable: usize, gradient: Gradient<'_>| -> Result<(), Error> {
            Ok(gradient.write(&mut gradients[spans[variable].clone()])?)
        };
        let reached = self
            .model
            .gradients_in_turn(pass, loss, slices, &mut take)?;
        self.share.complete(&self.model, &reached, rows)
    }

    /// What the last [`compute`](Self::compute) left: which variables the loss reached, all gradients,
    /// and what is known of slices.
    pub(crate) fn computed(&mut self) -> (Vec<bool>, &[f32], &[IndexedSlices]) {
        let reached = self.share.reached();
        let (gradients, slices) = self.share.gradients_mut();
        (reached, gradients, slices)
    }

    /// The model and its optimizer, to give them values from elsewhere.
    pub(crate) fn parts_mut(&mut self) -> (&mut Model, &mut Optimizer) {
        (&mut self.model, &mut self.optimizer)
    }
}
