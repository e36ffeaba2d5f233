//! One optimizer update that every rank agrees on.
//!
//! Each rank adds up the gradients of its own rows' losses. One allreduce of one buffer then gives
//! every rank the sum over all rows together with their number, so that the mean is exact however
//! unevenly the rows are spread: a rank that ran dry contributes zeros. The buffer:
//!
//! ```text
//! | gradients (flat) | moving statistics x rows | loss sum | rows | ranks with more | metric states |
//! ```
//!
//! Keras 3 divides the loss of a batch by its number of rows, whatever their weights
//! (`sum_over_batch_size`); so does this. BatchNormalization normalizes with each rank's own rows
//! and its moving statistics are the ranks' mean weighted by rows, which is what Keras does under
//! data parallelism.

use crate::batch::{Batch, BatchShape};
use crate::block::Block;
use crate::dataset::random;
use crate::error::Error;
use crate::event::Logs;
use flambeau_collective::Communicator;
use flambeau_keras::losses::{LabelSpec, Loss};
use flambeau_keras::metrics::Metric;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Model, Output, Pass};
use std::ops::Range;
use tch::{Kind, Tensor};

/// A model being trained, and the ranks it is trained with.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    loss: Loss,
    metrics: Vec<Box<dyn Metric>>,
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
    /// Sum of the weighted losses.
    pub loss: f64,
    /// Rows.
    pub rows: f64,
    /// The metrics' states, one after the other.
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

const LOSS: usize = 0;
const ROWS: usize = 1;
const MORE: usize = 2;
const METRICS: usize = 3;

