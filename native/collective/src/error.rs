//! What can go wrong among ranks, by what the caller can do about it.

use std::fmt;
use std::io;
use std::time::Duration;

/// Where an error met this rank.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The rank that reports the error.
    pub rank: usize,
    /// What it was doing, such as `allreduce 812 (1.4 MB)` or `rendezvous`.
    pub operation: String,
    /// For how long it had been doing that.
    pub elapsed: Duration,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "rank {}, {seconds:.1} s into {}",
            self.rank, self.operation
        )
    }
}

/// Why an operation failed. All ranks of a job report the same first cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work; fix it.
    #[error("the collective configuration is wrong: {what}")]
    Config {
        /// The setting and its value.
        what: String,
    },
    /// No port to listen on.
    #[error(
        "cannot listen on {host}, ports {first} to {last}: {source}. Try: another \
         spark.flambeau.port or more port retries, and check that {host} is an address of this host"
    )]
    Bind {
        /// The address to listen on.
        host: String,
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
        /// The last refusal.
        source: io::Error,
    },
    /// Some ranks did not arrive in time.
    #[error(
        "{scene}: no sign of {}; {detail}. Try: the executor logs of the missing ranks, a firewall \
         between the hosts, or a longer rendezvous timeout", name_ranks(.missing)
    )]
    RendezvousTimeout {
        /// The ranks that did not arrive.
        missing: Vec<usize>,
        /// What was tried, and the last obstacle.
        detail: String,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// This rank belongs to an attempt that has been replaced, as a rank of the newer one has proved;
    /// it should simply end.
    #[error(
        "{scene}: this rank is of stage attempt {own}, but attempt {newest} is running already. \
         Nothing to do: the newer attempt goes on without this rank"
    )]
    StaleAttempt {
        /// The attempt of this rank.
        own: u64,
        /// The attempt that answered.
        newest: u64,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// A rank is gone: its process, its host or the network to it.
    #[error(
        "{scene}: lost rank {rank} ({host}): {how}. Spark retries the stage from the last \
         checkpoint. Try: the executor log of {host}; exit code 137 means memory, raise \
         spark.executor.memoryOverhead"
    )]
    PeerLost {
        /// The rank that is gone.
        rank: usize,
        /// Its host.
        host: String,
        /// What was seen of it.
        how: String,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// Another rank gave up, for its own reason.
    #[error("{scene}: rank {rank} ({host}) failed: {message}")]
    PeerAborted {
        /// The rank that failed first.
        rank: usize,
        /// Its host.
        host: String,
        /// Whether the same input would fail in the same way again.
        deterministic: bool,
        /// That rank's own words.
        message: String,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// This rank was told to stop through its own [`AbortHandle`](crate::AbortHandle).
    #[error("{scene}: stopped: {message}")]
    Aborted {
        /// Whether the same input would fail in the same way again.
        deterministic: bool,
        /// The reason given.
        message: String,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// A rank is alive but does not take part.
    #[error(
        "{scene}: rank {rank} ({host}) is alive but made no progress: {how}. Try: a thread dump of \
         its executor, fewer or smaller tasks on {host}, or a longer progress timeout"
    )]
    ProgressTimeout {
        /// The rank furthest behind.
        rank: usize,
        /// Its host.
        host: String,
        /// How far it came, and how long it was waited for.
        how: String,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// A rank sent what cannot be right: damaged data, another release, or another call.
    #[error("{scene}: wrong data from rank {rank} ({host}): {what}")]
    Protocol {
        /// The rank that sent it.
        rank: usize,
        /// Its host.
        host: String,
        /// What was expected, and what came.
        what: String,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
    /// This host could not give what a communicator needs.
    #[error("{scene}: cannot {what}: {source}")]
    Local {
        /// What was to be done.
        what: String,
        /// The refusal.
        source: io::Error,
        /// Where it met this rank.
        scene: Box<Scene>,
    },
}

impl Error {
    /// Whether a new attempt on the same input may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Config { .. } => false,
            Error::PeerAborted { deterministic, .. } | Error::Aborted { deterministic, .. } => {
                !deterministic
            }
            Error::Bind { .. }
            | Error::RendezvousTimeout { .. }
            | Error::StaleAttempt { .. }
            | Error::PeerLost { .. }
            | Error::ProgressTimeout { .. }
            | Error::Protocol { .. }
            | Error::Local { .. } => true,
        }
    }
}

fn name_ranks(ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().map(usize::to_string).collect();
    let noun = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{noun} {}", names.join(", "))
}
