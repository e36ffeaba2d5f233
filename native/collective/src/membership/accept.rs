//! The listening side of the rendezvous, open to anybody on the network until all have joined.
//!
//! A connection without proof costs a stranger at most one of a bounded number of pending hellos for
//! five seconds; when they are all taken the oldest gives way. A rank to whom that happens tries again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::error::Error;
use crate::failure::abort::Shared;
use crate::failure::cause::Cause;
use crate::membership::dial::configure;
use crate::membership::handshake::{self, Arrival, Refusal};
use crate::membership::hello::{Mismatch, Purpose};
use crate::membership::job::Job;
use crate::membership::lookup::Host;
use crate::membership::strangers::Strangers;

/// Everything up to the proof, however slowly it dribbles in.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// A rank with proof may take so long to say that it has taken the link.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);

/// Listens on the first free port of the configured range.
pub(crate) async fn listen(job: &Job) -> Result<(TcpListener, u16), Error> {
    let config = &job.config;
    let ports = config.ports();
    let host = Host::new(&config.bind_host);
    let mut last_error = None;
    for port in ports.clone() {
        let listener = match host.addresses(port).await {
            Ok(addresses) => TcpListener::bind(addresses.as_slice()).await,
            Err(error) => Err(error),
        };
        match listener {
            Ok(listener) => return Ok((listener, port)),
            Err(error) => last_error = Some(error),
        }
    }
    Err(Error::Bind {
        host: config.bind_host.clone(),
        first: *ports.start(),
        last: *ports.end(),
        source: last_error.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()),
    })
}

/// Passes on every rank that arrives for `purpose`, until dropped or nobody wants them any more. A
/// rank with proof that this attempt has been replaced ends it.
pub(crate) async fn accept(
    listener: TcpListener,
    job: Arc<Job>,
    shared: Arc<Shared>,
    purpose: Purpose,
    arrivals: UnboundedSender<Arrival>,
) {
    let limit = 4 * job.world_size() + 16;
    let mut hellos = JoinSet::new();
    let mut pending: VecDeque<AbortHandle> = VecDeque::new();
    // Those with proof are never given up for strangers: they may believe already that they are in.
    let mut confirming = JoinSet::new();
    let mut strangers = Strangers::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, address)) = accepted else {
                    // Out of file descriptors, most likely: do not spin until some are free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                pending.retain(|task| !task.is_finished());
                if pending.len() >= limit && let Some(oldest) = pending.pop_front() {
                    oldest.abort();
                }
                pending.push_back(hellos.spawn(welcome(stream, address, Arc::clone(&job), purpose)));
            }
            Some(hello) = hellos.join_next() => {
                let Ok((address, outcome)) = hello else { continue };
                let refusal = match outcome {
                    Ok(arrival) => {
                        confirming.spawn(timeout(CONFIRM_DEADLINE, arrival.confirm()));
                        continue;
                    }
                    Err(refusal) => refusal,
                };
                let newest = match refusal {
                    Refusal::OtherAttempt { attempt } => attempt,
                    _ => 0,
                };
                if newest > job.config.stage_attempt {
                    shared.fail(Cause::Replaced { newest });
                    return;
                }
                // Other jobs that look for theirs in the same ports are no news.
                let foreign = matches!(
                    refusal,
                    Refusal::Mismatch(Mismatch::OtherJob | Mismatch::OtherRank)
                );
                if !foreign && strangers.is_news(address.ip()) {
                    log::warn!(
                        "turned away {address}, which wanted to join run {}: {refusal}",
                        job.config.run_id
                    );
                }
            }
            Some(confirmed) = confirming.join_next() => {
                if let Ok(Ok(Ok(arrival))) = confirmed {
                    // Fails when the rendezvous is over, which needs no more arrivals.
                    arrivals.send(arrival).ok();
                }
            }
            () = arrivals.closed() => return,
        }
    }
}

async fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    job: Arc<Job>,
    purpose: Purpose,
) -> (SocketAddr, Result<Arrival, Refusal>) {
    let arrival = async {
        configure(&stream, &job, purpose)?;
        handshake::respond(stream, &job, purpose).await
    };
    let arrival = timeout(HELLO_DEADLINE, arrival).await;
    (address, arrival.unwrap_or(Err(Refusal::Silence)))
}
