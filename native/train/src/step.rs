//! One optimizer update that every rank agrees on.
//!
//! Two exchanges make a step. After the forward pass the ranks add up what decides how gradients
//! are scaled: the sums of their losses and what divides them, their rows, whether they have more;
//! and the metrics, which ride along. The loss of the whole batch is known then, on every rank,
//! before any backward pass. Its gradients leave each rank already scaled, and the second exchange
//! adds them up (see `share`):
//!
//! ```text
//! forward -> | loss sums | added losses x rows | rows | ranks with more | metric sums |   (f64)
//! backward -> | gradients | moving statistics x rows | ranks that reached a variable |    (f32)
//! update
//! ```
//!
//! So the mean is exact however unevenly the rows, masks and weights are spread: a rank that ran
//! dry contributes zeros. BatchNormalization normalizes with each rank's own rows and its moving
//! statistics are the ranks' mean weighted by rows, which is what Keras does under data
//! parallelism. Where it is synchronized, each such layer adds an exchange of its sums to the
//! forward pass and one of their gradients to the backward pass; a rank that ran dry runs a row
//! that does not count, to take part in them.

mod backward;
mod local;
mod parts;
mod remote;
mod staged;
mod stages;
mod state;
mod totals;

use self::local::Apart;
pub(crate) use self::stages::Written;
use self::state::Sharded;
pub use self::totals::Totals;
use crate::artifacts::Trained;
use crate::batch::{Batch, BatchShape};
use crate::before::Before;
use crate::block::Block;
use crate::dataset::random;
use crate::error::Error;
use crate::event::Logs;
use crate::exchange::Exchange;
use crate::mesh::Mesh;
use crate::objective::Objective;
use crate::ranks::Ranks;
use crate::share::Share;
use crate::times::{StepTimes, Stopwatch};
use flambeau_collective::{Communicator, Wire};
use flambeau_keras::losses::LabelSpec;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Model, Pass, Rows, Value, WithoutRows};
use std::borrow::Cow;
use std::sync::Arc;
use tch::{Device, Tensor};

/// A model being trained, and the ranks it is trained with.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    objective: Objective,
    optimizer: Optimizer,
    communicator: Communicator,
    seed: u64,
    /// What the second exchange adds up, and how gradients travel in it.
    share: Share,
    wire: Wire,
    before: Before,
    times: StepTimes,
    /// Where ranks train apart from each other.
    apart: Option<Apart>,
    /// Where each rank keeps the optimizer's state of its own part of the weights.
    sharded: Option<Sharded>,
    /// Which of several workers this is, where they have no communicator in common.
    replica: Option<u64>,
    /// Where rows of matrices are that the model does not have.
    rows: Option<Arc<dyn Rows>>,
    /// Where a rank has a stage of the model only.
    mesh: Option<Mesh>,
    /// Rows of a step on a mesh, but for the last of a pass.
    nominal_rows: f64,
    /// One row of the last batch, for steps without rows in a model that sums over ranks.
    stand_in: Option<Vec<Value>>,
}

/// What one step gave, or all since the ranks met last.
#[derive(Debug)]
pub struct Stepped {
    /// How many steps it stands for: of the rank that has made most since the ranks met last.
    pub steps: u64,
    /// Over all ranks, of these steps.
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

/// One rank's forward pass.
struct Forward {
    /// float64, differentiable; none in a stage that is not the last.
    loss_sums: Option<Tensor>,
    /// Scalar, the mean over this rank's rows, if layers add losses.
    added: Option<Tensor>,
}

/// Rows that go through the model at once when evaluating: few enough to stay in the cache.
const MICRO_BATCH: usize = 64;
/// The same on a GPU: as many as it takes to be busy.
const MICRO_BATCH_OF_GPU: usize = 1024;

impl Trainer {
    /// Joins a model, already initialised, with what trains it. Every rank must call this.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn new(
        model: Model,
        objective: Objective,
        optimizer: Optimizer,
        mut communicator: Communicator,
        seed: u64,
    ) -> Result<Self, Error> {
        let share = Share::zeros(&model, &optimizer, &mut communicator)?;
        Ok(Self::with(
            model,
            objective,
            optimizer,
            communicator,
            share,
            seed,
        ))
    }

