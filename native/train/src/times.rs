//! Where the time of a rank's steps goes.

use std::time::{Duration, Instant};

/// The parts of steps, added up.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepTimes {
    /// Outputs, losses and metrics of a batch.
    pub forward: Duration,
    /// Waiting for, and adding up, what all ranks lost.
    pub agreement: Duration,
    /// Gradients, brought into one buffer.
    pub backward: Duration,
    /// Waiting for, and adding up, the gradients of all ranks.
    pub exchange: Duration,
    /// The optimizer's rule.
    pub update: Duration,
}

/// Splits the time since it was made.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Adds the time since the last split to `part`.
    pub(crate) fn split(&mut self, part: &mut Duration) {
        self.split_at(Instant::now(), part);
    }

    /// Adds the time from the last split to `end` to `part`.
    pub(crate) fn split_at(&mut self, end: Instant, part: &mut Duration) {
        *part += end.saturating_duration_since(self.0);
        self.0 = end;
    }
}
