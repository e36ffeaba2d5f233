//! Ranks in processes of their own, killed and frozen for real. The test binary runs itself again
//! for each rank, with the configuration in an environment variable.

mod ranks;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write, stdout};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, Communicator, Config, Transports};
use ranks::{TRANSPORTS, job, secret, with_rank};

const CONFIG: &str = "FLAMBEAU_COLLECTIVE_TEST_CONFIG";
const RUNNING: &str = "ten steps done";
const FAILED: &str = "failed: ";

/// Does nothing in a usual run: it is what the other tests start as a process.
#[test]
fn a_rank_process_allreduces_until_it_fails() {
    let Ok(config) = std::env::var(CONFIG) else {
        return;
    };
    let config: Config = serde_json::from_str(&config).unwrap();
    let mut communicator = Communicator::connect(&config, &secret(), &AbortHandle::new()).unwrap();
    let mut travels = vec![0.0; 350_000];
    let mut lies = communicator.allocate(travels.len()).unwrap();
    for step in 0.. {
        let data = match step % 2 {
            0 => travels.as_mut_slice(),
            _ => lies.as_mut_slice(),
        };
        if step == 10 {
            say(RUNNING);
        }
        if let Err(error) = communicator.allreduce(data) {
            say(&format!("{FAILED}{} {error}", error.is_retryable()));
            return;
        }
    }
}

fn say(line: &str) {
    // The newline before keeps the line apart from what the test harness prints.
    stdout()
        .write_all(format!("\n{line}\n").as_bytes())
        .expect("the parent reads");
}

/// A rank's process, ended with the test.
struct Rank {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Rank {
    fn start(config: &Config) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test binary"))
            .args([
                "--exact",
                "a_rank_process_allreduces_until_it_fails",
                "--nocapture",
            ])
            .env(CONFIG, to_json(config))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process for the rank");
        let output: Lines<BufReader<ChildStdout>> =
            BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The rest of the next line that starts with `start`.
    fn wait_for(&self, start: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .expect("the rank says so in time");
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// Whether it has mapped the inboxes of others and not only made its own.
    fn shares_memory(&self) -> bool {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id()));
        let maps = maps.expect("it runs");
        maps.matches("flambeau-inbox").count() == 3
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([name, &pid])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn to_json(config: &Config) -> String {
    serde_json::json!({
        "run_id": config.run_id,
        "stage_id": config.stage_id,
        "stage_attempt": config.stage_attempt,
        "rank": config.rank,
        "world_size": config.world_size,
        "hosts": config.hosts,
        "bind_host": config.bind_host,
        "port": config.port,
        "port_retries": config.port_retries,
        "rendezvous_timeout_ms": config.rendezvous_timeout_ms,
        "progress_timeout_ms": config.progress_timeout_ms,
        "heartbeat_ms": config.heartbeat_ms,
        "dead_after_ms": config.dead_after_ms,
        "security": config.security,
        "transports": config.transports,
    })
    .to_string()
}

fn start(job: &Config) -> Vec<Rank> {
    let ranks: Vec<Rank> = (0..job.world_size)
        .map(|rank| Rank::start(&with_rank(job, rank)))
        .collect();
    for rank in &ranks {
        rank.wait_for(RUNNING, Duration::from_secs(40));
    }
    ranks
}

fn kill_one_of_three(victim: usize) {
    TRANSPORTS
        .into_iter()
        .for_each(|transports| kill_one_of_three_over(transports, victim));
}

fn kill_one_of_three_over(transports: Transports, victim: usize) {
    let job = Config {
        transports,
        hosts: ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
            .map(String::from)
            .to_vec(),
        bind_host: "0.0.0.0".to_owned(),
        ..job(3)
    };
    let mut ranks = start(&job);
    for rank in &ranks {
        assert_eq!(rank.shares_memory(), transports == Transports::Auto);
    }
    let killed = Instant::now();
    ranks[victim].child.kill().expect("a kill");
    for (rank, process) in ranks.iter().enumerate().filter(|(rank, _)| *rank != victim) {
        let error = process.wait_for(FAILED, Duration::from_secs(10));
        let elapsed = killed.elapsed();
        assert!(
            elapsed < Duration::from_secs(2),
            "rank {rank} after {elapsed:?}: {error}"
        );
        assert!(error.starts_with(&format!("true rank {rank}, ")), "{error}");
        assert!(error.contains("into allreduce "), "{error}");
        let lost = format!("lost rank {victim} ({})", job.hosts[victim]);
        assert!(error.contains(&lost), "{error}");
    }
}

#[test]
fn when_rank_0_is_killed_every_survivor_names_it_within_2_seconds() {
    kill_one_of_three(0);
}

#[test]
fn when_rank_1_is_killed_every_survivor_names_it_within_2_seconds() {
    kill_one_of_three(1);
}

#[test]
fn when_rank_2_is_killed_every_survivor_names_it_within_2_seconds() {
    kill_one_of_three(2);
}

fn freeze_one_of_three(victim: usize) {
    TRANSPORTS
        .into_iter()
        .for_each(|transports| freeze_one_of_three_over(transports, victim));
}

fn freeze_one_of_three_over(transports: Transports, victim: usize) {
    let job = Config {
        transports,
        dead_after_ms: 2_000,
        ..job(3)
    };
    let ranks = start(&job);
    let frozen = Instant::now();
    ranks[victim].signal("-STOP");
    for (_, process) in ranks.iter().enumerate().filter(|(rank, _)| *rank != victim) {
        let error = process.wait_for(FAILED, Duration::from_secs(15));
        assert!(
            frozen.elapsed() < Duration::from_secs(6),
            "{:?}: {error}",
            frozen.elapsed()
        );
        assert!(error.contains(&format!("lost rank {victim} ")), "{error}");
        assert!(error.contains("no heartbeat for "), "{error}");
    }
    let woken = Instant::now();
    ranks[victim].signal("-CONT");
    let error = ranks[victim].wait_for(FAILED, Duration::from_secs(10));
    assert!(
        woken.elapsed() < Duration::from_secs(2),
        "{:?}: {error}",
        woken.elapsed()
    );
}

#[test]
fn a_frozen_rank_0_is_found_by_its_silence_and_ends_when_it_wakes() {
    freeze_one_of_three(0);
}

#[test]
fn a_frozen_rank_2_is_found_by_its_silence_and_ends_when_it_wakes() {
    freeze_one_of_three(2);
}
