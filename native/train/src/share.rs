//! One rank's share of what the second exchange of a step adds up.
//!
//! ```text
//! | gradients (flat) | moving statistics x rows | ranks that reached a variable | slices' squares |
//! ```
//!
//! Of a large matrix whose rows are looked up (`Embedding`), ranks exchange only the rows that any
//! of them looked up in this step: first which these are, then what belongs to them (`rows`).
//!
//! The gradients of a large model leave in buckets while they are made. Where rows are looked up, the
//! ranks agree on these meanwhile, and what belongs to them leaves last, with the rest. Those of a
//! model whose passes exchange sums leave at once, as its own exchanges must come in one order with
//! these; and so they do where all ranks share memory: there a sum takes less than the backward pass
//! loses to a second thread. Where each rank only needs a part of the sums, that is all it gets.

use crate::buckets::{Buckets, Held, Leaving, WORTH_IT};
use crate::error::Error;
use crate::rows::{Exchanged, is_large};
use flambeau_collective::{Communicator, Vector, Wire};
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{IndexedSlices, Model, Pass};
use std::ops::Range;
use std::time::Instant;

/// The share of this rank, and after [`Share::sum`] that of all.
#[derive(Debug)]
pub(crate) struct Share {
    /// Empty while it is under way to other ranks, and if it was lost there.
    values: Vector,
    /// How it leaves while it is being made, if it does and that is worth it.
    buckets: Option<Buckets>,
    /// Whether each rank wants its part of the gradients' sums, and no more.
    scatters: bool,
    /// Where the moving statistics begin.
    gradients: usize,
    /// Where the flags of reached variables begin.
    flags: usize,
    /// Where the slices' squares begin.
    squares: usize,
    /// Where the moving statistics lie in the store of non-trainable variables.
    moving: Vec<Range<usize>>,
    /// Of variables whose rows are looked up, in the order of the gradients.
    slices: Vec<IndexedSlices>,
    /// What is exchanged in place of the values where there are slices.
    packed: Vec<f32>,
}

/// A stretch of the gradients and the part of every rank of it, counted from its beginning.
pub(crate) type Region = (Range<usize>, Vec<Range<usize>>);

/// What goes with the gradients: moving statistics times rows, and which variables losses reached.
#[derive(Debug)]
pub(crate) struct Rest(Vec<f32>);

impl Rest {
    /// That of a rank whose losses reached some variables, and whose `rows` the moving statistics
    /// came of.
    pub(crate) fn of(model: &Model, reached: &[bool], rows: f32) -> Result<Self, Error> {
        let store = model.non_trainable().as_slice()?;
        let moving = moving_spans(model).into_iter();
        let moving = moving
            .flat_map(|span| &store[span])
            .map(|value| value * rows);
        let reached = reached.iter().map(|&reached| f32::from(u8::from(reached)));
        Ok(Self(moving.chain(reached).collect()))
    }

    /// That of a rank without rows.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }
}

/// Where the moving statistics lie in the store of non-trainable variables.
pub(crate) fn moving_spans(model: &Model) -> Vec<Range<usize>> {
    let spans = model.non_trainable().spans();
    let moving = model.moving().iter().map(|&index| spans[index].clone());
    moving.collect()
}

