//! How far a fit has come: what is told, how often, and how long the rest will take.

use crate::event::{Event, Logs};
use std::time::{Duration, Instant};

/// Between two step events.
const INTERVAL: Duration = Duration::from_millis(250);

/// Measures one fit, from its first epoch in this attempt.
#[derive(Debug)]
pub struct Progress {
    epochs: usize,
    expected_rows: Option<u64>,
    epoch: usize,
    started: Instant,
    told: Option<Instant>,
    /// Steps and seconds of the last complete epoch.
    last: Option<(u64, f64)>,
}

impl Progress {
    /// For a fit of `epochs` epochs over a data set of `expected_rows`, if known.
    pub fn new(epochs: usize, expected_rows: Option<u64>) -> Self {
        Self {
            epochs,
            expected_rows,
            epoch: 0,
            started: Instant::now(),
            told: None,
            last: None,
        }
    }

    /// Epoch `epoch`, counted from 1, begins.
    pub fn start_epoch(&mut self, epoch: usize) {
        self.epoch = epoch;
        self.started = Instant::now();
    }

    /// Seconds since the epoch began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// `steps` steps over `rows` rows are done in this epoch: an event if the last one is long
    /// enough ago.
    pub fn step(&mut self, steps: u64, rows: u64, logs: impl FnOnce() -> Logs) -> Option<Event> {
        if self.told.is_some_and(|told| told.elapsed() < INTERVAL) {
            return None;
        }
        self.told = Some(Instant::now());
        let seconds = self.seconds();
        Some(Event::Step {
            epoch: self.epoch,
            epochs: self.epochs,
            step: steps,
            steps: self.last.map(|(steps, _)| steps),
            logs: logs(),
            rows_per_second: rows as f64 / seconds.max(1e-9),
            seconds_left: self.seconds_left(steps, rows, seconds),
        })
    }

    /// The epoch is over after `steps` steps.
    pub fn end_epoch(&mut self, steps: u64) {
        self.last = Some((steps, self.seconds()));
    }

    fn seconds_left(&self, steps: u64, rows: u64, seconds: f64) -> Option<f64> {
        let epochs_after = self.epochs.saturating_sub(self.epoch) as f64;
        let whole_epoch = match (self.last, self.expected_rows) {
            (Some((all_steps, _)), _) => seconds * all_steps as f64 / steps as f64,
            (None, Some(all_rows)) => seconds * all_rows as f64 / rows as f64,
            (None, None) => return None,
        };
        Some((whole_epoch - seconds).max(0.0) + epochs_after * whole_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_told_and_the_next_only_after_a_while() {
        let mut progress = Progress::new(2, None);
        progress.start_epoch(1);
        assert!(progress.step(1, 64, Logs::new).is_some());
        assert!(progress.step(2, 128, Logs::new).is_none());
    }

    #[test]
    fn the_time_left_counts_the_epochs_to_come() {
        let mut progress = Progress::new(3, Some(1000));
        progress.start_epoch(1);
        assert_eq!(progress.seconds_left(1, 100, 2.0), Some(18.0 + 40.0));
        progress.last = Some((10, 20.0));
        progress.start_epoch(3);
        assert_eq!(progress.seconds_left(5, 500, 4.0), Some(4.0));
        assert_eq!(Progress::new(1, None).seconds_left(1, 64, 1.0), None);
    }
}
