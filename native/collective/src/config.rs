//! What a rank must know to meet the others: one JSON document, the same on all but for the rank.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How the bytes of data connections are protected. Ranks always prove to each other that they
/// belong together, and control connections are always encrypted, whatever is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Every frame carries a keyed code: an altered frame is an error, but can be read.
    #[default]
    Auth,
    /// Every frame is encrypted and authenticated.
    Encrypt,
    /// Every frame carries a checksum, which finds damage but no attack.
    Off,
}

/// Over what data travels between two ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transports {
    /// Shared memory between ranks that prove to have some in common, TCP between the others.
    #[default]
    Auto,
    /// TCP between all.
    Tcp,
}

const A_WEEK_IN_MS: u64 = 7 * 24 * 3600 * 1000;

/// Who this rank is, where rank 0 is to be found, and how long to wait.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the run, unique for every job.
    pub run_id: String,
    /// The Spark stage that runs the ranks.
    pub stage_id: u64,
    /// Attempt number of that stage: ranks of different attempts never join.
    pub stage_attempt: u64,
    /// This rank, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub world_size: usize,
    /// Host name or address of each rank, as the others reach it: `world_size` of them, or none where
    /// ranks only call each other.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The address this rank listens on.
    pub bind_host: String,
    /// First port to try.
    pub port: u16,
    /// How many ports above `port` may be tried too, one by one (Spark's convention).
    pub port_retries: u16,
    /// All ranks must have met within this time.
    pub rendezvous_timeout_ms: u64,
    /// An operation may wait this long without receiving or sending a byte.
    pub progress_timeout_ms: u64,
    /// Time between two heartbeats.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// A rank silent for this long is lost.
    #[serde(default = "default_dead_after_ms")]
    pub dead_after_ms: u64,
    /// A rank that holds the others up for this long is worth a warning.
    #[serde(default = "default_straggler_ms")]
    pub straggler_ms: u64,
    /// How the bytes of data connections are protected; the same on all ranks.
    #[serde(default)]
    pub security: Security,
    /// Over what data travels; the same on all ranks.
    #[serde(default)]
    pub transports: Transports,
}

fn default_heartbeat_ms() -> u64 {
    1_000
}

fn default_dead_after_ms() -> u64 {
    10_000
}

fn default_straggler_ms() -> u64 {
    30_000
}

impl Config {
    /// Refuses a configuration in which not all ranks can meet.
    pub(crate) fn validate_world(&self) -> Result<(), Error> {
        if self.hosts.len() != self.world_size {
            let (count, ranks) = (self.hosts.len(), self.world_size);
            let what = format!("{count} hosts for {ranks} ranks");
            return Err(Error::Config { what });
        }
        self.validate()
    }

    /// Refuses a configuration that cannot work, whatever the network does.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::Config { what });
        if self.world_size == 0 || self.rank >= self.world_size {
            return refuse(format!("rank {} of {} ranks", self.rank, self.world_size));
        }
        if self.world_size > 1 && self.port == 0 {
            return refuse("port 0: the ranks need a known port to find rank 0".to_owned());
        }
        if self.heartbeat_ms == 0 || self.dead_after_ms <= self.heartbeat_ms {
            return refuse(format!(
                "dead_after_ms {} must be greater than heartbeat_ms {}, and that than 0",
                self.dead_after_ms, self.heartbeat_ms
            ));
        }
        for (name, timeout) in [
            ("rendezvous_timeout_ms", self.rendezvous_timeout_ms),
            ("progress_timeout_ms", self.progress_timeout_ms),
            ("dead_after_ms", self.dead_after_ms),
            ("straggler_ms", self.straggler_ms),
        ] {
            if !(1..=A_WEEK_IN_MS).contains(&timeout) {
                return refuse(format!("{name} {timeout}: give 1 to {A_WEEK_IN_MS}"));
            }
        }
        Ok(())
    }

    /// The name of one of this rank's threads, by which its lines in a log are known.
    #[must_use]
    pub fn thread_name(&self, role: &str) -> String {
        let run = self.run_id.replace('\0', "");
        format!("flambeau-{} {role} of run {run}", self.rank)
    }

    pub(crate) fn ports(&self) -> RangeInclusive<u16> {
        self.port..=self.port.saturating_add(self.port_retries)
    }

    pub(crate) fn rendezvous_timeout(&self) -> Duration {
        Duration::from_millis(self.rendezvous_timeout_ms)
    }

    pub(crate) fn progress_timeout(&self) -> Duration {
        Duration::from_millis(self.progress_timeout_ms)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn straggler(&self) -> Duration {
        Duration::from_millis(self.straggler_ms)
    }

    pub(crate) fn dead_after(&self) -> Duration {
        Duration::from_millis(self.dead_after_ms)
    }
}
