//! A step on a mesh: stages of the model work through the parts of a batch, each on its ranks.
//!
//! ```text
//! first rank of a replica  -> all its ranks: how many rows, and what losses need of them
//! stage by stage           F: values go on, as far as the losses      B: gradients come back
//! all ranks                agree: losses, metrics, rows, as in a plain step
//! ranks of one stage       add up gradients and moving statistics over the replicas, and update
//! ```
//! The result is that of a plain step on the same rows, but where layers look at more than one row
//! (BatchNormalization sees a part of the batch) or are random: each stage draws for itself. Ranks that
//! share a stage's weights run it on the same rows; the first of them counts.
//!
//! Under `1f1b` gradients leave before all losses are known, as if the batch had the rows that all batches
//! have but the last of a pass, and are scaled once the ranks have agreed. So what divides a loss must
//! grow with the rows alone: masks that leave out elements need `gpipe`.

use super::{Forward, Position, Stepped, Totals, Trainer, f64_to_f32};
use crate::batch::Batch;
use crate::block::Block;
use crate::config::Schedule;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::mesh::boundary::{tensors_of_bytes, tensors_to_bytes, values_of_bytes, values_to_bytes};
use crate::mesh::schedule::{Task, tasks};
use crate::mesh::{Mesh, lock};
use crate::ranks::Stages;
use crate::times::Stopwatch;
use flambeau_keras::optimizers::Peers;
use flambeau_keras::{Pass, Replicas, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// What a stage needs for the backward pass of a part of the batch.
struct Flight {
    pass: Pass,
    /// What the earlier stage wants gradients of.
    leaves: Vec<Tensor>,
    /// What was handed on.
    given: Vec<Value>,
    /// Losses, at the end; what layers add to them, everywhere.
    forward: Forward,
    rows: f64,
}

/// What has come together in a step so far.
struct Work {
    parts: Vec<Batch>,
    flights: BTreeMap<usize, Flight>,
    exchange: Exchange,
    /// Which variables a loss has reached.
    reached: Vec<bool>,
    /// What gradients were multiplied by, of each loss, before the losses of all were known.
    slopes: Vec<Vec<f64>>,
    /// What all gradients are still to be multiplied by.
    factor: f64,
}

/// How far what divides a loss may be from growing with the rows.
const TOLERANCE: f64 = 1e-5;

impl Trainer {
    /// As [`try_step`](Self::try_step) on a mesh.
    pub(super) fn step_on(
        &mut self,
        mesh: &mut Mesh,
        batch: Option<&Batch>,
        more: bool,
        at: Position,
    ) -> Result<Stepped, Error> {
        let mut stopwatch = Stopwatch::start();
        let dealt = deal(mesh, batch)?;
        let rows = dealt.as_ref().map_or(0, |batch| batch.rows);
        let parts = mesh.micro_batches.min(rows);
        let mut work = Work {
            parts: cut(dealt.as_ref(), parts)?,
            flights: BTreeMap::new(),
            exchange: Exchange::zeros(&self.objective),
            reached: vec![false; self.model.trainable().variables().len()],
            slopes: Vec::new(),
            factor: 1.0,
        };
        self.share.clear();
        let limit = self.optimizer.needs().limit;
        let (_, slices) = self.share.gradients_mut();
        slices.iter_mut().for_each(|slices| slices.set_limit(limit));

        let mut totals = self.no_totals();
        let mut is_agreed = false;
        for task in tasks(mesh.schedule, mesh.grid.stages, mesh.place.stage, parts) {
            match task {
                Task::Forward(part) => {
                    self.forward_part(mesh, &mut work, part, at)?;
                    stopwatch.split(&mut self.times.forward);
                }
                Task::Backward(part) => {
                    self.backward_part(mesh, &mut work, part, is_agreed)?;
                    stopwatch.split(&mut self.times.backward);
                }
                Task::Agree => {
                    totals = self.agree(mesh, &mut work, more, at)?;
                    is_agreed = true;
                    stopwatch.split(&mut self.times.agreement);
                }
            }
        }
        if let Some(before) = &mut mesh.before {
            before.settle()?;
        }
        if let Some(behind) = &mut mesh.behind {
            behind.settle()?;
        }
        if totals.rows > 0.0 {
            if rows > 0 {
                let rows = f64_to_f32(rows as f64);
                self.share.complete(&self.model, &work.reached, rows)?;
            }
            if mesh.grid.replicas > 1 {
                self.share.sum(&mut mesh.alike, self.wire)?;
            }
            stopwatch.split(&mut self.times.exchange);
            self.apply_on(mesh, f64_to_f32(work.factor))?;
            if mesh.grid.replicas > 1 {
                self.share
                    .store_moving(&mut self.model, f64_to_f32(totals.rows))?;
            }
            stopwatch.split(&mut self.times.update);
        }
        Ok(Stepped {
            totals,
            more: work.exchange.more() > 0.0,
            steps: 1,
        })
    }

    /// As [`evaluate`](Self::evaluate) on a mesh: only the first rank of a replica has blocks.
    pub(super) fn evaluate_on<'a>(
        &mut self,
        mesh: &mut Mesh,
        blocks: impl Iterator<Item = Result<Cow<'a, Block>, Error>>,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<Totals, Error> {
        let shape = self.batch_shape();
        let mut exchange = Exchange::zeros(&self.objective);
        {
            let _no_grad = tch::no_grad_guard();
            let has_rows = mesh.has_rows();
            for block in blocks.filter(|_| has_rows) {
                let block = block?;
                for start in (0..block.rows).step_by(super::MICRO_BATCH) {
                    check()?;
                    let end = block.rows.min(start + super::MICRO_BATCH);
                    if let Some(batch) = shape.slice(&block, start, end)?
                        && let Some(batch) = deal(mesh, Some(&batch))?
                    {
                        self.evaluate_part(mesh, &batch, &mut exchange)?;
                    }
                }
            }
            if has_rows {
                deal(mesh, None)?;
            } else {
                while let Some(batch) = deal(mesh, None)? {
                    check()?;
                    self.evaluate_part(mesh, &batch, &mut exchange)?;
                }
            }
            if let Some(behind) = &mut mesh.behind {
                behind.settle()?;
            }
        }
        if !mesh.counts() {
            exchange = Exchange::zeros(&self.objective);
        }
        self.communicator.allreduce_f64(exchange.values_mut())?;
        Ok(self.totals(&exchange))
    }

    fn evaluate_part(
        &mut self,
        mesh: &mut Mesh,
        batch: &Batch,
        exchange: &mut Exchange,
    ) -> Result<(), Error> {
        let mut pass = Pass::inference().with_group(mesh.group());
        let (taken, _) = take(mesh, batch, self.model.device())?;
        let given = self.model.forward(&taken, &mut pass)?;
        match &mut mesh.behind {
            Some(behind) => {
                let added = added(&pass)?.map_or(Ok(0.0), |added| added.f_double_value(&[]))?;
                exchange.add_beside(added * batch.rows as f64);
                behind.send_down(values_to_bytes(&given)?)
            }
            None => self.measure(batch, &given, &pass, exchange).map(|_| ()),
        }
    }

    fn forward_part(
        &mut self,
        mesh: &mut Mesh,
        work: &mut Work,
        part: usize,
        at: Position,
    ) -> Result<(), Error> {
        let batch = &work.parts[part];
        let (taken, leaves) = take(mesh, batch, self.model.device())?;
        let pass = self.pass_of(mesh.place.replica, part, at);
        let mut pass = pass.with_group(mesh.group());
        let given = self.model.forward(&taken, &mut pass)?;
        let rows = batch.rows as f64;
        let forward = match &mut mesh.behind {
            Some(behind) => {
                behind.send_down(values_to_bytes(&given)?)?;
                let added = added(&pass)?;
                let value = added
                    .as_ref()
                    .map_or(Ok(0.0), |sum| sum.f_double_value(&[]))?;
                work.exchange.add_beside(value * rows);
                let loss_sums = None;
                Forward { loss_sums, added }
            }
            None => self.measure(batch, &given, &pass, &mut work.exchange)?,
        };
        self.model.apply_updates(&pass.updates)?;
        pass.updates.clear();
        let flight = Flight {
            pass,
            leaves,
            given,
            forward,
            rows,
        };
        work.flights.insert(part, flight);
        Ok(())
    }

    /// Adds up over all ranks what decides how gradients are scaled.
    fn agree(
        &mut self,
        mesh: &Mesh,
        work: &mut Work,
        more: bool,
        at: Position,
    ) -> Result<Totals, Error> {
        if !mesh.counts() {
            work.exchange = Exchange::zeros(&self.objective);
        }
        work.exchange.set_more(more);
        self.communicator
            .allreduce_f64(work.exchange.values_mut())?;
        let totals = self.totals(&work.exchange);
        if totals.rows > 0.0 {
            let loss = totals.losses[0] / totals.rows;
            if !loss.is_finite() {
                return Err(Error::Numeric {
                    loss,
                    epoch: at.epoch,
                    step: at.step,
                });
            }
            if mesh.schedule == Schedule::OneForwardOneBackward {
                work.factor = self.nominal_rows / totals.rows;
                let known = self.objective.loss_values(work.exchange.losses()).slopes;
                check_slopes(&work.slopes, &known, work.factor)?;
            }
        }
        Ok(totals)
    }

    fn backward_part(
        &mut self,
        mesh: &mut Mesh,
        work: &mut Work,
        part: usize,
        is_agreed: bool,
    ) -> Result<(), Error> {
        let Some(flight) = work.flights.remove(&part) else {
            return Err(Error::Panic(format!("no forward pass of part {part}")));
        };
        let (slopes, rows) = if is_agreed {
            let slopes = self.objective.loss_values(work.exchange.losses()).slopes;
            (slopes, work.exchange.rows())
        } else {
            // As if all rows were like these.
            let rows = self.nominal_rows;
            let slopes = match &flight.forward.loss_sums {
                Some(sums) => {
                    let sums: Vec<f64> = Vec::try_from(sums.f_detach()?)?;
                    let sums: Vec<_> = sums.iter().map(|sum| sum * rows / flight.rows).collect();
                    self.objective.loss_values(&sums).slopes
                }
                None => Vec::new(),
            };
            work.slopes.push(slopes.clone());
            (slopes, rows)
        };
        let mut loss = self.loss_of(&flight.forward, &slopes, flight.rows / rows)?;
        if let Some(behind) = &mut mesh.behind {
            let gradients = tensors_of_bytes(&behind.receive_from_below()?)?;
            let ends = flight.given.iter().filter_map(Value::end);
            for (end, gradient) in ends.zip(gradients) {
                let Some(gradient) = gradient else { continue };
                let gradient = gradient.f_to_device(end.device())?;
                let product = end.f_mul(&gradient)?.f_sum(Kind::Double)?;
                loss = loss.f_add(&product)?;
            }
        }
        let leaves: Vec<&Tensor> = flight.leaves.iter().collect();
        let gradients = self.model.add_gradients(
            &flight.pass,
            &loss,
            &leaves,
            self.share.gradients_mut(),
            &mut work.reached,
        )?;
        if let Some(before) = &mut mesh.before {
            before.send_up(tensors_to_bytes(gradients.iter().map(Some))?)?;
        }
        Ok(())
    }

    /// Updates this stage's variables by the share's gradients, `factor` times.
    fn apply_on(&mut self, mesh: &mut Mesh, factor: f32) -> Result<(), Error> {
        let reached = self.share.reached();
        let (gradients, slices) = self.share.gradients_mut();
        let mut stages = Stages {
            replica: &mut mesh.replica,
            parts: mesh.grid.parts,
        };
        let mut parts = mesh.parts.as_deref().map(lock);
        let peers = Peers {
            group: parts.as_deref_mut().map(|parts| parts as &mut dyn Replicas),
            stages: Some(&mut stages),
            ..Peers::default()
        };
        let optimizer = &mut self.optimizer;
        let taken = self.model.trainable_mut().change(|params| {
            optimizer.apply_among(peers, (params, gradients), slices, &reached, factor)
        });
        if taken?? {
            self.model.constrain()?;
        }
        Ok(())
    }
}

