//! The calling side of the rendezvous: find one rank behind a range of ports that others use too.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::Error;
use crate::membership::handshake::{self, Refusal, SecureLink};
use crate::membership::hello::{Mismatch, Purpose};
use crate::membership::job::Job;
use crate::membership::message::Message;

/// One attempt on one port, from the connection to the end of the handshake.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The wait before an attempt is repeated: a refused port may open soon, one that another job
/// holds stays taken for a while.
const AFTER_REFUSED: Duration = Duration::from_millis(100);
const AFTER_OTHER: Duration = Duration::from_millis(500);
/// So many refusals by what claims to be the right job and attempt mean another key.
const KEY_REFUSALS: usize = 5;

/// Connects to rank `to` on whichever of `ports` it listens. Tries all ports at once, again and
/// again, until one of them proves to be the right rank of the right job and attempt.
pub(crate) async fn dial(
    job: &Arc<Job>,
    purpose: Purpose,
    to: usize,
    ports: RangeInclusive<u16>,
    deadline: Instant,
    first: &Message,
) -> Result<SecureLink, Error> {
    let mut attempts = JoinSet::new();
    for port in ports.clone() {
        attempts.spawn(attempt(
            Arc::clone(job),
            purpose,
            to,
            port,
            Duration::ZERO,
            first.clone(),
        ));
    }
    let mut key_refusals = 0;
    let mut obstacle = String::new();
    let timed_out = |obstacle: &str| Error::RendezvousTimeout {
        missing: vec![to],
        detail: format!(
            "tried {}, ports {} to {}{obstacle}",
            job.config.hosts[to],
            ports.start(),
            ports.end()
        ),
        scene: job.rendezvous_scene(),
    };
    loop {
        let Ok(Some(Ok((port, outcome)))) = timeout_at(deadline, attempts.join_next()).await else {
            return Err(timed_out(&obstacle));
        };
        let refusal = match outcome {
            Ok(link) => return Ok(link),
            Err(refusal) => refusal,
        };
        match &refusal {
            Refusal::Mismatch(Mismatch::OtherAttempt(newest))
                if *newest > job.config.stage_attempt =>
            {
                return Err(Error::StaleAttempt {
                    own: job.config.stage_attempt,
                    newest: *newest,
                    scene: job.rendezvous_scene(),
                });
            }
            Refusal::Key => key_refusals += 1,
            _ => {}
        }
        if key_refusals == KEY_REFUSALS {
            return Err(Error::Authentication {
                rank: to,
                host: job.config.hosts[to].clone(),
                scene: job.rendezvous_scene(),
            });
        }
        let refused = matches!(refusal, Refusal::Io(_));
        if obstacle.is_empty() || !refused {
            obstacle = format!("; port {port}: {refusal}");
        }
        let pause = if refused { AFTER_REFUSED } else { AFTER_OTHER };
        attempts.spawn(attempt(
            Arc::clone(job),
            purpose,
            to,
            port,
            pause,
            first.clone(),
        ));
    }
}

async fn attempt(
    job: Arc<Job>,
    purpose: Purpose,
    to: usize,
    port: u16,
    pause: Duration,
    first: Message,
) -> (u16, Result<SecureLink, Refusal>) {
    sleep(pause).await;
    let linked = timeout(ATTEMPT, async {
        let stream = TcpStream::connect((job.config.hosts[to].as_str(), port)).await?;
        configure(&stream, &job, purpose)?;
        handshake::initiate(stream, &job, purpose, to, &first).await
    });
    (port, linked.await.unwrap_or(Err(Refusal::Silence)))
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
        Purpose::Data => job.config.progress_timeout(),
    }))
}
