//! What a fit tells its caller while it runs.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Metric values by name, in the order the model was compiled with: `loss` first.
pub type Logs = Map<String, Value>;

/// One thing that happened. Rank 0 tells all of them, other ranks only `Feed` and
/// `Done`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Rows are wanted: of this pass over the data first, and then of those after it, where the
    /// caller feeds them anew in each. Every rank tells it.
    Feed {
        /// Counted from 0.
        pass: usize,
    },
    /// The first optimizer step is done.
    Started {
        /// Seconds since the session was opened.
        seconds: f64,
    },
    /// Something that the user should know.
    Warning {
        /// What, why, and what to do.
        message: String,
    },
    /// Training goes on; at most a few a second.
    Step {
        /// Counted from 1.
        epoch: usize,
        /// Epochs asked for, if not as many as it takes.
        epochs: Option<usize>,
        /// Steps done in this epoch.
        step: u64,
        /// Steps of an epoch, where that is known.
        steps: Option<u64>,
        /// Means over the epoch so far.
        logs: Logs,
        /// Over all ranks, in this epoch.
        rows_per_second: f64,
        /// Until the last epoch ends, where it can be told.
        seconds_left: Option<f64>,
    },
    /// An epoch is over, validation included.
    Epoch {
        /// Counted from 1.
        epoch: usize,
        /// Epochs asked for, if not as many as it takes.
        epochs: Option<usize>,
        /// Steps done since the fit began.
        step: u64,
        /// Means over the epoch; `val_` for validation.
        logs: Logs,
        /// Training rows used, over all ranks.
        rows: u64,
        /// How long it took.
        seconds: f64,
    },
    /// An evaluator has measured a checkpoint.
    Evaluated {
        /// The epoch that it ends, counted from 1; none for one within an epoch, which is not measured.
        epoch: Option<usize>,
        /// Steps done.
        step: u64,
        /// Means over the rows to validate with, by names with `val_`.
        logs: Logs,
    },
    /// How stale weights were when the batches of an asynchronous fit were applied to them, at its end.
    Staleness {
        /// How often so many updates had been applied since a worker fetched them.
        updates: BTreeMap<u64, u64>,
    },
    /// A local file is finished and may be moved to `name` in the model directory. Files come in
    /// the order in which they must become visible.
    File {
        /// Where it is.
        path: PathBuf,
        /// Where it belongs, relative to the model directory.
        name: String,
    },
    /// A file told of before is no longer needed, here or in the model directory.
    Remove {
        /// Where it is.
        path: PathBuf,
        /// Relative to the model directory.
        name: String,
    },
    /// The fit is over.
    Done {
        /// What came of it.
        result: FitResult,
    },
}

/// What a fit leaves behind.
#[derive(Debug, Clone, Serialize)]
pub struct FitResult {
    /// One value per epoch for each metric.
    pub history: History,
    /// Epochs done, earlier attempts included.
    pub epochs: usize,
    /// Optimizer steps done, earlier attempts included.
    pub steps: u64,
    /// Training rows used in each epoch, over all ranks.
    pub rows: Vec<u64>,
    /// The trained model as a `.keras` file; on rank 0 only.
    pub model: Option<PathBuf>,
    /// Of an asynchronous fit, on server 0: how often a batch was applied to weights that so many others
    /// had changed since it was begun.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub staleness: BTreeMap<u64, u64>,
    /// SHA-256 of the final weights, hexadecimal: equal digests are bit-identical weights.
    pub digest: String,
}

impl FitResult {
    /// That of a rank whose fit another one sums up.
    pub(crate) fn of_another(steps: u64) -> Self {
        Self {
            history: History::new(),
            epochs: 0,
            steps,
            rows: Vec::new(),
            model: None,
            staleness: BTreeMap::new(),
            digest: String::new(),
        }
    }
}

/// An array of values for each metric, one per epoch, in the order of [`Logs`].
pub type History = Map<String, Value>;
