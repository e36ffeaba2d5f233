//! The listening side of the rendezvous, open to anybody on the network until all have joined.
//!
//! A connection costs a stranger at most one of a bounded number of pending hellos for five
//! seconds; when they are all taken the oldest gives way. A rank to whom that happens tries again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::error::Error;
use crate::membership::dial::configure;
use crate::membership::handshake::{self, Arrival, Refusal};
use crate::membership::hello::{Mismatch, Purpose};
use crate::membership::job::Job;

/// Everything up to the first encrypted message, however slowly it dribbles in.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// Listens on the first free port of the configured range.
pub(crate) async fn listen(job: &Job) -> Result<(TcpListener, u16), Error> {
    let config = &job.config;
    let ports = config.ports();
    let mut last_error = None;
    for port in ports.clone() {
        match TcpListener::bind((config.bind_host.as_str(), port)).await {
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

/// Passes on every rank that arrives for `purpose`, until dropped or nobody wants them any more.
pub(crate) async fn accept(
    listener: TcpListener,
    job: Arc<Job>,
    purpose: Purpose,
    arrivals: UnboundedSender<Arrival>,
) {
    let limit = 4 * job.world_size() + 16;
    let mut tasks = JoinSet::new();
    let mut pending: VecDeque<AbortHandle> = VecDeque::new();
    let mut warned = HashSet::new();
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
                let (job, arrivals) = (Arc::clone(&job), arrivals.clone());
                pending.push_back(tasks.spawn(async move {
                    let welcomed = timeout(HELLO_DEADLINE, welcome(stream, &job, purpose)).await;
                    match welcomed.unwrap_or(Err(Refusal::Silence)) {
                        Ok(arrival) => {
                            // Fails when the rendezvous is over, which needs no more arrivals.
                            arrivals.send(arrival).ok();
                            None
                        }
                        Err(refusal) => Some((address, refusal)),
                    }
                }));
            }
            Some(finished) = tasks.join_next() => {
                let Ok(Some((address, refusal))) = finished else { continue };
                let foreign = matches!(
                    refusal,
                    Refusal::Mismatch(Mismatch::OtherJob | Mismatch::OtherRank)
                );
                // One warning for each host is enough; other jobs looking for theirs need none.
                if !foreign && warned.len() < 1024 && warned.insert(address.ip()) {
                    log::warn!(
                        "rank {} of run {} turned away {address}: {refusal}",
                        job.rank(), job.config.run_id
                    );
                }
            }
            () = arrivals.closed() => return,
        }
    }
}

async fn welcome(stream: TcpStream, job: &Job, purpose: Purpose) -> Result<Arrival, Refusal> {
    configure(&stream, job, purpose)?;
    handshake::respond(stream, job, purpose).await
}
