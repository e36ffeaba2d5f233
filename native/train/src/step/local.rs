//! Local SGD: every rank updates weights of its own, and the ranks meet every few steps to average
//! them.
//!
//! ```text
//!   rank 0   step  step  step  step ┐             one exchange of the weights and of what the
//!   rank 1   step  step  step  step ┴ average     optimizer keeps, instead of one of gradients a step
//! ```
//! A rank that runs dry waits for the others at the next meeting. A rank counts by the rows that it has
//! trained on since the last one: one that had none brings nothing. What the optimizer keeps of each weight (momenta) is averaged like the weight, so
//! that all ranks are the same after a meeting and a checkpoint of one is that of all. Its counts
//! become the largest that any rank has, and single numbers (a dynamic loss scale) those of rank 0.
//!
//! The loss of a step is that of a rank's own rows; what is told is the mean over rows of those since
//! the last meeting. A loss that is no number is found out there, too.

use super::{Position, Stepped, Totals, Trainer, f64_to_f32};
use crate::batch::Batch;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::share::moving_spans;
use crate::times::Stopwatch;
use flambeau_collective::Communicator;
use flambeau_keras::IndexedSlices;
use flambeau_keras::optimizers::OptimizerValueMut;

/// What a rank has come to since the ranks met last.
#[derive(Debug)]
pub(super) struct Apart {
    totals: Totals,
    steps: u64,
    /// Whether this rank still has what all had after that meeting. One without rows loses it, too,
    /// where the ranks do not come to an end of the next one.
    is_in_step: bool,
}

impl Apart {
    fn just_met(nothing: Totals) -> Self {
        Self {
            totals: nothing,
            steps: 0,
            is_in_step: true,
        }
    }
}

impl Trainer {
    /// Has ranks update weights of their own, until they meet; all ranks do the same.
    ///
    /// # Errors
    /// [`Error::Config`] for a model whose passes exchange sums.
    pub fn train_apart(&mut self) -> Result<(), Error> {
        if self.sums_over_ranks() {
            return Err(Error::Config(
                "localSteps is above 1, but a synchronized BatchNormalization exchanges sums in every \
                 step: set synchronized to False, or localSteps to 1"
                    .to_owned(),
            ));
        }
        self.apart = Some(Apart::just_met(self.no_totals()));
        Ok(())
    }

    /// Whether all ranks have the same weights and state as this one.
    pub fn is_in_step(&self) -> bool {
        self.apart.as_ref().is_none_or(|apart| apart.is_in_step)
    }

    /// Steps that this rank has made since the ranks met last.
    pub fn steps_apart(&self) -> u64 {
        self.apart.as_ref().map_or(0, |apart| apart.steps)
    }

    /// One step of this rank's own; with `meet`, or once it has run dry, it meets the others.
    pub(super) fn step_apart(
        &mut self,
        batch: Option<&Batch>,
        more: bool,
        at: Position,
        meet: bool,
    ) -> Result<Option<Stepped>, Error> {
        let mut stopwatch = Stopwatch::start();
        let mut own = self.no_totals();
        if let Some(apart) = &mut self.apart {
            apart.is_in_step = false;
        }
        if let Some(batch) = batch {
            let mut exchange = Exchange::zeros(&self.objective);
            let (forward, pass) = self.forward(batch, at, &mut exchange)?;
            stopwatch.split(&mut self.times.forward);
            own = self.totals(&exchange);
            let rows = batch.rows as f64;
            let loss = self.scaled_loss(&forward, &exchange, rows)?;
            self.own_gradients(Some(&loss), &pass, f64_to_f32(rows))?;
            stopwatch.split(&mut self.times.backward);
            self.apply()?;
            stopwatch.split(&mut self.times.update);
        }
        if let Some(apart) = &mut self.apart {
            apart.totals.add(&own);
            apart.steps += u64::from(batch.is_some());
        }
        if more && !meet {
            return Ok(None);
        }
        let stepped = self.meet(more, at)?;
        stopwatch.split(&mut self.times.exchange);
        Ok(Some(stepped))
    }

