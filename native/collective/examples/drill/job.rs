//! A job of rank processes, as Spark would run it: all of them start, and if one fails all start again
//! in the next attempt, from the last checkpoint.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::Config;
use serde_json::{Value, json};

use crate::rank;

/// A line that a rank has said, and when it came.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) rank: usize,
    pub(crate) at: Instant,
    pub(crate) line: String,
}

/// How the ranks are started. What is not said is as in a job of three ranks on loopback.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) ranks: usize,
    pub(crate) steps: usize,
    pub(crate) settings: Value,
    /// Where each rank listens; the others reach it by `hosts`.
    pub(crate) binds: Vec<String>,
    pub(crate) hosts: Vec<String>,
    /// The network namespace of each rank.
    pub(crate) namespaces: Vec<Option<String>>,
    pub(crate) port: u16,
    run: String,
    checkpoint: PathBuf,
}

impl Plan {
    pub(crate) fn new(ranks: usize, steps: usize) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let run = format!("drill-{}-{number}", std::process::id());
        // Below the ports that outgoing connections get.
        let block = (u64::from(std::process::id()) * 61 + number) % 340;
        Self {
            ranks,
            steps,
            settings: json!({}),
            binds: vec!["127.0.0.1".to_owned(); ranks],
            hosts: vec!["127.0.0.1".to_owned(); ranks],
            namespaces: vec![None; ranks],
            port: 10_000 + 64 * block as u16,
            checkpoint: std::env::temp_dir().join(format!("{run}.checkpoint")),
            run,
        }
    }

    fn config(&self, rank: usize, attempt: u64) -> Value {
        let mut config = json!({
            "run_id": self.run, "stage_id": 1, "stage_attempt": attempt, "rank": rank,
            "world_size": self.ranks, "hosts": self.hosts, "bind_host": self.binds[rank],
            "port": self.port, "port_retries": 32, "rendezvous_timeout_ms": 20_000,
            "progress_timeout_ms": 60_000,
        });
        if let (Some(config), Some(settings)) = (config.as_object_mut(), self.settings.as_object())
        {
            config.extend(settings.clone());
        }
        config
    }

    /// Sets one key of the configuration, where there is one of that name.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let mut config = self.config(0, 0);
        config[key] = value.into();
        if serde_json::from_value::<Config>(config).is_ok() {
            self.settings[key] = value.into();
        }
    }

    /// Starts all ranks.
    pub(crate) fn start(&self, attempt: u64) -> std::io::Result<Job> {
        self.start_last_after(attempt, || {})
    }

    /// Starts all ranks, the last of them when `wait` is over.
    pub(crate) fn start_last_after(
        &self,
        attempt: u64,
        wait: impl FnOnce(),
    ) -> std::io::Result<Job> {
        let (sender, said) = channel();
        let mut job = Job {
            ranks: Vec::new(),
            said,
        };
        for rank in 0..self.ranks - 1 {
            job.ranks.push(self.spawn(rank, attempt, &sender)?);
        }
        wait();
        job.ranks
            .push(self.spawn(self.ranks - 1, attempt, &sender)?);
        Ok(job)
    }

    fn spawn(&self, rank: usize, attempt: u64, said: &Sender<Said>) -> std::io::Result<Child> {
        let own = std::env::current_exe()?;
        let mut command = match &self.namespaces[rank] {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(own);
                command
            }
            None => Command::new(own),
        };
        let mut child = command
            .arg("rank")
            .env(rank::CONFIG, self.config(rank, attempt).to_string())
            .env(rank::CHECKPOINT, &self.checkpoint)
            .env(rank::STEPS, self.steps.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(output) = child.stdout.take() {
            let said = said.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let at = Instant::now();
                    if said.send(Said { rank, at, line }).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(child)
    }

    /// Starts again as the next attempt, undisturbed, and gives the digest that all ranks end with.
    pub(crate) fn finish(&self, attempt: u64) -> Result<String, String> {
        let mut job = self.start(attempt).map_err(|error| error.to_string())?;
        job.digest(self.ranks, Duration::from_secs(60))
    }

    /// Forgets what the run has left.
    pub(crate) fn clean(&self) {
        std::fs::remove_file(&self.checkpoint).ok();
    }
}

/// Running ranks, ended with this value.
pub(crate) struct Job {
    ranks: Vec<Child>,
    said: Receiver<Said>,
}

impl Job {
    /// The next line of any rank, if it comes in time.
    pub(crate) fn next(&self, deadline: Instant) -> Option<Said> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.said.recv_timeout(left).ok()
    }

    /// Waits until all ranks have said what starts with `start`.
    pub(crate) fn await_all(&self, start: &str, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let mut missing: Vec<usize> = (0..self.ranks.len()).collect();
        while !missing.is_empty() {
            let said = self
                .next(deadline)
                .ok_or_else(|| format!("ranks {missing:?} do not say '{start}'"))?;
            if said.line.starts_with("failed") || said.line.starts_with("wrong") {
                return Err(format!("rank {}: {}", said.rank, said.line));
            }
            if said.line.starts_with(start) {
                missing.retain(|rank| *rank != said.rank);
            }
        }
        Ok(())
    }

    /// The digest that all ranks end with. It is a hang if none says anything for so long: how fast they
    /// are is the host's affair.
    pub(crate) fn digest(&mut self, ranks: usize, patience: Duration) -> Result<String, String> {
        let mut digests = Vec::new();
        while digests.len() < ranks {
            let deadline = Instant::now() + patience;
            let said = self.next(deadline).ok_or("a hang: not all ranks end")?;
            if let Some(digest) = said.line.strip_prefix("done ") {
                digests.push(digest.to_owned());
            } else if !said.line.starts_with("joined") && !said.line.starts_with("step") {
                return Err(format!("rank {}: {}", said.rank, said.line));
            }
        }
        let first = digests.swap_remove(0);
        if digests.iter().any(|digest| *digest != first) {
            return Err("ranks end with different weights".to_owned());
        }
        Ok(first)
    }

    pub(crate) fn signal(&self, rank: usize, name: &str) -> Result<(), String> {
        let pid = self.ranks[rank].id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill {name}: {other:?}")),
        }
    }

    /// Whether that rank has ended.
    pub(crate) fn has_ended(&mut self, rank: usize) -> bool {
        matches!(self.ranks[rank].try_wait(), Ok(Some(_)))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            rank.kill().ok();
            rank.wait().ok();
        }
    }
}
