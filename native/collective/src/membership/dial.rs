//! The calling side of the rendezvous: find one rank behind a range of ports that others use too.
//!
//! Whatever answers without proof is an obstacle: the port is tried again later, less and less often,
//! and what it claimed is said only if the deadline passes.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::Error;
use crate::membership::handshake::{self, Refusal, SecureLink};
use crate::membership::hello::{Mismatch, Purpose};
use crate::membership::job::Job;
use crate::membership::lookup::Host;
use crate::membership::message::Message;

/// One attempt on one port, from the connection to the end of the handshake: enough for four round
/// trips of two seconds.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The wait before a port is tried again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Attempts under way at once: files are few, and hosts may be many.
const ATTEMPTS: usize = 128;
/// So many of the obstacles are told.
const TOLD: usize = 4;

/// Where a rank may be found.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) hosts: Vec<String>,
    pub(crate) ports: RangeInclusive<u16>,
}

impl Place {
    pub(crate) fn on(host: &str, ports: RangeInclusive<u16>) -> Self {
        Self {
            hosts: vec![host.to_owned()],
            ports,
        }
    }
}

/// Connects to rank `to` wherever in `place` it listens. Tries all hosts and ports at once, again and
/// again, until one of them proves to be the right rank of the right job and attempt.
pub(crate) async fn dial(
    job: &Arc<Job>,
    purpose: Purpose,
    to: usize,
    place: Place,
    deadline: Instant,
    first: &Message,
) -> Result<SecureLink, Error> {
    let hosts = place.hosts.iter().map(|host| Arc::new(Host::new(host)));
    let hosts: Vec<_> = hosts.collect();
    let turns = Arc::new(Semaphore::new(ATTEMPTS));
    let attempt = |(host, port): (usize, u16), pause| {
        let attempt = Attempt {
            job: Arc::clone(job),
            purpose,
            to,
            host: Arc::clone(&hosts[host]),
            at: (host, port),
            pause,
            first: first.clone(),
            turns: Arc::clone(&turns),
        };
        attempt.run()
    };
    let mut attempts = JoinSet::new();
    for at in (0..hosts.len()).flat_map(|host| place.ports.clone().map(move |port| (host, port))) {
        attempts.spawn(attempt(at, Duration::ZERO));
    }
    let mut obstacles = Obstacles::default();
    loop {
        let Ok(Some(Ok((at, pause, outcome)))) = timeout_at(deadline, attempts.join_next()).await
        else {
            let host = place.hosts.join(", ");
            let (first, last) = (place.ports.start(), place.ports.end());
            return Err(Error::RendezvousTimeout {
                missing: vec![job.name(to)],
                detail: format!("tried {host}, ports {first} to {last}{obstacles}"),
                scene: job.rendezvous_scene(),
            });
        };
        match outcome {
            Ok(link) => {
                // Calls under way go on beside: one may be the first that a rank of an older attempt
                // hears of this one.
                attempts.detach_all();
                return Ok(link);
            }
            Err(Refusal::OtherAttempt { attempt }) if attempt > job.config.stage_attempt => {
                return Err(Error::StaleAttempt {
                    own: job.config.stage_attempt,
                    newest: attempt,
                    scene: job.rendezvous_scene(),
                });
            }
            Err(refusal) => obstacles.meet(at, &refusal),
        }
        attempts.spawn(attempt(at, (2 * pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)));
    }
}

/// One port that rank `to` may listen on, tried once.
struct Attempt {
    job: Arc<Job>,
    purpose: Purpose,
    to: usize,
    host: Arc<Host>,
    /// Which of the hosts, and the port.
    at: (usize, u16),
    pause: Duration,
    first: Message,
    turns: Arc<Semaphore>,
}

impl Attempt {
    /// Where, and the pause that went before, with what came of it.
    async fn run(self) -> ((usize, u16), Duration, Result<SecureLink, Refusal>) {
        sleep(jittered(self.pause)).await;
        // Never closed.
        let _turn = self.turns.acquire().await.ok();
        let linked = timeout(ATTEMPT, self.link()).await;
        let outcome = linked.unwrap_or(Err(Refusal::Silence));
        (self.at, self.pause, outcome)
    }

    async fn link(&self) -> Result<SecureLink, Refusal> {
        let addresses = self.host.addresses(self.at.1).await?;
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        configure(&stream, &self.job, self.purpose)?;
        handshake::initiate(stream, &self.job, self.purpose, self.to, &self.first).await
    }
}

/// Half to all of `pause`, so that ranks that began together do not call together.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 512;
    pause.mul_f64(0.5 + random as f64 / 1024.0)
}

/// Why it has not worked so far: the last word of each port where something answered, or else the
/// last refusal of any.
#[derive(Default)]
struct Obstacles {
    answered: BTreeMap<(usize, u16), String>,
    refused: Option<(u16, String)>,
}

impl Obstacles {
    fn meet(&mut self, at: (usize, u16), refusal: &Refusal) {
        match refusal {
            Refusal::Io(error) => self.refused = Some((at.1, error.to_string())),
            // Other jobs, and this one's own other listeners, belong there.
            Refusal::Mismatch(Mismatch::OtherJob | Mismatch::OtherRank) => {}
            refusal => drop(self.answered.insert(at, refusal.to_string())),
        }
    }
}

impl fmt::Display for Obstacles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((_, port), what) in self.answered.iter().take(TOLD) {
            write!(f, "; something answers on port {port}: {what}")?;
        }
        if self.answered.len() > TOLD {
            write!(f, "; and on {} other ports", self.answered.len() - TOLD)?;
        }
        match &self.refused {
            Some((port, error)) => write!(f, "; port {port}: {error}"),
            None => Ok(()),
        }
    }
}

/// Sets a fresh connection up to notice a vanished peer.
pub(crate) fn configure(stream: &TcpStream, job: &Job, purpose: Purpose) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let probe = Duration::from_secs(2);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(probe)
            .with_interval(probe)
            .with_retries(3),
    )?;
    // Linux counts a closed receive window against this timeout too. A rank that is merely slow to
    // read its data must not be cut off; that it lives is the heartbeats' business.
    socket.set_tcp_user_timeout(Some(match purpose {
        Purpose::Control => job.config.dead_after(),
        Purpose::Data | Purpose::Call => job.config.progress_timeout(),
    }))
}