    /// Averages what the ranks have come to.
    fn meet(&mut self, more: bool, at: Position) -> Result<Stepped, Error> {
        let nothing = Apart::just_met(self.no_totals());
        let Apart {
            totals: own, steps, ..
        } = self.apart.as_ref().unwrap_or(&nothing);
        let (rows, before) = (own.rows, at.step.saturating_sub(*steps));
        // The steps of each rank in its own place.
        let (rank, ranks) = (self.communicator.rank(), self.communicator.world_size());
        let mut sums = vec![0.0; ranks];
        sums[rank] = *steps as f64;
        sums.extend([own.rows, if more { 1.0 } else { 0.0 }]);
        sums.extend(own.losses.iter().chain(&own.metrics));
        self.communicator.allreduce_f64(&mut sums)?;
        let (steps, sums) = sums.split_at(ranks);
        let most = steps.iter().copied().fold(0.0, f64::max);
        let (losses, metrics) = sums[2..].split_at(nothing.totals.losses.len());
        let stepped = Stepped {
            steps: whole(most),
            totals: Totals {
                losses: losses.to_vec(),
                rows: sums[0],
                metrics: metrics.to_vec(),
            },
            more: sums[1] > 0.0,
        };
        if stepped.totals.rows > 0.0 {
            let loss = stepped.totals.losses[0] / stepped.totals.rows;
            if !loss.is_finite() {
                return Err(Error::Numeric {
                    loss,
                    epoch: at.epoch,
                    step: before + stepped.steps,
                });
            }
            self.average(f64_to_f32(rows / stepped.totals.rows))?;
        }
        self.apart = Some(nothing);
        Ok(stepped)
    }

    /// Weights, moving statistics and the optimizer's state become their sums over all ranks, each
    /// times its rank's `part`.
    fn average(&mut self, part: f32) -> Result<(), Error> {
        let communicator = &mut self.communicator;
        if communicator.world_size() == 1 {
            return Ok(());
        }
        let spans = moving_spans(&self.model);
        self.model.non_trainable_mut().change(|store| {
            let places = || spans.iter().flat_map(Clone::clone);
            let mut moving: Vec<f32> = places().map(|place| store[place] * part).collect();
            communicator.allreduce(&mut moving)?;
            for (place, value) in places().zip(moving) {
                store[place] = value;
            }
            Ok::<_, Error>(())
        })??;

        let variables = self.optimizer.variables();
        let single: Vec<bool> = variables.iter().map(|one| one.shape.is_empty()).collect();
        for (single, value) in single.into_iter().zip(self.optimizer.values_mut()) {
            match value {
                OptimizerValueMut::Float32(values) if single => {
                    communicator.broadcast(0, values)?
                }
                OptimizerValueMut::Float32(values) => sum_parts(communicator, values, part)?,
                OptimizerValueMut::Int64(count) => *count = largest(communicator, *count)?,
                OptimizerValueMut::Placeholder => {}
            }
        }

        // By way of the gradients, which lie where all ranks see them, if there is such memory.
        let (shared, slices) = self.share.gradients_mut();
        slices.iter_mut().for_each(IndexedSlices::make_dense);
        self.model.trainable_mut().change(|weights| {
            shared.copy_from_slice(weights);
            sum_parts(communicator, shared, part)?;
            weights.copy_from_slice(shared);
            Ok::<_, Error>(())
        })??;
        Ok(self.model.constrain()?)
    }
}

fn sum_parts(communicator: &mut Communicator, values: &mut [f32], part: f32) -> Result<(), Error> {
    values.iter_mut().for_each(|value| *value *= part);
    Ok(communicator.allreduce(values)?)
}

/// The largest count that any rank has.
fn largest(communicator: &mut Communicator, own: i64) -> Result<i64, Error> {
    let all = communicator.allgather(&own.to_le_bytes())?;
    let counts = all
        .iter()
        .filter_map(|bytes| bytes.as_slice().try_into().ok());
    Ok(counts.map(i64::from_le_bytes).max().unwrap_or(own))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, exact up to 2^53"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
