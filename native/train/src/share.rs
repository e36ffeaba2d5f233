//! One rank's share of what the second exchange of a step adds up.
//!
//! ```text
//! | gradients (flat) | moving statistics x rows | ranks that reached a variable | slices' squares |
//! ```
//!
//! Of a large matrix whose rows are looked up (`Embedding`), ranks exchange only the rows that any
//! of them looked up in this step: first which these are, then what belongs to them.

use crate::buckets::{Buckets, Leaving};
use crate::error::Error;
use flambeau_collective::{Communicator, Vector, Wire};
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{IndexedSlices, Model};
use std::ops::Range;
use std::time::Instant;

/// A matrix of fewer elements is exchanged whole: to agree on rows would cost more.
const LARGE: usize = 65_536;

/// The share of this rank, and after [`Share::sum`] that of all.
#[derive(Debug)]
pub(crate) struct Share {
    /// Empty while it is under way to other ranks, and if it was lost there.
    values: Vector,
    /// How it leaves while it is being made, if all of it does and that is worth it.
    buckets: Option<Buckets>,
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

/// What goes with the gradients: moving statistics times rows, and which variables losses reached.
#[derive(Debug)]
pub(crate) struct Rest(Vec<f32>);

impl Rest {
    /// That of a rank whose losses reached some variables, and whose `rows` the moving statistics
    /// came of.
    pub(crate) fn of(model: &Model, reached: &[bool], rows: f32) -> Self {
        let store = model.non_trainable().as_slice();
        let moving = moving_spans(model).into_iter();
        let moving = moving
            .flat_map(|span| &store[span])
            .map(|value| value * rows);
        let reached = reached.iter().map(|&reached| f32::from(u8::from(reached)));
        Self(moving.chain(reached).collect())
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
    /// That of a rank without rows.
    pub(crate) fn zeros(model: &Model, optimizer: &Optimizer) -> Self {
        let moving = moving_spans(model);
        let slices = model.indexed_slices(optimizer.needs());
        let gradients = model.trainable().len();
        let flags = gradients + moving.iter().map(Range::len).sum::<usize>();
        let squares = flags + model.trainable().variables().len();
        let spans = || Buckets::plan(model.trainable().spans());
        let whole = slices.is_empty() && !model.sums_over_replicas();
        Self {
            values: Vector::zeros(squares + slices.len()),
            buckets: whole.then(spans).flatten(),
            gradients,
            flags,
            squares,
            moving,
            slices,
            packed: Vec::new(),
        }
    }

    /// Leaves in one piece from now on.
    pub(crate) fn send_at_once(&mut self) {
        self.buckets = None;
    }

    /// Becomes that of a rank without rows.
    pub(crate) fn clear(&mut self) {
        self.values.as_mut_slice().fill(0.0);
        self.slices.iter_mut().for_each(IndexedSlices::clear);
    }

    /// The gradients, laid out as the model's trainable store, and their slices.
    pub(crate) fn gradients_mut(&mut self) -> (&mut [f32], &mut [IndexedSlices]) {
        let gradients = &mut self.values.as_mut_slice()[..self.gradients];
        (gradients, &mut self.slices)
    }

    /// Has a share leave for the other ranks while `make` makes it, which is given where gradients go
    /// and gives the rest; afterwards this is that of all ranks. Gives when it was made, or none if
    /// that is not how this share travels: then nothing has happened.
    ///
    /// # Errors
    /// Those of `make`, and [`Error::Collective`].
    pub(crate) fn sum_while_made(
        &mut self,
        communicator: &mut Communicator,
        wire: Wire,
        make: impl FnOnce(&mut Leaving<'_>) -> Result<Rest, Error>,
    ) -> Result<Option<Instant>, Error> {
        let Some(buckets) = &self.buckets else {
            return Ok(None);
        };
        let values = std::mem::replace(&mut self.values, Vector::zeros(0));
        let mut leaving = buckets.leave(values, communicator, wire);
        let rest = make(&mut leaving)?;
        let made = Instant::now();
        self.values = leaving.finish(|slots| {
            let values = rest.0.into_iter().chain(std::iter::repeat(0.0));
            slots
                .iter_mut()
                .zip(values)
                .for_each(|(slot, value)| *slot = value);
        })?;
        Ok(Some(made))
    }

    /// Takes what goes with the gradients: which variables this rank's losses reached, and the
    /// moving statistics that came of its rows.
    pub(crate) fn complete(&mut self, model: &Model, reached: &[bool], rows: f32) {
        let squares = self.slices.iter().map(IndexedSlices::sum_of_squares);
        let rest = Rest::of(model, reached, rows).0.into_iter().chain(squares);
        let slots = self.values.as_mut_slice()[self.gradients..].iter_mut();
        slots.zip(rest).for_each(|(slot, value)| *slot = value);
    }

    /// Adds up the shares of all ranks; gradients travel as `wire` says where all of them do.
    ///
    /// # Errors
    /// [`Error::Collective`], or another rank's matrices are larger.
    pub(crate) fn sum(&mut self, communicator: &mut Communicator, wire: Wire) -> Result<(), Error> {
        if self.slices.is_empty() && wire != Wire::Float32 {
            let (gradients, rest) = self.values.as_mut_slice().split_at_mut(self.gradients);
            communicator.allreduce_as(gradients, wire)?;
            return Ok(communicator.allreduce(rest)?);
        }
        if self.slices.is_empty() {
            return Ok(communicator.allreduce(self.values.as_mut_slice())?);
        }
        let stretches = self.agree(communicator)?;
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        self.each(&stretches, |part| packed.extend_from_slice(part));
        communicator.allreduce(&mut packed)?;
        let mut rest = packed.as_slice();
        self.each(&stretches, |part| {
            let (sums, after) = rest.split_at(part.len());
            part.copy_from_slice(sums);
            rest = after;
        });
        self.packed = packed;
        for (slices, &square) in self
            .slices
            .iter_mut()
            .zip(&self.values.as_slice()[self.squares..])
        {
            slices.set_sum_of_squares(square);
        }
        Ok(())
    }

    /// Which variables the losses of any rank reached.
    pub(crate) fn reached(&self) -> Vec<bool> {
        let flags = &self.values.as_slice()[self.flags..self.squares];
        flags.iter().map(|&flag| flag > 0.0).collect()
    }

    /// Gives the model the means of the ranks' moving statistics over `rows`.
    pub(crate) fn store_moving(&self, model: &mut Model, rows: f32) {
        let store = model.non_trainable_mut().as_mut_slice();
        let places = self.moving.iter().flat_map(Clone::clone);
        for (place, sum) in places.zip(&self.values.as_slice()[self.gradients..self.flags]) {
            store[place] = sum / rows;
        }
    }

    /// Lends all that is exchanged, part by part, given which stretches of each matrix are.
    fn each(&mut self, stretches: &[Vec<Range<usize>>], mut lend: impl FnMut(&mut [f32])) {
        let mut at = 0;
        let values = self.values.as_mut_slice();
        for (slices, stretches) in self.slices.iter_mut().zip(stretches) {
            let span = slices.span();
            lend(&mut values[at..span.start]);
            for stretch in stretches {
                lend(&mut values[span.clone()][stretch.clone()]);
                let statistics = slices.statistics_mut();
                if !statistics.is_empty() {
                    lend(&mut statistics[stretch.clone()]);
                }
            }
            at = span.end;
        }
        lend(&mut values[at..]);
    }

    /// Agrees with the other ranks on what is exchanged of each matrix.
    fn agree(&self, communicator: &mut Communicator) -> Result<Vec<Vec<Range<usize>>>, Error> {
        let is_large = |slices: &&IndexedSlices| slices.span().len() >= LARGE;
        let large: Vec<_> = self.slices.iter().filter(is_large).collect();
        let mut rows = vec![Vec::new(); large.len()];
        if !large.is_empty() {
            let own = encode(large.iter().map(|slices| slices.rows()));
            let heights = large
                .iter()
                .map(|slices| slices.span().len() / slices.width());
            let heights: Vec<_> = heights.collect();
            for (rank, of_rank) in communicator.allgather(&own)?.iter().enumerate() {
                decode(of_rank, &heights, &mut rows).map_err(|row| {
                    Error::Config(format!(
                        "rank {rank} looked up row {row} of an embedding that has no such row on \
                         this rank: all ranks must train the same model"
                    ))
                })?;
            }
        }
        let mut rows = rows.into_iter();
        let stretches = self.slices.iter().map(|slices| {
            if is_large(&slices) {
                stretches(distinct(rows.next().unwrap_or_default()), slices)
            } else {
                std::iter::once(0..slices.span().len()).collect()
            }
        });
        Ok(stretches.collect())
    }
}

/// Row numbers in order, each once.
fn distinct(mut rows: Vec<usize>) -> Vec<usize> {
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// For each matrix the number of its rows and these, as little-endian 64-bit numbers.
fn encode<'a>(matrices: impl Iterator<Item = &'a [usize]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for rows in matrices {
        let rows = distinct(rows.to_vec());
        for number in std::iter::once(rows.len()).chain(rows) {
            bytes.extend((number as u64).to_le_bytes());
        }
    }
    bytes
}

/// Adds the rows that another rank has encoded; fails with a row that the matrix, of as many rows
/// as `heights` says, does not have.
fn decode(bytes: &[u8], heights: &[usize], matrices: &mut [Vec<usize>]) -> Result<(), u64> {
    let (words, _) = bytes.as_chunks::<8>();
    let mut numbers = words.iter().map(|word| u64::from_le_bytes(*word));
    for (rows, &height) in matrices.iter_mut().zip(heights) {
        let count = numbers.next().unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for number in numbers.by_ref().take(count) {
            let row = usize::try_from(number).ok().filter(|&row| row < height);
            rows.push(row.ok_or(number)?);
        }
    }
    Ok(())
}

/// Where rows lie in their matrix; neighbours are one stretch.
fn stretches(rows: Vec<usize>, slices: &IndexedSlices) -> Vec<Range<usize>> {
    let width = slices.width();
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match stretches.last_mut() {
            Some(last) if last.end == row * width => last.end += width,
            _ => stretches.push(row * width..(row + 1) * width),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use flambeau_collective::{AbortHandle, Secret};
    use flambeau_keras::{Pass, Rng};
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
        let mut share = Share::zeros(&model, &optimizer);
        let mut pass = Pass::training(<Rng as rand_core::SeedableRng>::seed_from_u64(1));
        let ids = Tensor::from_slice(&[7_i32, 8, 49_999, 7, 7, 8]).view([2, 3]);
        let outputs = model.forward(&[ids.into()], &mut pass).unwrap();
        let loss = outputs[0].y().unwrap().sum(Kind::Double);
        let (gradients, slices) = share.gradients_mut();
        let reached = model.gradients(&pass, &loss, gradients, slices).unwrap();
        share.complete(&model, &reached, 2.0);

        let before = share.values.as_slice().to_vec();
        share.sum(&mut alone(), Wire::Float32).unwrap();
        // Three rows with their sums of squares, one flag and one norm.
        assert_eq!(share.packed.len(), 3 * 2 * 2 + 1 + 1);
        assert_eq!(share.values.as_slice(), before);
        assert_eq!(share.values.as_slice()[14..18], [3.0, 3.0, 2.0, 2.0]);
        assert_eq!(share.values.as_slice()[99_998..], [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(share.reached(), [true]);
    }

    #[test]
    fn rows_of_several_matrices_travel_in_one_message() {
        let own = [vec![5, 2, 5], vec![], vec![9]];
        let message = encode(own.iter().map(Vec::as_slice));
        let mut matrices = vec![vec![1], vec![], vec![]];
        decode(&message, &[10, 1, 10], &mut matrices).unwrap();
        assert_eq!(matrices, [vec![1, 2, 5], vec![], vec![9]]);
        // What is cut off is missing, no more.
        decode(&message[..12], &[10, 1, 10], &mut matrices).unwrap();
        assert_eq!(matrices, [vec![1, 2, 5], vec![], vec![9]]);
        assert_eq!(decode(&message, &[10, 1, 9], &mut matrices), Err(9));
    }
}
