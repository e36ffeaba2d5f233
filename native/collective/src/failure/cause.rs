//! The first cause of a failure, as it travels between ranks and becomes each rank's error.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Scene};
use crate::failure::abort::AbortReason;
use crate::membership::job::Job;

/// Why the job stopped. The first one a rank hears of wins there, and is passed on. Ranks go by the numbers
/// that users know them by, so that groups of ranks pass it on as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// The owner of this rank gave up. Never sent: peers hear [`Cause::Aborted`].
    Own(AbortReason),
    /// The owner of that rank gave up.
    Aborted { rank: usize, reason: AbortReason },
    /// That rank is gone.
    Lost { rank: usize, how: String },
    /// Those ranks never came.
    Missing { ranks: Vec<usize>, detail: String },
    /// That rank is alive but holds the others up.
    Stalled { rank: usize, how: String },
    /// That rank sent what cannot be right.
    Protocol { rank: usize, what: String },
    /// A rank of that attempt, newer than this one, has proved to be one.
    Replaced { newest: u64 },
}

impl Cause {
    /// The same cause in the words for other ranks, when `rank` tells it.
    pub(crate) fn told_by(self, rank: usize) -> Cause {
        match self {
            Cause::Own(reason) => Cause::Aborted { rank, reason },
            other => other,
        }
    }

    /// The error that this cause means for a rank of `job`.
    pub(crate) fn into_error(self, job: &Job, scene: Box<Scene>) -> Error {
        let host = |rank: usize| job.host_of(rank);
        match self {
            Cause::Own(AbortReason {
                deterministic,
                message,
            }) => Error::Aborted {
                deterministic,
                message,
                scene,
            },
            Cause::Aborted {
                rank,
                reason:
                    AbortReason {
                        deterministic,
                        message,
                    },
            } => Error::PeerAborted {
                rank,
                host: host(rank),
                deterministic,
                message,
                scene,
            },
            Cause::Lost { rank, how } if rank == job.own_name() => Error::PeerAborted {
                rank: job.name(0),
                host: job.host(0),
                deterministic: false,
                message: format!("this rank was given up for lost: {how}"),
                scene,
            },
            Cause::Lost { rank, how } => Error::PeerLost {
                rank,
                host: host(rank),
                how,
                scene,
            },
            Cause::Missing { ranks, detail } => Error::RendezvousTimeout {
                missing: ranks,
                detail,
                scene,
            },
            Cause::Stalled { rank, how } => Error::ProgressTimeout {
                rank,
                host: host(rank),
                how,
                scene,
            },
            Cause::Protocol { rank, what } => Error::Protocol {
                rank,
                host: host(rank),
                what,
                scene,
            },
            Cause::Replaced { newest } => Error::StaleAttempt {
                own: job.config.stage_attempt,
                newest,
                scene,
            },
        }
    }
}
