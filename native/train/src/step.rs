//! One optimizer update that every rank agrees on.
//!
//! Two allreduces make it exact however unevenly the rows are spread; a rank that ran dry
//! contributes zeros. Between the forward and the backward pass the ranks add up, in float64,
//!
//! ```text
//! | sums of the losses | metric states | rows | ranks with more |
//! ```
//!
//! which tells each how much its own sums weigh in the loss over all rows. Then they add up
//!
//! ```text
//! | gradients (flat) | moving statistics x rows |
//! ```
//!
//! BatchNormalization normalizes with each rank's own rows
//! and its moving statistics are the ranks' mean weighted by rows, which is what Keras does under
//! data parallelism.

use crate::batch::{Batch, BatchShape};
use crate::block::Block;
use crate::dataset::random;
use crate::error::Error;
use crate::event::Logs;
use flambeau_collective::Communicator;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{CompileLoss, CompileMetrics, Model, Output, Pass};
use std::ops::Range;
use tch::{Kind, Tensor};

/// A model being trained, and the ranks it is trained with.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    losses: CompileLoss,
    metrics: CompileMetrics,
    optimizer: Optimizer,
    communicator: Communicator,
    seed: u64,
    buffer: Vec<f32>,
    /// Where the moving statistics lie in the store of non-trainable variables.
    moving: Vec<Range<usize>>,
}

/// Sums over rows: of one step over all ranks, or of several steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// Sum over batches of the loss times the rows.
    pub loss: f64,
    /// Rows.
    pub rows: f64,
    /// The metrics' state.
    pub metrics: Vec<f64>,
}

impl Totals {
    /// Adds another step's sums.
    pub fn add(&mut self, other: &Totals) {
        self.loss += other.loss;
        self.rows += other.rows;
        for (sum, value) in self.metrics.iter_mut().zip(&other.metrics) {
            *sum += value;
        }
    }

    /// Rows as a count.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of counts, exact up to 2^53"
    )]
    pub fn row_count(&self) -> u64 {
        self.rows as u64
    }
}

/// What one step gave.
#[derive(Debug)]
pub struct Stepped {
    /// Over all ranks.
    pub totals: Totals,
    /// Whether any rank has rows left in this epoch.
    pub more: bool,
}

/// Where a step stands, for errors and for the randomness of Dropout.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// Counted from 1.
    pub epoch: usize,
    /// Counted from 1 over the whole fit.
    pub step: u64,
}

/// Rows that go through the model at once when evaluating: few enough to stay in the cache.
const MICRO_BATCH: usize = 64;

/// What lies behind the sums: rows, and whether there are more.
const COUNTS: usize = 2;

/// A batch that has gone forward on this rank.
struct Forward {
    /// The losses' sums, with their graph.
    sums: Tensor,
    /// Their values and the metrics' states.
    values: Vec<f64>,
    rows: usize,
}

impl Trainer {
    /// Joins a model, already initialised, with what trains it.
    pub fn new(
        model: Model,
        (losses, metrics): (CompileLoss, CompileMetrics),
        optimizer: Optimizer,
        communicator: Communicator,
        seed: u64,
    ) -> Self {
        let moving: Vec<_> = {
            let spans = model.non_trainable().spans();
            model
                .moving()
                .iter()
                .map(|&index| spans[index].clone())
                .collect()
        };
        let statistics: usize = moving.iter().map(Range::len).sum();
        let buffer = vec![0.0; model.trainable().len() + statistics];
        Self {
            model,
            losses,
            metrics,
            optimizer,
            communicator,
            seed,
            buffer,
            moving,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to give it other weights.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The optimizer, to give it another state.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// The other ranks.
    pub fn communicator_mut(&mut self) -> &mut Communicator {
        &mut self.communicator
    }

    /// Overwrites weights, moving statistics and optimizer state with those of rank 0.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn broadcast_values(&mut self) -> Result<(), Error> {
        let communicator = &mut self.communicator;
        communicator.broadcast(self.model.trainable_mut().as_mut_slice())?;
        communicator.broadcast(self.model.non_trainable_mut().as_mut_slice())?;
        for (_, values) in self.optimizer.slots_mut() {
            communicator.broadcast(values)?;
        }
        Ok(())
    }

    /// The other ranks, to take leave of.
    pub fn into_communicator(self) -> Communicator {
        self.communicator
    }

    /// The shapes batches must have.
    pub fn batch_shape(&self) -> BatchShape {
        let label = self.losses.labels().into_iter().flatten().next();
        let label = label.as_ref().and_then(|label| label.shape());
        BatchShape {
            input: self.model.input().shape.clone(),
            label: label.map(<[i64]>::to_vec).unwrap_or_default(),
        }
    }

    /// Sums of nothing.
    pub fn no_totals(&self) -> Totals {
        Totals {
            loss: 0.0,
            rows: 0.0,
            metrics: vec![0.0; self.metrics.state_len()],
        }
    }

    /// Takes part in one step, with rows or without. Every rank must call this, and every rank
    /// returns the same.
    ///
    /// # Errors
    /// [`Error::Numeric`], on all ranks alike, if the loss is not finite; [`Error::Collective`]
    /// if a rank is lost; [`Error::Keras`].
    pub fn step(
        &mut self,
        batch: Option<&Batch>,
        more: bool,
        at: Position,
    ) -> Result<Stepped, Error> {
        let forward = match batch {
            Some(batch) => Some(self.forward(batch, at)?),
            None => None,
        };
        let mut sums = match &forward {
            Some(forward) => forward.values.clone(),
            None => vec![0.0; self.losses.sum_count() + self.metrics.state_len()],
        };
        sums.push(forward.as_ref().map_or(0.0, |forward| forward.rows as f64));
        sums.push(if more { 1.0 } else { 0.0 });
        if self.communicator.world_size() > 1 {
            self.communicator.allreduce_f64(&mut sums)?;
        }
        let counts = sums.split_off(sums.len() - COUNTS);
        let metrics = sums.split_off(self.losses.sum_count());
        let losses = self.losses.values(&sums);
        if !losses.total.is_finite() {
            return Err(Error::Numeric {
                loss: f64_to_f32(losses.total),
                epoch: at.epoch,
                step: at.step,
            });
        }
        let (rows, more) = (counts[0], counts[1] > 0.0);
        if rows > 0.0 {
            self.backward(forward, &losses.slopes)?;
            if self.communicator.world_size() > 1 {
                self.communicator.allreduce(&mut self.buffer)?;
            }
            self.update(f64_to_f32(rows))?;
        }
        let totals = Totals {
            loss: losses.total * rows,
            rows,
            metrics,
        };
        Ok(Stepped { totals, more })
    }

    /// Loss and metrics over the rows of all ranks' `blocks`, without training.
    ///
    /// # Errors
    /// [`Error::Collective`] and [`Error::Keras`].
    pub fn evaluate(&mut self, blocks: &[Block]) -> Result<Totals, Error> {
        let shape = self.batch_shape();
        let mut sums = vec![0.0; self.losses.sum_count() + self.metrics.state_len()];
        let mut rows = 0.0;
        {
            let _no_grad = tch::no_grad_guard();
            for block in blocks {
                for start in (0..block.rows).step_by(MICRO_BATCH) {
                    let end = block.rows.min(start + MICRO_BATCH);
                    let Some(batch) = shape.slice(block, start, end)? else {
                        continue;
                    };
                    let output = self.model.forward(&batch.x, &mut Pass::inference())?;
                    let (_, values) = self.score(&batch, &output)?;
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += value;
                    }
                    rows += batch.rows as f64;
                }
            }
        }
        sums.push(rows);
        self.communicator.allreduce_f64(&mut sums)?;
        let rows = sums.pop().unwrap_or(0.0);
        let metrics = sums.split_off(self.losses.sum_count());
        Ok(Totals {
            loss: self.losses.values(&sums).total * rows,
            rows,
            metrics,
        })
    }

