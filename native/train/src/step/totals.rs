//! What steps come to, summed over rows.

use crate::exchange::add;
use serde::{Deserialize, Serialize};

/// Sums over rows: of one step over all ranks, or of several steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Loss times rows: of the whole, then of each loss that is logged by name.
    pub losses: Vec<f64>,
    /// Rows.
    pub rows: f64,
    /// The metrics' sums, one after the other.
    pub metrics: Vec<f64>,
}

impl Totals {
    /// Adds another step's sums.
    pub fn add(&mut self, other: &Totals) {
        add(&mut self.losses, &other.losses);
        self.rows += other.rows;
        add(&mut self.metrics, &other.metrics);
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
