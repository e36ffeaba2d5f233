//! What one server holds: its part of the weights, with an optimizer of its own.

use crate::error::Error;
use crate::servers::message::{Numbers, Packed, Push, strange};
use crate::servers::parts::{self, Held};
use crate::servers::plan::Stretch;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::variables::{Variable, VariableStore};
use flambeau_keras::{IndexedSlices, Model, RowSums};
use std::ops::Range;

/// Stretches of a model's variables, one behind the other, and what updates them.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) store: VariableStore,
    pub(crate) optimizer: Optimizer,
    gradients: Vec<f32>,
    /// Of stretches whose rows are looked up, in their order.
    slices: Vec<IndexedSlices>,
    step: u64,
}

impl Shard {
    /// The stretches of `model` with zeros in them, and an optimizer like `optimizer` that has done
    /// nothing yet.
    ///
    /// # Errors
    /// [`Error::Keras`].
    pub(crate) fn zeros(
        model: &Model,
        optimizer: &Optimizer,
        stretches: Vec<Stretch>,
        threads: usize,
    ) -> Result<Self, Error> {
        let all = model.trainable().variables();
        let part = |stretch: &Stretch| {
            let mut variable: Variable = all[stretch.variable].clone();
            if let Some(rows) = variable.shape.first_mut() {
                *rows = i64::try_from(stretch.rows().len()).unwrap_or(0);
            }
            variable
        };
        let store = VariableStore::zeros(stretches.iter().map(part).collect(), false)?;
        let mut own = Optimizer::from_config(&optimizer.config(), &store)?;
        own.set_threads(threads);
        let of_model = model.indexed_slices(own.needs());
        let slices = store.spans().into_iter().zip(&stretches).enumerate();
        let slices = slices.filter_map(|(at, (span, stretch))| {
            let whole = of_model
                .iter()
                .find(|slices| slices.variable() == stretch.variable)?;
            Some(whole.of_rows(at, span))
        });
        Ok(Self {
            slices: slices.collect(),
            gradients: vec![0.0; store.len()],
            optimizer: own,
            store,
            stretches,
            step: 0,
        })
    }

    /// Gives what only servers have the values that `model` begins with.
    ///
    /// # Errors
    /// [`Error::Keras`].
    pub(crate) fn initialize(&mut self, model: &Model, seed: u64) -> Result<(), Error> {
        let spans = self.store.spans().into_iter();
        let own = spans.zip(&self.stretches);
        for (span, stretch) in own.filter(|(_, stretch)| stretch.by_row) {
            let part = stretch.elements.clone();
            self.store.change(|values| {
                model.initialize_part(stretch.variable, part, seed, &mut values[span])
            })??;
        }
        Ok(())
    }

    /// Updates since this server began.
    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    /// Goes on after so many updates.
    pub(crate) fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// What it holds, to be read or overwritten.
    pub(crate) fn held(&mut self) -> Held<'_> {
        Held {
            stretches: &self.stretches,
            store: &mut self.store,
            optimizer: &mut self.optimizer,
        }
    }

    /// Some elements of a variable.
    ///
    /// # Errors
    /// [`Error::Config`] if they are not here.
    pub(crate) fn piece(&self, variable: usize, elements: Range<usize>) -> Result<Stretch, Error> {
        let mut stretches = self.stretches.iter();
        let held = stretches.find(|one| {
            let (own, asked) = (&one.elements, &elements);
            one.variable == variable && own.start <= asked.start && asked.end <= own.end
        });
        let held = held.ok_or_else(|| strange("it asks for elements that are not here"))?;
        Ok(held.part(elements))
    }

    /// All that it holds of a piece.
    ///
    /// # Errors
    /// As [`parts::pack`].
    pub(crate) fn pack(&mut self, piece: &Stretch) -> Result<Vec<u8>, Error> {
        let step = self.step;
        parts::pack(&self.held(), std::slice::from_ref(piece), step)
    }

    /// Appends the weights of all stretches but those that travel by row.
    ///
    /// # Errors
    /// [`Error::Keras`].
    pub(crate) fn put_weights(&self, message: &mut Packed) -> Result<(), Error> {
        for (at, stretch) in self.stretches.iter().enumerate() {
            if !stretch.by_row {
                message.put(self.store.values(at)?);
            }
        }
        Ok(())
    }

    /// Some rows of a variable, the numbers of which follow.
    ///
    /// # Errors
    /// [`Error::Config`] for rows that are not here.
    pub(crate) fn rows(
        &self,
        variable: usize,
        count: usize,
        numbers: &mut Numbers<'_>,
    ) -> Result<Vec<u8>, Error> {
        let rows: Vec<u32> = numbers.take(count)?;
        let mut stretches = self.stretches.iter();
        let at = stretches.position(|one| one.variable == variable);
        let at = at.ok_or_else(|| strange("it asks for rows that are not here"))?;
        let (values, width) = (self.store.values(at)?, self.stretches[at].width);
        let mut message = Packed::new(&())?;
        for row in rows {
            let start = row as usize * width;
            let row = values.get(start..start + width);
            message.put(row.ok_or_else(|| strange("it asks for rows that are not here"))?);
        }
        Ok(message.into_bytes())
    }

    /// One update, with the gradients that `push` is the header of.
    ///
    /// # Errors
    /// Before any change, [`Error::Config`] if they are of another model; [`Error::Keras`].
    pub(crate) fn update(&mut self, push: &Push, numbers: &mut Numbers<'_>) -> Result<(), Error> {
        if push.reached.len() != self.stretches.len() || push.rows.len() != self.slices.len() {
            return Err(strange("it is of other variables"));
        }
        let mut looked_up = self.slices.iter_mut().zip(&push.rows).peekable();
        for (at, span) in self.store.spans().into_iter().enumerate() {
            let gradients = &mut self.gradients[span];
            let slices = looked_up.next_if(|(slices, _)| slices.variable() == at);
            match slices {
                _ if !push.reached[at] => {}
                None => numbers.take_into(gradients)?,
                Some((slices, &(count, squares))) => {
                    take_rows(slices, gradients, count, squares, numbers)?;
                }
            }
        }
        let (gradients, slices) = (&mut self.gradients, &mut self.slices);
        let optimizer = &mut self.optimizer;
        self.store
            .change(|weights| optimizer.apply_part(weights, gradients, slices, &push.reached))??;
        self.step += 1;
        Ok(())
    }
}

