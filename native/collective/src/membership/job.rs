//! One rank's view of the job it belongs to: its configuration, session key and clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::Scene;
use crate::membership::hello::{Hello, Purpose};
use crate::secret::Secret;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) config: Config,
    pub(crate) key: Secret,
    pub(crate) started: Instant,
    id: [u8; 32],
    /// The numbers by which users know the ranks, and the hosts of all numbers, where the ranks are some
    /// of a larger job's.
    known_as: Vec<usize>,
    known_hosts: Vec<String>,
    /// Hosts of ranks that the configuration does not name, once they have been met.
    met: Mutex<BTreeMap<usize, String>>,
}

impl Job {
    pub(crate) fn new(config: &Config, secret: &Secret) -> Self {
        let mut id = Sha256::new();
        id.update(b"flambeau collective job 1");
        id.update(config.stage_id.to_le_bytes());
        id.update(config.run_id.as_bytes());
        Self {
            config: config.clone(),
            key: secret.session_key(config),
            started: Instant::now(),
            id: id.finalize().into(),
            known_as: Vec::new(),
            known_hosts: Vec::new(),
            met: Mutex::default(),
        }
    }

    /// The job of `members` alone, of which this rank is number `rank`, called `name` among all jobs that
    /// are part of this one. Its ranks are known by the numbers that they have here.
    pub(crate) fn part(&self, name: &str, members: &[usize], rank: usize) -> Self {
        let config = Config {
            run_id: format!("{}/{name}", self.config.run_id),
            rank,
            world_size: members.len(),
            hosts: members.iter().map(|member| self.host(*member)).collect(),
            ..self.config.clone()
        };
        let is_part = !self.known_as.is_empty();
        let hosts = if is_part {
            &self.known_hosts
        } else {
            &self.config.hosts
        };
        Self {
            known_as: members.iter().map(|member| self.name(*member)).collect(),
            known_hosts: hosts.clone(),
            ..Self::new(&config, &self.key)
        }
    }

    /// The number by which users know a rank, and causes name it.
    pub(crate) fn name(&self, rank: usize) -> usize {
        self.known_as.get(rank).copied().unwrap_or(rank)
    }

    /// The number by which users know this rank.
    pub(crate) fn own_name(&self) -> usize {
        self.name(self.rank())
    }

    /// The host of a rank that users know by `name`, empty if it is not known.
    pub(crate) fn host_of(&self, name: usize) -> String {
        if self.known_as.is_empty() {
            return self.host(name);
        }
        self.known_hosts.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn rank(&self) -> usize {
        self.config.rank
    }

    pub(crate) fn world_size(&self) -> usize {
        self.config.world_size
    }

    /// The host of a rank, empty if it is not known.
    pub(crate) fn host(&self, rank: usize) -> String {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.config.hosts.get(rank).or_else(|| met.get(&rank));
        known.cloned().unwrap_or_default()
    }

    /// Takes down on which host a rank was met.
    pub(crate) fn meet(&self, rank: usize, host: String) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.insert(rank, host);
    }

    /// The hello this rank sends to `to`.
    pub(crate) fn hello(&self, purpose: Purpose, to: usize) -> Hello {
        Hello {
            purpose,
            from: self.rank(),
            to,
            world_size: self.world_size(),
            stage_attempt: self.config.stage_attempt,
            job: self.id,
        }
    }

    /// The rendezvous as the scene of an error.
    pub(crate) fn rendezvous_scene(&self) -> Box<Scene> {
        Box::new(Scene {
            rank: self.own_name(),
            operation: "rendezvous".to_owned(),
            elapsed: self.started.elapsed(),
        })
    }
}