impl Share {
    /// That of a rank without rows. Every rank must call this: the numbers lie where all ranks see
    /// them, if there is such memory.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn zeros(
        model: &Model,
        optimizer: &Optimizer,
        communicator: &mut Communicator,
    ) -> Result<Self, Error> {
        let moving = moving_spans(model);
        let slices = model.indexed_slices(optimizer.needs());
        let gradients = model.trainable().len();
        let flags = gradients + moving.iter().map(Range::len).sum::<usize>();
        let squares = flags + model.trainable().variables().len();
        let held: Vec<_> = slices.iter().map(IndexedSlices::variable).collect();
        let plan = || Buckets::plan(model.trainable().spans(), &held);
        let values = communicator.allocate(squares + slices.len())?;
        let apart = !model.sums_over_replicas() && !values.is_shared();
        Ok(Self {
            values,
            buckets: apart.then(plan).flatten(),
            scatters: false,
            gradients,
            flags,
            squares,
            moving,
            slices,
            packed: Vec::new(),
        })
    }

    /// Leaves in one piece from now on, and comes back whole.
    pub(crate) fn send_at_once(&mut self) {
        self.buckets = None;
        self.scatters = false;
    }

    /// Leaves each rank its parts of the gradients' sums from now on, where it pays that the others do
    /// not travel: the regions that the gradients consist of, one behind the other, each with the part
    /// of every rank. A matrix of which rows are exchanged is a region, and its parts are of whole rows.
    pub(crate) fn scatter(&mut self, communicator: &Communicator) -> Vec<Region> {
        self.scatters = self.gradients >= WORTH_IT;
        let regions = match &self.buckets {
            Some(buckets) => buckets.regions(),
            None if self.slices.is_empty() => {
                let parts = communicator.parts(self.values.as_slice().len()).into_iter();
                let gradients = |end: usize| end.min(self.gradients);
                let parts = parts.map(|part| gradients(part.start)..gradients(part.end));
                return vec![(0..self.gradients, parts.collect())];
            }
            None => std::iter::once(0..self.gradients).collect(),
        };
        let even = |span: Range<usize>| (span.clone(), communicator.parts(span.len()));
        let mut all = Vec::new();
        for Range { mut start, end } in regions {
            let inside = self.by_rows().filter(|slices| {
                let span = slices.span();
                start <= span.start && span.end <= end
            });
            for slices in inside.collect::<Vec<_>>() {
                let (span, width) = (slices.span(), slices.width());
                let rows = communicator.parts(span.len() / width).into_iter();
                let rows = rows.map(|rows| rows.start * width..rows.end * width);
                all.push(even(start..span.start));
                all.push((span.clone(), rows.collect()));
                start = span.end;
            }
            all.push(even(start..end));
        }
        all.retain(|(span, _)| !span.is_empty());
        all
    }

    /// What is known of matrices of which only rows that were looked up are exchanged.
    pub(crate) fn by_rows(&self) -> impl Iterator<Item = &IndexedSlices> {
        self.slices.iter().filter(|slices| is_large(slices))
    }

    /// Becomes that of a rank without rows.
    pub(crate) fn clear(&mut self) {
        let values = self.values.as_mut_slice();
        let mut at = 0;
        for slices in &mut self.slices {
            let span = slices.span();
            values[at..span.start].fill(0.0);
            slices.clear(&mut values[span.clone()]);
            at = span.end;
        }
        values[at..].fill(0.0);
    }

    /// Has zeros in the gradients of matrices whose rows are looked up.
    pub(crate) fn clear_slices(&mut self) {
        clear_each(&mut self.slices, self.values.as_mut_slice());
    }

    /// The gradients, laid out as the model's trainable store, and their slices.
    pub(crate) fn gradients_mut(&mut self) -> (&mut [f32], &mut [IndexedSlices]) {
        let gradients = &mut self.values.as_mut_slice()[..self.gradients];
        (gradients, &mut self.slices)
    }

    /// The rows that a pass looked up, of each matrix, where they are to be known before the gradients.
    ///
    /// # Errors
    /// [`Error::Keras`].
    pub(crate) fn looked_up(&self, model: &Model, pass: &Pass) -> Result<Vec<Vec<usize>>, Error> {
        match self.buckets {
            Some(_) => Ok(model.looked_up(pass, &self.slices)?),
            None => Ok(Vec::new()),
        }
    }

    /// Has a share leave for the other ranks while `make` makes it, which is given where gradients go,
    /// what the share knows of slices and how, and gives the rest; afterwards this is that of all ranks.
    /// `looked_up` are the rows that this rank's pass looked up, of each matrix. Gives when it was made,
    /// or none if that is not how this share travels: then nothing has happened.
    ///
    /// # Errors
    /// Those of `make`, [`Error::Collective`], or another rank's matrices are larger.
    pub(crate) fn sum_while_made(
        &mut self,
        communicator: &mut Communicator,
        wire: Wire,
        looked_up: &[Vec<usize>],
        make: impl FnOnce(&mut Leaving<'_>, &mut [IndexedSlices]) -> Result<Rest, Error>,
    ) -> Result<Option<Instant>, Error> {
        let Some(buckets) = &self.buckets else {
            return Ok(None);
        };
        let mut values = std::mem::take(&mut self.values);
        clear_each(&mut self.slices, values.as_mut_slice());
        if self.slices.is_empty() {
            let mut leaving = buckets.leave(values, communicator, wire, self.scatters);
            let rest = make(&mut leaving, &mut [])?;
            let made = Instant::now();
            self.values = leaving.finish(|slots| fill(slots, rest.0))?;
            return Ok(Some(made));
        }
        let agreed = Exchanged::start(&self.slices, looked_up, communicator)?;
        let mut leaving = buckets.leave(values, communicator, Wire::Float32, self.scatters);
        let rest = make(&mut leaving, &mut self.slices)?;
        let made = Instant::now();
        let (slices, packed, length) = (
            &mut self.slices,
            &mut self.packed,
            self.squares - self.gradients,
        );
        self.values = leaving.finish_with(|held, communicator| {
            let squares = slices.iter().map(IndexedSlices::sum_of_squares);
            let mut others = rest.0;
            others.resize(length, 0.0);
            fill(held.rest(), others.into_iter().chain(squares));
            let exchanged = agreed.wait(slices)?;
            packed.clear();
            each_held(held, slices, &exchanged, |part| {
                packed.extend_from_slice(part)
            });
            communicator.allreduce(packed)?;
            let mut rest = packed.as_slice();
            each_held(held, slices, &exchanged, |part| take(part, &mut rest));
            Ok(())
        })?;
        self.take_squares();
        Ok(Some(made))
    }

    /// Takes what goes with the gradients: which variables this rank's losses reached, and the
    /// moving statistics that came of its rows.
    pub(crate) fn complete(
        &mut self,
        model: &Model,
        reached: &[bool],
        rows: f32,
    ) -> Result<(), Error> {
        let squares = self.slices.iter().map(IndexedSlices::sum_of_squares);
        let rest = Rest::of(model, reached, rows)?.0.into_iter().chain(squares);
        let slots = self.values.as_mut_slice()[self.gradients..].iter_mut();
        slots.zip(rest).for_each(|(slot, value)| *slot = value);
        Ok(())
    }

    /// Adds up the shares of all ranks; gradients travel as `wire` says where all of them do, and only
    /// their parts to each rank where that is what it wants.
    ///
    /// # Errors
    /// [`Error::Collective`], or another rank's matrices are larger.
    pub(crate) fn sum(&mut self, communicator: &mut Communicator, wire: Wire) -> Result<(), Error> {
        if self.slices.is_empty() && wire != Wire::Float32 {
            let (gradients, rest) = self.values.as_mut_slice().split_at_mut(self.gradients);
            communicator.allreduce_as(gradients, wire)?;
            return Ok(communicator.allreduce(rest)?);
        }
        if self.slices.is_empty() && self.scatters {
            let values = self.values.as_mut_slice();
            communicator.reduce_scatter(values)?;
            let rest = communicator.parts(values.len()).into_iter();
            let behind = |end: usize| end.saturating_sub(self.gradients);
            let rest: Vec<_> = rest
                .map(|part| behind(part.start)..behind(part.end))
                .collect();
            return Ok(communicator.gather(&mut values[self.gradients..], &rest)?);
        }
        if self.slices.is_empty() {
            return Ok(communicator.allreduce(self.values.as_mut_slice())?);
        }
        let looked_up: Vec<_> = self
            .slices
            .iter()
            .map(|slices| slices.rows().to_vec())
            .collect();
        let agreed = Exchanged::start(&self.slices, &looked_up, communicator)?;
        let exchanged = agreed.wait(&mut self.slices)?;
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        self.each(&exchanged, |part| packed.extend_from_slice(part));
        communicator.allreduce(&mut packed)?;
        let mut rest = packed.as_slice();
        self.each(&exchanged, |part| take(part, &mut rest));
        self.packed = packed;
        self.take_squares();
        Ok(())
    }

    /// Gives the slices the sums of their squares over all ranks.
    fn take_squares(&mut self) {
        let squares = &self.values.as_slice()[self.squares..];
        for (slices, &square) in self.slices.iter_mut().zip(squares) {
            slices.set_sum_of_squares(square);
        }
    }

    /// Which variables the losses of any rank reached.
    pub(crate) fn reached(&self) -> Vec<bool> {
        let flags = &self.values.as_slice()[self.flags..self.squares];
        flags.iter().map(|&flag| flag > 0.0).collect()
    }

    /// Gives the model the means of the ranks' moving statistics over `rows`.
    pub(crate) fn store_moving(&self, model: &mut Model, rows: f32) -> Result<(), Error> {
        let stored = model.non_trainable_mut().change(|store| {
            let places = self.moving.iter().flat_map(Clone::clone);
            for (place, sum) in places.zip(&self.values.as_slice()[self.gradients..self.flags]) {
                store[place] = sum / rows;
            }
        });
        Ok(stored?)
    }

    /// Lends all that is exchanged, part by part, given which stretches of each matrix are.
    fn each(&mut self, stretches: &[Vec<Range<usize>>], mut lend: impl FnMut(&mut [f32])) {
        let mut at = 0;
        let values = self.values.as_mut_slice();
        for (slices, stretches) in self.slices.iter_mut().zip(stretches) {
            let span = slices.span();
            lend(&mut values[at..span.start]);
            each_of(slices, &mut values[span.clone()], stretches, &mut lend);
            at = span.end;
        }
        lend(&mut values[at..]);
    }
}