    /// The means that `totals` stand for, by Keras's names, `loss` first.
    pub fn logs(&self, totals: &Totals, prefix: &str) -> Logs {
        let mut logs = Logs::new();
        logs.insert(format!("{prefix}loss"), (totals.loss / totals.rows).into());
        for (name, value) in self.metrics.results(&totals.metrics) {
            logs.insert(format!("{prefix}{name}"), value.into());
        }
        logs
    }

    /// Runs the model on this rank's rows.
    fn forward(&mut self, batch: &Batch, at: Position) -> Result<Forward, Error> {
        let rank = self.communicator.rank() as u64;
        let mut pass = Pass::training(random(self.seed, &[rank, at.step]));
        let output = self.model.forward(&batch.x, &mut pass)?;
        let (sums, values) = self.score(batch, &output)?;
        self.model.apply_updates(&pass.updates)?;
        Ok(Forward {
            sums,
            values,
            rows: batch.rows,
        })
    }

    /// The sums of the losses, and their values with the metrics' states behind them.
    fn score(&self, batch: &Batch, output: &Output) -> Result<(Tensor, Vec<f64>), Error> {
        let (labels, weights) = ([batch.y.as_ref()], [batch.weights.as_ref()]);
        let sums = self.losses.sums(&labels, &[output], &weights)?;
        let states = self.metrics.update(&labels, &[output], &weights)?;
        let values = Tensor::f_cat(&[sums.f_detach()?, states], 0)?;
        Ok((sums, Vec::try_from(values)?))
    }

    /// Fills the buffer with this rank's part of the gradients and moving statistics.
    fn backward(&mut self, forward: Option<Forward>, slopes: &[f64]) -> Result<(), Error> {
        let Some(Forward { sums, rows, .. }) = forward else {
            self.buffer.fill(0.0);
            return Ok(());
        };
        let minimised = sums.f_mul(&Tensor::f_from_slice(slopes)?)?;
        let gradients = self.model.trainable().len();
        let minimised = minimised.f_sum(Kind::Double)?;
        self.model
            .gradients(&minimised, &mut self.buffer[..gradients])?;
        let mut end = gradients;
        for span in &self.moving {
            let values = &self.model.non_trainable().as_slice()[span.clone()];
            for (slot, value) in self.buffer[end..].iter_mut().zip(values) {
                *slot = value * rows as f32;
            }
            end += span.len();
        }
        Ok(())
    }

    /// Applies the summed buffer: optimizer step and moving statistics.
    fn update(&mut self, rows: f32) -> Result<(), Error> {
        let gradients = self.model.trainable().len();
        let (summed, rest) = self.buffer.split_at_mut(gradients);
        let scale = rows.recip();
        self.optimizer
            .apply(self.model.trainable_mut().as_mut_slice(), summed)?;
        if self.communicator.world_size() > 1 {
            let mut at = 0;
            for span in &self.moving {
                let store = &mut self.model.non_trainable_mut().as_mut_slice()[span.clone()];
                for (value, sum) in store.iter_mut().zip(&rest[at..]) {
                    *value = sum * scale;
                }
                at += span.len();
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "only its size matters, or it is a count of rows")]
fn f64_to_f32(value: f64) -> f32 {
    value as f32
}
