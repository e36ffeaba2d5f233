//! What ranks add up between the forward and the backward pass of a step.

use crate::objective::Objective;

/// The sums of the first exchange, first of this rank, then of all.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// In the order of the methods that read them.
    values: Vec<f64>,
    /// How many of them belong to losses.
    losses: usize,
}

impl Exchange {
    /// The sums of no rows.
    pub(crate) fn zeros(objective: &Objective) -> Self {
        let losses = objective.loss_count();
        Self {
            values: vec![0.0; losses + 3 + objective.metric_count()],
            losses,
        }
    }

    /// Sums of each loss over rows and what divides them, as [`Objective::loss_sums`] gives them.
    pub(crate) fn losses(&self) -> &[f64] {
        &self.values[..self.losses]
    }

    /// Sum over ranks of added losses times rows.
    pub(crate) fn added(&self) -> f64 {
        self.values[self.losses]
    }

    /// Rows of the batch.
    pub(crate) fn rows(&self) -> f64 {
        self.values[self.losses + 1]
    }

    /// How many ranks have rows left in the epoch.
    pub(crate) fn more(&self) -> f64 {
        self.values[self.losses + 2]
    }

    /// The metrics' sums, one after the other, as [`Objective::metric_sums`] gives them.
    pub(crate) fn metrics(&self) -> &[f64] {
        &self.values[self.losses + 3..]
    }

    /// Says whether this rank has rows left in the epoch.
    pub(crate) fn set_more(&mut self, more: bool) {
        self.values[self.losses + 2] = if more { 1.0 } else { 0.0 };
    }

    /// What the ranks add up.
    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Adds what the layers of an earlier stage add to the loss, times rows that the last one counts.
    pub(crate) fn add_beside(&mut self, added: f64) {
        self.values[self.losses] += added;
    }

    /// Adds the sums of one pass over `rows` rows; `added` is the mean of the layers' added losses.
    pub(crate) fn add(&mut self, losses: &[f64], added: f64, rows: f64, metrics: &[f64]) {
        add(&mut self.values[..self.losses], losses);
        self.values[self.losses] += added * rows;
        self.values[self.losses + 1] += rows;
        add(&mut self.values[self.losses + 3..], metrics);
    }
}

/// Adds values to sums.
pub(crate) fn add(sums: &mut [f64], values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}