/// Has zeros in the gradients that slices are of.
fn clear_each(slices: &mut [IndexedSlices], gradients: &mut [f32]) {
    for slices in slices {
        slices.clear(&mut gradients[slices.span()]);
    }
}

/// Lends what is exchanged of a share but for what leaves in buckets.
fn each_held(
    held: &mut Held<'_>,
    slices: &mut [IndexedSlices],
    stretches: &[Vec<Range<usize>>],
    mut lend: impl FnMut(&mut [f32]),
) {
    for (slices, stretches) in slices.iter_mut().zip(stretches) {
        let gradient = held.of(slices.variable());
        each_of(slices, gradient, stretches, &mut lend);
    }
    lend(held.rest());
}

/// Lends stretches of a matrix' gradient, and of what goes with it.
fn each_of(
    slices: &mut IndexedSlices,
    gradient: &mut [f32],
    stretches: &[Range<usize>],
    lend: &mut impl FnMut(&mut [f32]),
) {
    for stretch in stretches {
        lend(&mut gradient[stretch.clone()]);
        let statistics = slices.statistics_mut();
        if !statistics.is_empty() {
            lend(&mut statistics[stretch.clone()]);
        }
    }
}

/// Fills slots with values, and what remains with zeros.
fn fill(slots: &mut [f32], values: impl IntoIterator<Item = f32>) {
    let values = values.into_iter().chain(std::iter::repeat(0.0));
    slots
        .iter_mut()
        .zip(values)
        .for_each(|(slot, value)| *slot = value);
}

