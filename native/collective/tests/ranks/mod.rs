//! Ranks of a job for tests: threads of this process, on loopback, under a deadline.

#![allow(
    dead_code,
    reason = "every test binary uses its own part of this module"
)]

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, Communicator, Config, Error, Secret, Security, Transports};

/// A deadline generous enough for a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn secret() -> Secret {
    Secret::new([42; 32])
}

/// The first of 64 ports that no other job of this process has and nobody listens on. They are below
/// those that outgoing connections get, which a kernel may well hand out one after the other.
fn free_ports() -> u16 {
    const FIRST: u16 = 10_000;
    const BLOCK: u16 = 64;
    const BLOCKS: u32 = 340;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..BLOCKS)
        .map(|_| {
            let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
            let place = std::process::id().wrapping_mul(61).wrapping_add(taken);
            FIRST + BLOCK * u16::try_from(place % BLOCKS).expect("fewer blocks than ports")
        })
        .find(|first| (*first..first + BLOCK).all(free))
        .expect("64 free ports")
}

/// The configuration of rank 0 of a job like no other in this process.
pub(crate) fn job(world_size: usize) -> Config {
    static JOBS: AtomicU64 = AtomicU64::new(0);
    let job = JOBS.fetch_add(1, Ordering::Relaxed);
    Config {
        run_id: format!("test-{}-{job}", std::process::id()),
        stage_id: 3,
        stage_attempt: 0,
        rank: 0,
        world_size,
        hosts: vec!["127.0.0.1".to_owned(); world_size],
        bind_host: "127.0.0.1".to_owned(),
        port: free_ports(),
        port_retries: 32,
        rendezvous_timeout_ms: 20_000,
        progress_timeout_ms: 20_000,
        heartbeat_ms: 200,
        dead_after_ms: 5_000,
        straggler_ms: 30_000,
        transports: Transports::Auto,
        security: Security::default(),
    }
}

/// Every way that data may take between the ranks of one process.
pub(crate) const TRANSPORTS: [Transports; 2] = [Transports::Auto, Transports::Tcp];

pub(crate) fn over(transports: Transports, job: Config) -> Config {
    Config { transports, ..job }
}

pub(crate) fn with_rank(job: &Config, rank: usize) -> Config {
    Config {
        rank,
        ..job.clone()
    }
}

/// Runs `play` as every rank of `job`, each in its own thread; returns what they return, by rank.
pub(crate) fn run_ranks<R: Send + 'static>(
    job: &Config,
    deadline: Duration,
    play: impl Fn(Result<Communicator, Error>, AbortHandle) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let play = Arc::new(play);
    let configs = (0..job.world_size)
        .map(|rank| with_rank(job, rank))
        .collect();
    run_all(configs, deadline, move |config| {
        let abort = AbortHandle::new();
        play(Communicator::connect(&config, &secret(), &abort), abort)
    })
}

/// Runs `play` on every configuration, each in its own thread; returns what they return, in order.
pub(crate) fn run_all<R: Send + 'static>(
    configs: Vec<Config>,
    deadline: Duration,
    play: impl Fn(Config) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let end = Instant::now() + deadline;
    let play = Arc::new(play);
    let count = configs.len();
    let (sender, results) = mpsc::channel();
    for (index, config) in configs.into_iter().enumerate() {
        let (play, sender) = (Arc::clone(&play), sender.clone());
        thread::spawn(move || sender.send((index, play(config))));
    }
    drop(sender);
    let mut by_index: Vec<Option<R>> = (0..count).map(|_| None).collect();
    for _ in 0..count {
        let left = end.saturating_duration_since(Instant::now());
        let (index, result) = results.recv_timeout(left).expect("every rank ends in time");
        by_index[index] = Some(result);
    }
    by_index
        .into_iter()
        .map(|result| result.expect("one result for each"))
        .collect()
}

/// One sum over ranks that have met, and a good end.
pub(crate) fn sum_and_close(communicator: Result<Communicator, Error>) {
    let mut communicator = communicator.expect("all ranks meet");
    let world_size = communicator.world_size();
    let mut data = vec![1.0; 1000];
    communicator.allreduce(&mut data).expect("a sum");
    assert_eq!(data, vec![world_size as f32; 1000]);
    communicator.close().expect("a good end");
}
