//! How far a fit has come: what is told, how often, and how long the rest will take.

use crate::config;
use crate::event::{Event, Logs};
use crate::resume::Unfinished;
use std::time::{Duration, Instant};

/// Between two step events.
const INTERVAL: Duration = Duration::from_millis(250);

/// Measures one fit, from its first epoch in this attempt.
#[derive(Debug)]
pub struct Progress {
    epochs: Option<usize>,
    steps_per_epoch: Option<u64>,
    max_steps: Option<u64>,
    expected_rows: Option<u64>,
    epoch: usize,
    started: Instant,
    told: Option<Instant>,
    /// Steps that this epoch had when it started here: not none if it was resumed.
    before: u64,
    /// Steps of the last complete epoch.
    last: Option<u64>,
}

impl Progress {
    /// For a fit with these settings.
    pub fn new(settings: &config::Fit) -> Self {
        Self {
            epochs: settings.epochs,
            steps_per_epoch: settings.steps_per_epoch,
            max_steps: settings.max_steps,
            expected_rows: settings.expected_rows,
            epoch: 0,
            started: Instant::now(),
            told: None,
            before: 0,
            last: None,
        }
    }

    /// Epoch `epoch`, counted from 1, begins, or goes on after `before` steps.
    pub fn start_epoch(&mut self, epoch: usize, before: u64) {
        self.epoch = epoch;
        self.before = before;
        self.started = Instant::now();
    }

    /// Seconds since the epoch began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The epoch has come to `epoch` and the fit to `step`: an event if the last one is long enough
    /// ago.
    pub fn step(
        &mut self,
        epoch: &Unfinished,
        step: u64,
        logs: impl FnOnce() -> Logs,
    ) -> Option<Event> {
        if self.told.is_some_and(|told| told.elapsed() < INTERVAL) {
            return None;
        }
        self.told = Some(Instant::now());
        let seconds = self.seconds();
        let here = epoch.steps.saturating_sub(self.before).max(1);
        let rows = epoch.totals.rows * here as f64 / epoch.steps as f64;
        Some(Event::Step {
            epoch: self.epoch,
            epochs: self.epochs,
            step: epoch.steps,
            steps: self.steps_per_epoch.or(self.last),
            logs: logs(),
            rows_per_second: rows / seconds.max(1e-9),
            seconds_left: self
                .steps_left(epoch, step)
                .map(|steps| steps * seconds / here as f64),
        })
    }

    /// The epoch is over after `steps` steps.
    pub fn end_epoch(&mut self, steps: u64) {
        self.last = Some(steps);
    }

    /// Steps until the last epoch ends, as far as can be told.
    fn steps_left(&self, epoch: &Unfinished, step: u64) -> Option<f64> {
        let steps = epoch.steps as f64;
        let by_rows = |rows: u64| steps * rows as f64 / epoch.totals.rows;
        let known = self.last.or(self.steps_per_epoch).map(|steps| steps as f64);
        let whole = known.or_else(|| self.expected_rows.map(by_rows));
        let by_epochs = self.epochs.zip(whole).map(|(epochs, whole)| {
            let epochs_after = epochs.saturating_sub(self.epoch) as f64;
            (whole - steps).max(0.0) + epochs_after * whole
        });
        let by_steps = self.max_steps.map(|max| max.saturating_sub(step) as f64);
        match (by_epochs, by_steps) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Totals;
    use serde_json::json;

    fn progress(more: serde_json::Value) -> Progress {
        let mut settings = json!({"batch_size": 10, "epochs": null, "seed": 1});
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        Progress::new(&serde_json::from_value(settings).unwrap())
    }

    fn epoch(steps: u64) -> Unfinished {
        let totals = Totals {
            losses: Vec::new(),
            rows: steps as f64 * 10.0,
            metrics: Vec::new(),
        };
        Unfinished {
            steps,
            ..Unfinished::new(totals)
        }
    }

    #[test]
    fn the_first_step_is_told_and_the_next_only_after_a_while() {
        let mut progress = progress(json!({"epochs": 2}));
        progress.start_epoch(1, 0);
        assert!(progress.step(&epoch(1), 1, Logs::new).is_some());
        assert!(progress.step(&epoch(2), 2, Logs::new).is_none());
    }

    #[test]
    fn the_steps_left_count_the_epochs_to_come() {
        let mut told = progress(json!({"epochs": 3, "expected_rows": 1000}));
        told.start_epoch(1, 0);
        assert_eq!(told.steps_left(&epoch(10), 10), Some(90.0 + 200.0));
        told.last = Some(40);
        told.start_epoch(3, 0);
        assert_eq!(told.steps_left(&epoch(5), 85), Some(35.0));
        assert_eq!(
            progress(json!({"epochs": 1})).steps_left(&epoch(1), 1),
            None
        );
    }

    #[test]
    fn what_ends_first_decides() {
        let given = json!({"epochs": 3, "steps_per_epoch": 100, "max_steps": 150});
        let mut told = progress(given);
        told.start_epoch(1, 0);
        assert_eq!(told.steps_left(&epoch(10), 10), Some(140.0));
        told.start_epoch(2, 0);
        assert_eq!(told.steps_left(&epoch(20), 120), Some(30.0));
    }
}
