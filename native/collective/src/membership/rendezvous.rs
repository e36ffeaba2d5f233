//! How the ranks meet, on the control thread: join rank 0, learn the table, close the ring.
//!
//! ```text
//! every rank   listens for data on the first free port of the range
//! rank 0       listens for control too
//! others       find rank 0 in its range, and Join with their data port
//! rank 0       once all have joined: stops listening, sends the Table of data ports
//! every rank   connects to the next rank's data port, accepts the previous rank's connection
//! ```

use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::failure::abort::{AbortReason, Shared};
use crate::failure::cause::Cause;
use crate::failure::control::Control;
use crate::membership::accept::{accept, listen};
use crate::membership::dial::dial;
use crate::membership::handshake::{Arrival, into_stream};
use crate::membership::hello::Purpose;
use crate::membership::job::Job;
use crate::membership::message::Message;

/// Rank 0 knows who is missing, so the others leave the verdict to it and wait a little longer.
const GRACE: Duration = Duration::from_secs(3);

type Arrivals = UnboundedReceiver<Arrival>;

/// The two data connections of a rank.
pub(crate) struct Neighbours {
    pub(crate) next: TcpStream,
    pub(crate) previous: TcpStream,
}

/// Runs the control side of one communicator from the rendezvous to the end. The outcome of the
/// rendezvous goes to `ready`.
pub(crate) async fn serve(
    job: Arc<Job>,
    shared: Arc<Shared>,
    ready: mpsc::Sender<Result<Neighbours, Error>>,
) {
    let joined = tokio::select! {
        biased;
        cause = shared.failure() => Err(cause.into_error(&job, job.rendezvous_scene())),
        joined = join(&job, &shared) => joined,
    };
    // The caller waits for `ready` in every case below, so sending to it cannot fail.
    let (control, data_arrivals) = match joined {
        Ok(joined) => joined,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let (table_sender, table) = oneshot::channel();
    let control = control.run(table_sender);
    tokio::pin!(control);
    tokio::select! {
        biased;
        () = &mut control => {
            let lost = Cause::Lost { rank: job.rank(), how: "its control link ended".to_owned() };
            let cause = shared.cause().unwrap_or(lost);
            drop(ready.send(Err(cause.into_error(&job, job.rendezvous_scene()))));
        }
        ring = close_ring(&job, table, data_arrivals) => {
            if let Err(error) = &ring {
                let message = error.to_string();
                shared.fail(Cause::Own(AbortReason { deterministic: false, message }));
            }
            drop(ready.send(ring));
            control.await;
        }
    }
}

async fn join(job: &Arc<Job>, shared: &Arc<Shared>) -> Result<(Control, Arrivals), Error> {
    if job.rank() == 0 {
        let (arrivals, _port) = open(job, shared, Purpose::Control).await?;
        let (data_arrivals, data_port) = open(job, shared, Purpose::Data).await?;
        let mut control = Control::new(Arc::clone(job), Arc::clone(shared), data_port);
        control.expect(arrivals);
        return Ok((control, data_arrivals));
    }
    let (data_arrivals, data_port) = open(job, shared, Purpose::Data).await?;
    let join = Message::Join { data_port };
    let root = dial(
        job,
        Purpose::Control,
        0,
        job.config.ports(),
        deadline(job),
        &join,
    )
    .await?;
    let mut control = Control::new(Arc::clone(job), Arc::clone(shared), data_port);
    control.add(0, root);
    Ok((control, data_arrivals))
}

/// Listens for `purpose` for as long as the arrivals are wanted; returns the port too.
async fn open(
    job: &Arc<Job>,
    shared: &Arc<Shared>,
    purpose: Purpose,
) -> Result<(Arrivals, u16), Error> {
    let (listener, port) = listen(job).await?;
    let (sender, arrivals) = unbounded_channel();
    let (job, shared) = (Arc::clone(job), Arc::clone(shared));
    tokio::spawn(accept(listener, job, shared, purpose, sender));
    Ok((arrivals, port))
}

async fn close_ring(
    job: &Arc<Job>,
    table: oneshot::Receiver<Vec<u16>>,
    mut arrivals: Arrivals,
) -> Result<Neighbours, Error> {
    let deadline = deadline(job) + GRACE;
    let absent = |rank: usize, what: &str| Error::RendezvousTimeout {
        missing: vec![rank],
        detail: what.to_owned(),
        scene: job.rendezvous_scene(),
    };
    let local = |source| Error::Local {
        what: "take a data connection over".to_owned(),
        source,
        scene: job.rendezvous_scene(),
    };
    let Ok(Ok(ports)) = timeout_at(deadline, table).await else {
        return Err(absent(0, "rank 0 did not send the table of data ports"));
    };

    let (next, previous) = (job.next_rank(), job.previous_rank());
    let outgoing = async {
        let ports = ports[next]..=ports[next];
        let link = dial(job, Purpose::Data, next, ports, deadline, &Message::Link).await?;
        into_stream(link).map_err(local)
    };
    let incoming = async {
        loop {
            match timeout_at(deadline, arrivals.recv()).await {
                Ok(Some(arrival)) if arrival.rank == previous => {
                    return into_stream(arrival.link).map_err(local);
                }
                Ok(Some(arrival)) => {
                    log::warn!(
                        "rank {} is not this rank's predecessor: refused",
                        arrival.rank
                    );
                }
                _ => return Err(absent(previous, "it did not open its data connection")),
            }
        }
    };
    let (next, previous) = tokio::try_join!(outgoing, incoming)?;
    Ok(Neighbours { next, previous })
}

fn deadline(job: &Job) -> Instant {
    Instant::from_std(job.started) + job.config.rendezvous_timeout()
}