impl Trainer {
    /// Joins a model, already initialised, with what trains it.
    pub fn new(
        model: Model,
        (loss, metrics): (Loss, Vec<Box<dyn Metric>>),
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
        let states: usize = metrics.iter().map(|metric| metric.state_len()).sum();
        let statistics: usize = moving.iter().map(Range::len).sum();
        let buffer = vec![0.0; model.trainable().len() + statistics + METRICS + states];
        Self {
            model,
            loss,
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
        let label = match self.loss.label(self.model.output_shape()) {
            LabelSpec::Class { .. } => Vec::new(),
            LabelSpec::Values { shape } => shape,
        };
        BatchShape {
            input: self.model.input().shape.clone(),
            label,
        }
    }

    /// Sums of nothing.
    pub fn no_totals(&self) -> Totals {
        let states = self.metrics.iter().map(|metric| metric.state_len()).sum();
        Totals {
            loss: 0.0,
            rows: 0.0,
            metrics: vec![0.0; states],
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
        match batch {
            Some(batch) => self.accumulate(batch, at)?,
            None => self.buffer.fill(0.0),
        }
        let tail = self.tail();
        self.buffer[tail + MORE] = if more { 1.0 } else { 0.0 };
        if self.communicator.world_size() > 1 {
            self.communicator.allreduce(&mut self.buffer)?;
        }
        let (rows, loss) = (self.buffer[tail + ROWS], self.buffer[tail + LOSS]);
        if !loss.is_finite() {
            return Err(Error::Numeric {
                loss,
                epoch: at.epoch,
                step: at.step,
            });
        }
        if rows > 0.0 {
            self.update(rows)?;
        }
        let metrics = self.buffer[tail + METRICS..]
            .iter()
            .map(|&value| value.into())
            .collect();
        let totals = Totals {
            loss: loss.into(),
            rows: rows.into(),
            metrics,
        };
        Ok(Stepped {
            totals,
            more: self.buffer[tail + MORE] > 0.0,
        })
    }

    /// Loss and metrics over the rows of all ranks' `blocks`, without training.
    ///
    /// # Errors
    /// [`Error::Collective`] and [`Error::Keras`].
    pub fn evaluate(&mut self, blocks: &[Block]) -> Result<Totals, Error> {
        let shape = self.batch_shape();
        let mut totals = self.no_totals();
        {
            let _no_grad = tch::no_grad_guard();
            for block in blocks {
                for start in (0..block.rows).step_by(MICRO_BATCH) {
                    let end = block.rows.min(start + MICRO_BATCH);
                    let Some(batch) = shape.slice(block, start, end)? else {
                        continue;
                    };
                    let output = self.model.forward(&batch.x, &mut Pass::inference())?;
                    let loss = self.total_loss(&batch, &output)?;
                    let mut metrics = vec![0.0; totals.metrics.len()];
                    self.measure(&batch, &output, &mut metrics)?;
                    totals.add(&Totals {
                        loss: loss.f_double_value(&[])?,
                        rows: batch.rows as f64,
                        metrics: metrics.into_iter().map(f64::from).collect(),
                    });
                }
            }
        }
        let mut sums = [&[totals.loss, totals.rows][..], &totals.metrics].concat();
        self.communicator.allreduce_f64(&mut sums)?;
        Ok(Totals {
            loss: sums[0],
            rows: sums[1],
            metrics: sums.split_off(2),
        })
    }

    /// The means that `totals` stand for, by Keras's names, `loss` first.
    pub fn logs(&self, totals: &Totals, prefix: &str) -> Logs {
        let mut logs = Logs::new();
        logs.insert(format!("{prefix}loss"), (totals.loss / totals.rows).into());
        let mut at = 0;
        for metric in &self.metrics {
            let state = &totals.metrics[at..at + metric.state_len()];
            at += metric.state_len();
            logs.insert(
                format!("{prefix}{}", metric.name()),
                metric.result(state).into(),
            );
        }
        logs
    }

    /// Fills the buffer with this rank's own sums.
    fn accumulate(&mut self, batch: &Batch, at: Position) -> Result<(), Error> {
        let rank = self.communicator.rank() as u64;
        let mut pass = Pass::training(random(self.seed, &[rank, at.step]));
        let output = self.model.forward(&batch.x, &mut pass)?;
        let loss = self.total_loss(batch, &output)?;
        let gradients = self.model.trainable().len();
        self.model.gradients(&loss, &mut self.buffer[..gradients])?;
        self.model.apply_updates(&pass.updates)?;
        let rows = batch.rows as f32;
        let mut end = gradients;
        for span in &self.moving {
            let values = &self.model.non_trainable().as_slice()[span.clone()];
            for (slot, value) in self.buffer[end..].iter_mut().zip(values) {
                *slot = value * rows;
            }
            end += span.len();
        }
        self.buffer[end + LOSS] = f64_to_f32(loss.f_double_value(&[])?);
        self.buffer[end + ROWS] = rows;
        let mut metrics = self.buffer.split_off(end + METRICS);
        let measured = self.measure(batch, &output, &mut metrics);
        self.buffer.append(&mut metrics);
        measured
    }

    /// Applies the summed buffer: optimizer step and moving statistics.
    fn update(&mut self, rows: f32) -> Result<(), Error> {
        let gradients = self.model.trainable().len();
        let (summed, rest) = self.buffer.split_at_mut(gradients);
        let scale = rows.recip();
        for gradient in summed.iter_mut() {
            *gradient *= scale;
        }
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

    /// Sum over rows of weight times loss.
    fn total_loss(&self, batch: &Batch, output: &Output) -> Result<Tensor, Error> {
        let losses = self.loss.per_row(labels(batch)?, output)?;
        let losses = match &batch.weights {
            Some(weights) => losses.f_mul(weights)?,
            None => losses,
        };
        Ok(losses.f_sum(Kind::Float)?)
    }

    /// The metrics' states for one batch, one after the other.
    fn measure(&self, batch: &Batch, output: &Output, states: &mut [f32]) -> Result<(), Error> {
        let _no_grad = tch::no_grad_guard();
        let mut at = 0;
        for metric in &self.metrics {
            let state = metric.update(labels(batch)?, output)?;
            let len = metric.state_len();
            state
                .f_to_kind(Kind::Float)?
                .f_copy_data(&mut states[at..at + len], len)?;
            at += len;
        }
        Ok(())
    }

    /// Where the scalars begin in the buffer.
    fn tail(&self) -> usize {
        self.model.trainable().len() + self.moving.iter().map(Range::len).sum::<usize>()
    }
}

fn labels(batch: &Batch) -> Result<&Tensor, Error> {
    batch
        .y
        .as_ref()
        .ok_or_else(|| Error::Config("training needs a label column".to_owned()))
}

#[expect(clippy::cast_possible_truncation, reason = "it was a float32 before")]
fn f64_to_f32(value: f64) -> f32 {
    value as f32
}