    /// As [`new`](Self::new) with a model that is this rank's stage of `mesh`, where a step has
    /// `nominal_rows` rows of all replicas, but for the last of a pass.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn on_mesh(
        model: Model,
        objective: Objective,
        optimizer: Optimizer,
        communicator: Communicator,
        (mut mesh, nominal_rows): (Mesh, usize),
        seed: u64,
    ) -> Result<Self, Error> {
        let mut share = Share::zeros(&model, &optimizer, &mut mesh.alike)?;
        share.send_at_once();
        Ok(Self {
            mesh: Some(mesh),
            nominal_rows: nominal_rows as f64,
            ..Self::with(model, objective, optimizer, communicator, share, seed)
        })
    }

    fn with(
        model: Model,
        objective: Objective,
        optimizer: Optimizer,
        communicator: Communicator,
        share: Share,
        seed: u64,
    ) -> Self {
        let before = Before::new(&model);
        Self {
            model,
            objective,
            optimizer,
            communicator,
            seed,
            share,
            wire: Wire::Float32,
            before,
            times: StepTimes::default(),
            apart: None,
            sharded: None,
            replica: None,
            rows: None,
            mesh: None,
            nominal_rows: 0.0,
            stand_in: None,
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

    /// Has gradients travel between ranks as `wire` says; all ranks say the same.
    pub fn set_wire(&mut self, wire: Wire) {
        self.wire = wire;
    }

    /// Has gradients leave when all of them are there, whatever it costs; all ranks do the same.
    pub fn send_at_once(&mut self) {
        self.share.send_at_once();
    }

    /// Where the time of all steps so far has gone.
    pub fn times(&self) -> StepTimes {
        self.times
    }

    /// Losses and metrics.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// The other ranks.
    pub fn communicator_mut(&mut self) -> &mut Communicator {
        &mut self.communicator
    }

    /// Takes leave of the other ranks, once all have come here.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn close(self) -> Result<(), Error> {
        if let Some(mesh) = self.mesh {
            mesh.close()?;
        }
        Ok(self.communicator.close()?)
    }

    /// The model with what has trained it.
    pub(crate) fn trained(&self) -> Trained<'_> {
        Trained {
            model: &self.model,
            elsewhere: None,
            optimizer: Some(&self.optimizer),
            described: self.optimizer.config(),
            objective: &self.objective,
        }
    }

    /// The group of ranks with the same variables that this one is in.
    pub(crate) fn variables_group(&self) -> usize {
        let mesh = self.mesh.as_ref();
        mesh.map_or(0, |mesh| {
            mesh.place.stage * mesh.grid.parts + mesh.place.part
        })
    }

    /// The shapes batches must have.
    pub fn batch_shape(&self) -> BatchShape {
        let inputs = self.model.inputs().iter();
        let labels = self.objective.labels().iter();
        BatchShape {
            inputs: inputs.map(|input| input.spec.dims[1..].to_vec()).collect(),
            labels: labels.map(label_shape).collect(),
        }
    }

    /// Sums of nothing.
    pub fn no_totals(&self) -> Totals {
        Totals {
            losses: vec![0.0; 1 + self.objective.loss_names().len()],
            rows: 0.0,
            metrics: vec![0.0; self.objective.metric_count()],
        }
    }

    /// Takes part in one step, with rows or without. Every rank must call this, and every rank
    /// returns the same. If ranks do not come to an end of it, everything is as it was before; where
    /// the optimizer's state is sharded, weights and state are then of no use.
    ///
    /// Ranks that train apart (see [`train_apart`](Self::train_apart)) meet behind a step with `meet`, and
    /// where they run dry: then all return the same, and before each returns none. Where they had not
    /// met before a failure, their weights are their own.
    ///
    /// # Errors
    /// [`Error::Numeric`], on all ranks alike, if the loss is not finite; [`Error::Collective`]
    /// if a rank is lost; [`Error::Keras`].
    pub fn step(
        &mut self,
        batch: Option<&Batch>,
        more: bool,
        at: Position,
        meet: bool,
    ) -> Result<Option<Stepped>, Error> {
        self.communicator.begin_step(at.step);
        self.before.take_down(&self.model)?;
        let stepped = match (&self.apart, self.mesh.take()) {
            (Some(_), _) => self.step_apart(batch, more, at, meet),
            (None, None) => self.try_step(batch, more, at).map(Some),
            (None, Some(mut mesh)) => {
                let stepped = self.step_on(&mut mesh, batch, more, at);
                self.mesh = Some(mesh);
                stepped.map(Some)
            }
        };
        if stepped.is_err() {
            // Where this fails too, a GPU has failed, and what was on it is lost.
            self.before.bring_back(&mut self.model).ok();
        }
        stepped
    }

    fn try_step(
        &mut self,
        batch: Option<&Batch>,
        more: bool,
        at: Position,
    ) -> Result<Stepped, Error> {
        let mut stopwatch = Stopwatch::start();
        let mut exchange = Exchange::zeros(&self.objective);
        let (forward, pass) = match batch {
            Some(batch) => {
                let (forward, pass) = self.forward(batch, at, &mut exchange)?;
                (Some(forward), pass)
            }
            None => (None, self.forward_without_rows(at)?),
        };
        stopwatch.split(&mut self.times.forward);
        exchange.set_more(more);
        if self.communicator.world_size() > 1 {
            self.communicator.allreduce_f64(exchange.values_mut())?;
        }
        stopwatch.split(&mut self.times.agreement);
        let rows = exchange.rows();
        let totals = self.totals(&exchange);
        if rows > 0.0 {
            let loss = totals.losses[0] / rows;
            if !loss.is_finite() {
                return Err(Error::Numeric {
                    loss,
                    epoch: at.epoch,
                    step: at.step,
                });
            }
            let local = batch.map_or(0.0, |batch| batch.rows as f64);
            self.backward(forward.as_ref(), &pass, &exchange, local, &mut stopwatch)?;
            stopwatch.split(&mut self.times.exchange);
            self.update(rows)?;
            stopwatch.split(&mut self.times.update);
        }
        Ok(Stepped {
            totals,
            more: exchange.more() > 0.0,
            steps: 1,
        })
    }

    /// Loss and metrics over the rows of all ranks' `blocks`, without training: those that Keras
    /// has on all of them as one batch. Calls `check` every few rows.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Keras`], those of the blocks and of `check`.
    pub fn evaluate<'a>(
        &mut self,
        blocks: impl Iterator<Item = Result<Cow<'a, Block>, Error>>,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<Totals, Error> {
        if let Some(mut mesh) = self.mesh.take() {
            let totals = self.evaluate_on(&mut mesh, blocks, check);
            self.mesh = Some(mesh);
            return totals;
        }
        let shape = self.batch_shape();
        let mut exchange = Exchange::zeros(&self.objective);
        let micro_batch = match self.model.device() {
            Device::Cpu => MICRO_BATCH,
            _ => MICRO_BATCH_OF_GPU,
        };
        {
            let _no_grad = tch::no_grad_guard();
            for block in blocks {
                let block = block?;
                for start in (0..block.rows).step_by(micro_batch) {
                    check()?;
                    let end = block.rows.min(start + micro_batch);
                    let Some(batch) = shape.slice(&block, start, end)? else {
                        continue;
                    };
                    let mut pass = Pass::inference().with_rows(self.rows.clone());
                    let outputs = self.model.forward(&batch.inputs, &mut pass)?;
                    self.measure(&batch, &outputs, &pass, &mut exchange)?;
                }
            }
        }
        self.communicator.allreduce_f64(exchange.values_mut())?;
        Ok(self.totals(&exchange))
    }

    /// The means that `totals` stand for, by Keras's names, `loss` first.
    pub fn logs(&self, totals: &Totals, prefix: &str) -> Logs {
        let mut logs = Logs::new();
        let names = self.objective.loss_names();
        let names = std::iter::once("loss").chain(names.iter().map(String::as_str));
        for (name, loss) in names.zip(&totals.losses) {
            logs.insert(format!("{prefix}{name}"), (loss / totals.rows).into());
        }
        for (name, value) in self.objective.metric_values(&totals.metrics) {
            logs.insert(format!("{prefix}{name}"), value);
        }
        logs
    }

    /// This rank's forward pass in training, with its sums.
    fn forward(
        &mut self,
        batch: &Batch,
        at: Position,
        exchange: &mut Exchange,
    ) -> Result<(Forward, Pass), Error> {
        let mut pass = self.pass(at);
        let outputs = if self.sums_over_ranks() {
            let first = batch.inputs.iter().map(|input| input.narrow(0, 1));
            self.stand_in = Some(first.collect::<Result<_, _>>()?);
            let mut ranks = Ranks(&mut self.communicator);
            self.model
                .forward_over(&mut ranks, &batch.inputs, &mut pass)?
        } else {
            self.model.forward(&batch.inputs, &mut pass)?
        };
        let forward = self.measure(batch, &outputs, &pass, exchange)?;
        self.model.apply_updates(&pass.updates)?;
        Ok((forward, pass))
    }

    /// Takes part in what other ranks sum up in their forward passes.
    fn forward_without_rows(&mut self, at: Position) -> Result<Pass, Error> {
        let mut pass = self.pass(at);
        if self.sums_over_ranks() {
            let row = match self.stand_in.take() {
                Some(row) => row,
                None => self.model.blank(1)?,
            };
            let mut ranks = Ranks(&mut self.communicator);
            self.model
                .forward_over(&mut WithoutRows(&mut ranks), &row, &mut pass)?;
            self.stand_in = Some(row);
        }
        Ok(pass)
    }

    fn pass(&self, at: Position) -> Pass {
        let rank = self.replica.unwrap_or(self.communicator.rank() as u64);
        Pass::training(random(self.seed, &[rank, at.step])).with_rows(self.rows.clone())
    }

    /// The pass of a part of the batch of a replica: of the first, that of the whole.
    fn pass_of(&self, replica: usize, part: usize, at: Position) -> Pass {
        let places = [replica as u64, at.step, part as u64];
        let places = if part == 0 { &places[..2] } else { &places };
        Pass::training(random(self.seed, places))
    }

    /// Whether ranks exchange within passes.
    fn sums_over_ranks(&self) -> bool {
        self.communicator.world_size() > 1 && self.model.sums_over_replicas()
    }

    fn measure(
        &self,
        batch: &Batch,
        outputs: &[Value],
        pass: &Pass,
        exchange: &mut Exchange,
    ) -> Result<Forward, Error> {
        let batch = &batch.to_device(self.model.device())?;
        let loss_sums = self.objective.loss_sums(batch, outputs)?;
        let added = staged::added(pass)?;
        let added_value = match &added {
            Some(added) => added.f_double_value(&[])?,
            None => 0.0,
        };
        let sums: Vec<f64> = Vec::try_from(loss_sums.f_detach()?)?;
        let metrics = self.objective.metric_sums(batch, outputs)?;
        exchange.add(&sums, added_value, batch.rows as f64, &metrics);
        Ok(Forward {
            loss_sums: Some(loss_sums),
            added,
        })
    }

    /// What a step's sums come to.
    fn totals(&self, exchange: &Exchange) -> Totals {
        let rows = exchange.rows();
        let values = self.objective.loss_values(exchange.losses());
        let mut losses = vec![values.total * rows + exchange.added()];
        if losses.len() + values.parts.len() == 1 + self.objective.loss_names().len() {
            losses.extend(values.parts.iter().map(|loss| loss * rows));
        }
        Totals {
            losses,
            rows,
            metrics: exchange.metrics().to_vec(),
        }
    }
}

/// Shape of a row's labels.
fn label_shape(label: &Option<LabelSpec>) -> Vec<i64> {
    match label {
        None => Vec::new(),
        Some(LabelSpec::Sequence { steps, .. }) => vec![*steps],
        Some(spec) => spec.shape().unwrap_or_default().to_vec(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "row counts of one step")]
fn f64_to_f32(value: f64) -> f32 {
    value as f32
}
