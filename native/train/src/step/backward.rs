//! From the losses of a step to new weights: gradients, their sums over the ranks, the update.

use super::state::Sharded;
use super::{Forward, Trainer, f64_to_f32};
use crate::buckets::Leaving;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::ranks::Ranks;
use crate::share::Rest;
use crate::times::Stopwatch;
use flambeau_keras::{Gradient, IndexedSlices, Pass};
use tch::{Kind, Tensor};

impl Trainer {
    /// Fills the share with this rank's gradients and moving statistics, and adds up those of all
    /// ranks, at the same time where that pays.
    pub(super) fn backward(
        &mut self,
        forward: Option<&Forward>,
        pass: &Pass,
        exchange: &Exchange,
        local: f64,
        stopwatch: &mut Stopwatch,
    ) -> Result<(), Error> {
        let loss = forward.map(|forward| self.scaled_loss(forward, exchange, local));
        let loss = loss.transpose()?;
        let ranks = self.communicator.world_size();
        let rows = f64_to_f32(local);
        if ranks > 1 {
            let (model, limit) = (&self.model, self.optimizer.needs().limit);
            let make = |leaving: &mut Leaving<'_>, slices: &mut [IndexedSlices]| {
                slices.iter_mut().for_each(|slices| slices.set_limit(limit));
                let Some(loss) = &loss else {
                    return Ok(Rest::none());
                };
                let mut take = |variable, gradient: Gradient<'_>| {
                    leaving.take(variable, |out| gradient.write(out))
                };
                let reached = model.gradients_in_turn(pass, loss, slices, &mut take)?;
                Rest::of(model, &reached, rows)
            };
            let communicator = &mut self.communicator;
            let looked_up = self.share.looked_up(model, pass)?;
            let made = self
                .share
                .sum_while_made(communicator, self.wire, &looked_up, make)?;
            if let Some(made) = made {
                stopwatch.split_at(made, &mut self.times.backward);
                return Ok(());
            }
        }
        self.own_gradients(loss.as_ref(), pass, rows)?;
        stopwatch.split(&mut self.times.backward);
        if ranks > 1 {
            self.share.sum(&mut self.communicator, self.wire)?;
        }
        Ok(())
    }

    /// Fills the share with this rank's gradients and moving statistics.
    pub(super) fn own_gradients(
        &mut self,
        loss: Option<&Tensor>,
        pass: &Pass,
        rows: f32,
    ) -> Result<(), Error> {
        let mut replicas = Ranks(&mut self.communicator);
        if let Some(loss) = loss {
            let needs = self.optimizer.needs();
            let (gradients, slices) = self.share.gradients_mut();
            slices
                .iter_mut()
                .for_each(|slices| slices.set_limit(needs.limit));
            let model = &self.model;
            let reached = model.gradients_over(&mut replicas, pass, loss, gradients, slices)?;
            self.share.complete(model, &reached, rows)?;
        } else {
            self.share.clear();
            pass.skip(&mut replicas)?;
        }
        Ok(())
    }

    /// This rank's part of the loss of all ranks' rows, times what Keras's `scale_loss` multiplies
    /// it by; the optimizer divides by that again.
    pub(super) fn scaled_loss(
        &self,
        forward: &Forward,
        exchange: &Exchange,
        local: f64,
    ) -> Result<Tensor, Error> {
        let slopes = self.objective.loss_values(exchange.losses()).slopes;
        self.loss_of(forward, &slopes, local / exchange.rows())
    }

    /// As [`scaled_loss`](Self::scaled_loss), given what each loss is multiplied by, and what those that
    /// layers add.
    pub(super) fn loss_of(
        &self,
        Forward { loss_sums, added }: &Forward,
        slopes: &[f64],
        share: f64,
    ) -> Result<Tensor, Error> {
        let mut loss = match loss_sums {
            Some(sums) => sums
                .f_mul(&Tensor::f_from_slice(slopes)?.f_to_device(sums.device())?)?
                .f_sum(Kind::Double)?,
            None => Tensor::from(0.0),
        };
        if let Some(added) = added {
            loss = loss.f_add(&added.f_to_kind(Kind::Double)?.f_mul_scalar(share)?)?;
        }
        Ok(loss.f_mul_scalar(f64::from(self.optimizer.loss_scale()))?)
    }

    /// Applies the sum of the ranks' shares: optimizer step and moving statistics.
    pub(super) fn update(&mut self, rows: f64) -> Result<(), Error> {
        self.apply()?;
        if self.communicator.world_size() > 1 {
            self.share.store_moving(&mut self.model, f64_to_f32(rows))?;
        }
        Ok(())
    }

    /// Applies the share's gradients.
    pub(super) fn apply(&mut self) -> Result<(), Error> {
        let reached = self.share.reached();
        if reached.contains(&true) {
            let (gradients, slices) = self.share.gradients_mut();
            let (optimizer, communicator) = (&mut self.optimizer, &mut self.communicator);
            let taken = self.model.trainable_mut().change(|params| {
                let Some(Sharded { parts, .. }) = &self.sharded else {
                    return Ok(optimizer.apply(params, gradients, slices, &reached)?);
                };
                let mut ranks = Ranks(communicator);
                let taken =
                    optimizer.apply_over(&mut ranks, params, gradients, slices, &reached)?;
                parts.gather(communicator, params, slices)?;
                Ok::<_, Error>(taken)
            });
            if taken?? {
                self.model.constrain()?;
            }
        }
        Ok(())
    }
}