/// Takes the gradients of some rows; the others have none.
fn take_rows(
    slices: &mut IndexedSlices,
    gradients: &mut [f32],
    count: usize,
    squares: f32,
    numbers: &mut Numbers<'_>,
) -> Result<(), Error> {
    let width = slices.width();
    let rows: Vec<u32> = numbers.take(count)?;
    let rows: Vec<usize> = rows.into_iter().map(|row| row as usize).collect();
    let values: Vec<f32> = numbers.take(count.saturating_mul(width))?;
    let statistics = slices.statistics().len().min(count.saturating_mul(width));
    let statistics: Vec<f32> = numbers.take(statistics)?;
    slices.clear(gradients);
    // It refuses rows that are not there.
    slices.set(&rows, &statistics, squares)?;
    for (row, values) in rows.iter().zip(values.chunks(width.max(1))) {
        gradients[row * width..(row + 1) * width].copy_from_slice(values);
    }
    Ok(())
}

/// What a worker's batch came to, as servers take it.
#[derive(Debug)]
pub(crate) struct Computed<'a> {
    /// Which variables the loss reached.
    reached: &'a [bool],
    /// Of all variables that the worker has.
    gradients: &'a [f32],
    /// Of matrices whose rows are looked up: what is known of slices, and the sums for each row.
    looked_up: Vec<(&'a IndexedSlices, RowSums)>,
}

impl<'a> Computed<'a> {
    pub(crate) fn new(
        reached: &'a [bool],
        gradients: &'a [f32],
        slices: &'a [IndexedSlices],
    ) -> Self {
        let looked_up = slices.iter().map(|slices| match slices.is_elsewhere() {
            true => (slices, slices.row_sums()),
            false => (slices, sums_of(slices, &gradients[slices.span()])),
        });
        Self {
            reached,
            gradients,
            looked_up: looked_up.collect(),
        }
    }

    /// The header of what goes to a server with these stretches, of whose step `pulled` the weights were.
    pub(crate) fn header(&self, stretches: &[Stretch], pulled: u64) -> Push {
        let rows = stretches.iter().filter_map(|stretch| {
            let (slices, sums) = self.of(stretch)?;
            let count = match self.reached[stretch.variable] {
                true => within(sums, stretch).len(),
                false => 0,
            };
            Some((count, slices.sum_of_squares()))
        });
        let reached = stretches.iter().map(|one| self.reached[one.variable]);
        Push {
            reached: reached.collect(),
            rows: rows.collect(),
            pulled,
            next: false,
            place: None,
        }
    }

    /// Appends what follows the header.
    pub(crate) fn put(&self, stretches: &[Stretch], message: &mut Packed) {
        for stretch in stretches.iter().filter(|one| self.reached[one.variable]) {
            let Some((_, sums)) = self.of(stretch) else {
                message.put(&self.gradients[stretch.span.clone()]);
                continue;
            };
            let (rows, first) = (within(sums, stretch), stretch.rows().start);
            let numbers = sums.rows[rows.clone()].iter().map(|row| row - first);
            let numbers = numbers.map(|row| u32::try_from(row).unwrap_or(u32::MAX));
            message.put(&numbers.collect::<Vec<u32>>());
            let elements = rows.start * stretch.width..rows.end * stretch.width;
            message.put(&sums.gradients[elements.clone()]);
            if !sums.statistics.is_empty() {
                message.put(&sums.statistics[elements]);
            }
        }
    }

    fn of(&self, stretch: &Stretch) -> Option<&(&IndexedSlices, RowSums)> {
        let mut looked_up = self.looked_up.iter();
        looked_up.find(|(slices, _)| slices.variable() == stretch.variable)
    }
}

/// The gradient and the statistic of each row of a matrix that was looked up.
fn sums_of(slices: &IndexedSlices, gradient: &[f32]) -> RowSums {
    let mut rows = slices.rows().to_vec();
    rows.sort_unstable();
    rows.dedup();
    let width = slices.width();
    let each = |values: &[f32]| {
        let rows = rows.iter().map(|row| row * width..(row + 1) * width);
        let parts = rows.filter_map(|part| values.get(part));
        parts.flatten().copied().collect()
    };
    RowSums {
        gradients: each(gradient),
        statistics: each(slices.statistics()),
        rows,
    }
}

/// Which of the rows are of a stretch.
fn within(sums: &RowSums, stretch: &Stretch) -> Range<usize> {
    let rows = stretch.rows();
    let before = |end: usize| sums.rows.partition_point(|row| *row < end);
    before(rows.start)..before(rows.end)
}
