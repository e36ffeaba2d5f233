//! How ranks share a model that none of them holds as a whole.

use crate::config::{Fit, Strategy};
use crate::error::Error;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Ranks in rows of stages: each of several replicas of the model is cut into stages, and the weights of a
/// stage may be split over several ranks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Stages of the model, one behind the other.
    #[serde(default = "super::one")]
    pub pipeline: usize,
    /// Ranks that share the weights of each stage.
    #[serde(default = "super::one")]
    pub tensor: usize,
    /// Parts that a replica's batch is cut into, so that stages work at the same time.
    #[serde(default = "super::one")]
    pub micro_batches: usize,
    /// In which order stages work through them.
    #[serde(default)]
    pub schedule: Schedule,
    /// Stage by the name of a layer; a layer that is not named goes with the one that runs before it. If
    /// none is named, stages get layers by the time that these take.
    #[serde(default)]
    pub stages: BTreeMap<String, usize>,
}

/// The order in which a stage works through the parts of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Schedule {
    /// All forward passes, then all backward passes (Huang et al., GPipe, 2019).
    #[default]
    #[serde(rename = "gpipe")]
    Gpipe,
    /// Each backward pass as soon as it can be, so that a stage keeps the activations of as many parts as
    /// there are stages from it on (PipeDream-Flush; Narayanan et al., 2021).
    #[serde(rename = "1f1b")]
    OneForwardOneBackward,
}

impl Mesh {
    /// Refuses what such a fit cannot do.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn check(&self, fit: &Fit) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Config(reason.to_owned()));
        if self.pipeline == 0 || self.tensor == 0 || self.micro_batches == 0 {
            return refuse("pipelineStages, tensorParallel and microBatches must be at least 1");
        }
        let beside = [
            (fit.strategy == Strategy::Async, "strategy=async"),
            (fit.local_steps > 1, "localSteps above 1"),
            (fit.shard_optimizer_state, "shardOptimizerState"),
        ];
        if let Some((_, other)) = beside.iter().find(|(is_set, _)| *is_set) {
            return Err(Error::Config(format!(
                "pipelineStages or tensorParallel and {other} exclude each other: leave one of them out"
            )));
        }
        Ok(())
    }
}