/// The batch of this replica, of which all its ranks learn the rows, the labels and the weights from the
/// first; none if it has none.
fn deal(mesh: &mut Mesh, batch: Option<&Batch>) -> Result<Option<Batch>, Error> {
    if mesh.replica.world_size() == 1 {
        return Ok(batch.map(Batch::share));
    }
    let told = if mesh.has_rows() {
        let mut bytes = batch
            .map_or(0, |batch| batch.rows as u64)
            .to_le_bytes()
            .to_vec();
        if let Some(batch) = batch {
            let labels = batch.labels.iter().map(Option::as_ref);
            let all: Vec<_> = labels.chain([batch.weights.as_ref()]).collect();
            bytes.extend(tensors_to_bytes(all.into_iter())?);
        }
        bytes
    } else {
        Vec::new()
    };
    let told = mesh.replica.broadcast_bytes(0, told)?;
    let (rows, rest) = told
        .split_first_chunk()
        .ok_or_else(|| Error::Panic("a replica was told of no batch".to_owned()))?;
    let rows = usize::try_from(u64::from_le_bytes(*rows)).unwrap_or(0);
    if rows == 0 {
        return Ok(None);
    }
    let inputs = match &mesh.parts {
        Some(parts) if mesh.place.stage == 0 => {
            let own = batch.map_or(Ok(Vec::new()), |batch| values_to_bytes(&batch.inputs))?;
            let told = lock(parts).0.broadcast_bytes(0, own)?;
            values_of_bytes(&told, Device::Cpu)?.0
        }
        _ => Vec::new(),
    };
    if let Some(batch) = batch {
        return Ok(Some(batch.share()));
    }
    let mut labels = tensors_of_bytes(rest)?;
    let weights = labels.pop().flatten();
    Ok(Some(Batch {
        rows,
        inputs,
        labels,
        weights,
    }))
}

