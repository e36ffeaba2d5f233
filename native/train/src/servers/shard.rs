//! What one server holds: its part of the weights, with an optimizer of its own.

use crate::error::Error;
use crate::servers::message::{Numbers, Packed, Push, strange};
use crate::servers::parts::{self, Held};
use crate::servers::plan::Stretch;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::variables::{Variable, VariableStore};
use flambeau_keras::{IndexedSlices, Model};

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

    /// All that it holds.
    ///
    /// # Errors
    /// As [`parts::pack`].
    pub(crate) fn pack(&mut self) -> Result<Vec<u8>, Error> {
        let (step, stretches) = (self.step, self.stretches.clone());
        parts::pack(&self.held(), &stretches, step)
    }

    /// Appends the weights of all stretches but those that travel by row.
    pub(crate) fn put_weights(&self, message: &mut Packed) {
        for (at, stretch) in self.stretches.iter().enumerate() {
            if !stretch.by_row {
                message.put(self.store.values(at));
            }
        }
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
        let (values, width) = (self.store.values(at), self.stretches[at].width);
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
        let rests = self.optimizer.rests();
        let mut looked_up = self.slices.iter_mut().zip(&push.rows).peekable();
        for (at, span) in self.store.spans().into_iter().enumerate() {
            let gradients = &mut self.gradients[span];
            let slices = looked_up.next_if(|(slices, _)| slices.variable() == at);
            match slices {
                _ if !push.reached[at] => {}
                None => numbers.take_into(gradients)?,
                Some((slices, &(count, squares))) => {
                    take_rows(slices, gradients, count, squares, numbers, rests)?;
                }
            }
        }
        let weights = self.store.as_mut_slice();
        let (gradients, slices) = (&mut self.gradients, &mut self.slices);
        self.optimizer
            .apply_part(weights, gradients, slices, &push.reached)?;
        self.step += 1;
        Ok(())
    }
}

/// Takes the gradients of some rows; the others have none, or with `rests` are not looked at.
fn take_rows(
    slices: &mut IndexedSlices,
    gradients: &mut [f32],
    count: usize,
    squares: f32,
    numbers: &mut Numbers<'_>,
    rests: bool,
) -> Result<(), Error> {
    let width = slices.width();
    let rows: Vec<u32> = numbers.take(count)?;
    let rows: Vec<usize> = rows.into_iter().map(|row| row as usize).collect();
    let values: Vec<f32> = numbers.take(count.saturating_mul(width))?;
    let statistics = slices.statistics().len().min(count.saturating_mul(width));
    let statistics: Vec<f32> = numbers.take(statistics)?;
    // It refuses rows that are not there.
    slices.set(&rows, &statistics, squares)?;
    if !rests {
        gradients.fill(0.0);
    }
    for (row, values) in rows.iter().zip(values.chunks(width.max(1))) {
        gradients[row * width..(row + 1) * width].copy_from_slice(values);
    }
    Ok(())
}

/// Appends what a server with these stretches takes of all `gradients`; gives the header's rows.
pub(crate) fn put_gradients(
    stretches: &[Stretch],
    reached: &[bool],
    gradients: &[f32],
    slices: &[IndexedSlices],
    message: &mut Packed,
) {
    for stretch in stretches.iter().filter(|one| reached[one.variable]) {
        let slices = slices
            .iter()
            .find(|slices| slices.variable() == stretch.variable);
        let Some(slices) = slices else {
            message.put(&gradients[stretch.span.clone()]);
            continue;
        };
        let (rows, width) = (rows_in(stretch, slices), stretch.width);
        let first = stretch.rows().start;
        let numbers: Vec<u32> = rows
            .iter()
            .map(|row| u32::try_from(row - first).unwrap_or(u32::MAX))
            .collect();
        message.put(&numbers);
        let variable = stretch.span.start - stretch.elements.start;
        for row in &rows {
            let start = variable + row * width;
            message.put(&gradients[start..start + width]);
        }
        let statistics = slices.statistics();
        if !statistics.is_empty() {
            for row in &rows {
                message.put(&statistics[row * width..(row + 1) * width]);
            }
        }
    }
}

/// Of each stretch whose rows are looked up, how many rows a message has, and the squares of all.
pub(crate) fn row_counts(
    stretches: &[Stretch],
    reached: &[bool],
    slices: &[IndexedSlices],
) -> Vec<(usize, f32)> {
    let counts = stretches.iter().filter_map(|stretch| {
        let slices = slices
            .iter()
            .find(|slices| slices.variable() == stretch.variable)?;
        let count = match reached[stretch.variable] {
            true => rows_in(stretch, slices).len(),
            false => 0,
        };
        Some((count, slices.sum_of_squares()))
    });
    counts.collect()
}

/// The rows of a stretch that were looked up, in order, each once.
fn rows_in(stretch: &Stretch, slices: &IndexedSlices) -> Vec<usize> {
    let within = stretch.rows();
    let rows = slices.rows().iter().copied();
    let mut rows: Vec<usize> = rows.filter(|row| within.contains(row)).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}
