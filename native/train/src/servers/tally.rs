//! What server 0 knows of a fit's workers and epochs beside weights: in a checkpoint, too.

use crate::event::Logs;
use crate::resume::Unfinished;
use crate::servers::message::WorkerProgress;
use crate::step::{Totals, Trainer};
use serde::{Deserialize, Serialize};

/// How far the workers have come, and what their epochs have come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Of each worker.
    pub workers: Vec<WorkerProgress>,
    /// Of each epoch that any worker has begun.
    pub epochs: Vec<EpochSums>,
}

/// Sums over all workers' rows, of those that have come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Of batches as they were trained.
    pub training: Unfinished,
    /// Of rows to validate with, each worker's with the weights at its end of the epoch.
    pub validation: Totals,
    /// Rows left out for nulls or damage.
    pub left_out: u64,
}

impl Tally {
    /// The sums of an epoch, counted from 0, which may begin with this.
    pub(crate) fn epoch(&mut self, epoch: usize, nothing: impl Fn() -> Totals) -> &mut EpochSums {
        while self.epochs.len() <= epoch {
            self.epochs.push(EpochSums {
                training: Unfinished::new(nothing()),
                validation: nothing(),
                left_out: 0,
            });
        }
        &mut self.epochs[epoch]
    }
}

impl EpochSums {
    /// Means by Keras's names; none of no rows.
    pub(crate) fn logs(&self, trainer: &Trainer) -> Logs {
        let mut logs = Logs::new();
        for (totals, prefix) in [(&self.training.totals, ""), (&self.validation, "val_")] {
            if totals.rows > 0.0 {
                logs.extend(trainer.logs(totals, prefix));
            }
        }
        logs
    }
}
