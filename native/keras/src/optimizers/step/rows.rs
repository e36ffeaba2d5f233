//! Updates of single rows, of matrices whose rows are looked up: where the rule leaves what has no
//! gradient alone, the others need not be looked at.

use super::super::Optimizer;
use super::super::part::Part;
use super::super::rule::{Piece, Step};
use crate::error::Result;
use crate::indexed_slices::IndexedSlices;

impl Optimizer {
    /// Whether a step leaves every element as it is that has a gradient of zero, and so has all that
    /// belongs to it.
    pub fn rests(&self) -> bool {
        self.rule.rests()
            && self.is_elementwise()
            && self.weight_decay.is_none()
            && !self.average.is_kept
            && self.accumulation_steps.is_none()
    }

    /// The next step of the rows that `slices` know, given all parameters and gradients of their
    /// variable.
    pub(super) fn update_rows(
        &mut self,
        slices: &IndexedSlices,
        params: &mut [f32],
        grads: &[f32],
    ) -> Result<()> {
        let (variable, width, rows) = (slices.variable(), slices.width(), slices.rows());
        let places = |row: &usize| row * width..(row + 1) * width;
        let taken = |from: &[f32]| -> Vec<f32> {
            let parts = rows.iter().filter_map(|row| from.get(places(row)));
            parts.flatten().copied().collect()
        };
        let preparation = self.preparation(1.0);
        let step = Step {
            number: (self.iterations() + 1) as f32,
            learning_rate: self.learning_rate.at(self.iterations),
            shared: self.shared,
            threads: 1,
        };
        let (mut own, mut gradients) = (taken(params), taken(grads));
        let mut statistics = taken(slices.statistics());
        let state = &mut self.states[variable];
        let mut slots: Vec<Vec<f32>> = state.slots.iter().map(|slot| taken(&slot.values)).collect();
        let mut lent = slots.iter_mut();
        let piece = Piece {
            shape: &self.variables[variable].shape,
            grads: &mut gradients,
            params: &mut own,
            slots: std::array::from_fn(|_| lent.next().map(Vec::as_mut_slice).unwrap_or_default()),
            statistics: &mut statistics,
        };
        let mut part = Part {
            variable,
            piece,
            average: &mut [],
            accumulator: &mut [],
        };
        preparation.apply(&mut part);
        self.rule.update(&step, part.piece)?;
        let put = |values: &[f32], into: &mut [f32]| {
            for (row, values) in rows.iter().zip(values.chunks(width.max(1))) {
                into[places(row)].copy_from_slice(values);
            }
        };
        put(&own, params);
        for (slot, values) in state.slots.iter_mut().zip(&slots) {
            put(values, &mut slot.values);
        }
        Ok(())
    }
}