/// Takes the next values.
fn take(part: &mut [f32], rest: &mut &[f32]) {
    let (values, after) = rest.split_at(part.len());
    part.copy_from_slice(values);
    *rest = after;
}

#[cfg(test)]
mod tests {
    use super::*;
    use flambeau_collective::{AbortHandle, Secret};
    use flambeau_keras::Rng;
    use serde_json::json;
    use tch::{Kind, Tensor};

    fn alone() -> Communicator {
        let config = json!({
            "run_id": "share", "stage_id": 0, "stage_attempt": 0, "rank": 0, "world_size": 1,
            "hosts": ["127.0.0.1"], "bind_host": "127.0.0.1", "port": 0, "port_retries": 0,
            "rendezvous_timeout_ms": 1000, "progress_timeout_ms": 1000});
        let config = serde_json::from_value(config).unwrap();
        Communicator::connect(&config, &Secret::new([0; 32]), &AbortHandle::default()).unwrap()
    }

    #[test]
    fn of_a_large_matrix_only_rows_that_were_looked_up_are_exchanged() {
        let config = json!({"class_name": "Sequential", "config": {"name": "net", "layers": [
            {"class_name": "InputLayer", "config": {
                "name": "ids", "batch_shape": [null, 3], "dtype": "int32"}},
            {"class_name": "Embedding", "config": {
                "name": "embedding", "input_dim": 50_000, "output_dim": 2}}]}});
        let mut model = Model::from_json(&config.to_string()).unwrap();
        model.initialize(1).unwrap();
        let optimizer = Optimizer::from_config(&json!("adam"), model.trainable()).unwrap();
        let mut share = Share::zeros(&model, &optimizer, &mut alone()).unwrap();
        let mut pass = Pass::training(<Rng as rand_core::SeedableRng>::seed_from_u64(1));
        let ids = Tensor::from_slice(&[7_i32, 8, 49_999, 7, 7, 8]).view([2, 3]);
        let outputs = model.forward(&[ids.into()], &mut pass).unwrap();
        let loss = outputs[0].y().unwrap().sum(Kind::Double);
        let (gradients, slices) = share.gradients_mut();
        let reached = model.gradients(&pass, &loss, gradients, slices).unwrap();
        share.complete(&model, &reached, 2.0).unwrap();

        let before = share.values.as_slice().to_vec();
        share.sum(&mut alone(), Wire::Float32).unwrap();
        // Three rows with their sums of squares, one flag and one norm.
        assert_eq!(share.packed.len(), 3 * 2 * 2 + 1 + 1);
        assert_eq!(share.values.as_slice(), before);
        assert_eq!(share.values.as_slice()[14..18], [3.0, 3.0, 2.0, 2.0]);
        assert_eq!(share.values.as_slice()[99_998..], [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(share.reached(), [true]);
    }
}