/// A batch in so many parts of about the same size.
fn cut(batch: Option<&Batch>, parts: usize) -> Result<Vec<Batch>, Error> {
    let Some(batch) = batch else {
        return Ok(Vec::new());
    };
    let start = |part: usize| part * batch.rows / parts;
    (0..parts)
        .map(|part| batch.narrow(start(part), start(part + 1) - start(part)))
        .collect()
}

/// What a stage works on: the batch's inputs, or what the stage before hands on, on `device`, with what
/// that wants gradients of.
fn take(
    mesh: &mut Mesh,
    batch: &Batch,
    device: Device,
) -> Result<(Vec<Value>, Vec<Tensor>), Error> {
    match &mut mesh.before {
        Some(before) => values_of_bytes(&before.receive_from_above()?, device),
        None => Ok((batch.inputs.clone(), Vec::new())),
    }
}

/// What the layers of a pass add to the loss.
pub(super) fn added(pass: &Pass) -> Result<Option<Tensor>, Error> {
    match pass.losses.as_slice() {
        [] => Ok(None),
        losses => Ok(Some(Tensor::f_stack(losses, 0)?.f_sum(Kind::Float)?)),
    }
}

/// Refuses losses for which gradients were scaled in another way than they should have been, but for
/// `factor`.
fn check_slopes(used: &[Vec<f64>], known: &[f64], factor: f64) -> Result<(), Error> {
    let differs = |(used, known): (&f64, &f64)| {
        let due = known / factor;
        (used - due).abs() > TOLERANCE * due.abs().max(used.abs())
    };
    let mut all = used.iter().flat_map(|slopes| slopes.iter().zip(known));
    if all.any(differs) {
        return Err(Error::Config(
            "pipelineSchedule 1f1b needs losses that are means over all rows alike, but what divides \
             one here differs from part to part of a batch, as masks or padding bring about: set \
             pipelineSchedule to gpipe"
                .to_owned(),
        ));
    }
    Ok(())
}
