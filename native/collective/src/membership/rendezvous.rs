//! How the ranks meet, on the control thread: join rank 0, learn the table, link up.
//!
//! ```text
//! every rank   listens for data on the first free port of the range, makes an inbox
//! rank 0       listens for control too
//! others       find rank 0 in its range, and Join with their data port and inbox
//! rank 0       once all have joined: stops listening, sends the Table of ports and inboxes
//! every rank   looks into the inboxes it can reach for their tokens, says whom it has Reached
//! rank 0       tells the Groups that reach each other: they share memory
//! every rank   of a pair that has a link but no memory, the lower rank connects to the higher
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::Transports;
use crate::error::Error;
use crate::failure::abort::{AbortReason, Shared};
use crate::failure::cause::Cause;
use crate::failure::control::{Control, Meeting, Seat};
use crate::membership::accept::{accept, listen};
use crate::membership::dial::{Place, dial};
use crate::membership::handshake::{Arrival, into_stream};
use crate::membership::hello::Purpose;
use crate::membership::job::Job;
use crate::membership::message::Message;
use crate::topology::groups::Groups;
use crate::transport::inbox::{Address, Inbox};
use crate::transport::keys::{ConnectionKey, random_token};

/// Rank 0 knows who is missing, so the others leave the verdict to it and wait a little longer.
const GRACE: Duration = Duration::from_secs(3);

type Arrivals = UnboundedReceiver<Arrival>;

/// What the data links of a rank are made of.
pub(crate) struct Met {
    pub(crate) groups: Groups,
    /// This rank's own inbox, if others of its group write to it.
    pub(crate) inbox: Option<Inbox>,
    /// Those of the other ranks of its group.
    pub(crate) inboxes: BTreeMap<usize, Inbox>,
    /// Connections to the others that it has a link to.
    pub(crate) connections: BTreeMap<usize, Connection>,
}

/// An authenticated connection for data.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) key: ConnectionKey,
    /// Whether this rank has made it, and not the peer.
    pub(crate) dialled: bool,
}

/// Runs the control side of one communicator from the rendezvous to the end. The outcome of the
/// rendezvous goes to `ready`.
pub(crate) async fn serve(
    job: Arc<Job>,
    shared: Arc<Shared>,
    ready: mpsc::Sender<Result<Met, Error>>,
) {
    let inbox = own_inbox(&job);
    let address = inbox.as_ref().map(|(_, address)| *address);
    let joined = tokio::select! {
        biased;
        cause = shared.failure() => Err(cause.into_error(&job, job.rendezvous_scene())),
        joined = join(&job, &shared, address) => joined,
    };
    // The caller waits for `ready` in every case below, so sending to it cannot fail.
    let (control, data_arrivals) = match joined {
        Ok(joined) => joined,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let (table_sender, table) = oneshot::channel();
    let (reached, own_reached) = oneshot::channel();
    let (groups_sender, groups) = oneshot::channel();
    let control = control.run(Meeting {
        table: Some(table_sender),
        reached: Some(own_reached),
        groups: Some(groups_sender),
    });
    tokio::pin!(control);
    let told = Told {
        table,
        reached,
        groups,
    };
    let inbox = inbox.map(|(inbox, _)| inbox);
    tokio::select! {
        biased;
        () = &mut control => {
            let lost = Cause::Lost { rank: job.own_name(), how: "its control link ended".to_owned() };
            let cause = shared.cause().unwrap_or(lost);
            drop(ready.send(Err(cause.into_error(&job, job.rendezvous_scene()))));
        }
        met = link_up(&job, told, inbox, data_arrivals) => {
            if let Err(error) = &met {
                let message = error.to_string();
                shared.fail(Cause::Own(AbortReason { deterministic: false, message }));
            }
            drop(ready.send(met));
            control.await;
        }
    }
}

/// This rank's inbox, unless the configuration or the system has none for it.
fn own_inbox(job: &Job) -> Option<(Inbox, Address)> {
    if job.config.transports == Transports::Tcp {
        return None;
    }
    let inbox = random_token().and_then(Inbox::create);
    inbox
        .map_err(|error| log::debug!("rank {} shares no memory: {error}", job.rank()))
        .ok()
}

async fn join(
    job: &Arc<Job>,
    shared: &Arc<Shared>,
    inbox: Option<Address>,
) -> Result<(Control, Arrivals), Error> {
    if job.rank() == 0 {
        let (arrivals, _port) = open(job, shared, Purpose::Control).await?;
        let (data_arrivals, data_port) = open(job, shared, Purpose::Data).await?;
        let seat = (data_port, inbox);
        let mut control = Control::new(Arc::clone(job), Arc::clone(shared), seat);
        control.expect(arrivals);
        return Ok((control, data_arrivals));
    }
    let (data_arrivals, data_port) = open(job, shared, Purpose::Data).await?;
    let join = Message::Join { data_port, inbox };
    let root = dial(
        job,
        Purpose::Control,
        0,
        Place::on(&job.config.hosts[0], job.config.ports()),
        deadline(job),
        &join,
    )
    .await?;
    let seat = (data_port, inbox);
    let mut control = Control::new(Arc::clone(job), Arc::clone(shared), seat);
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

/// What this rank is told by the control plane, and tells it.
struct Told {
    table: oneshot::Receiver<Vec<Seat>>,
    reached: oneshot::Sender<Vec<usize>>,
    groups: oneshot::Receiver<Vec<usize>>,
}

async fn link_up(
    job: &Arc<Job>,
    told: Told,
    inbox: Option<Inbox>,
    arrivals: Arrivals,
) -> Result<Met, Error> {
    let deadline = deadline(job) + GRACE;
    let Ok(Ok(seats)) = timeout_at(deadline, told.table).await else {
        return Err(absent(
            job,
            0,
            "rank 0 did not send the table of data ports",
        ));
    };
    let mut inboxes = reach(job, inbox.as_ref(), &seats);
    // The control plane outlives this, as it is what drops this when it ends.
    told.reached.send(inboxes.keys().copied().collect()).ok();
    let Ok(Ok(ids)) = timeout_at(deadline, told.groups).await else {
        return Err(absent(job, 0, "rank 0 did not say who shares memory"));
    };
    if let Some(inbox) = &inbox {
        inbox.shut();
    }
    let groups = Groups::from_ids(&ids);
    let group: BTreeSet<usize> = groups.of(job.rank()).iter().copied().collect();
    inboxes.retain(|rank, _| group.contains(rank));
    let far = (0..job.world_size()).filter(|rank| groups.connected(job.rank(), *rank));
    let connections = connect(job, &far.collect(), &seats, arrivals, deadline).await?;
    Ok(Met {
        inbox: inbox.filter(|_| !inboxes.is_empty()),
        groups,
        inboxes,
        connections,
    })
}

/// The inboxes of other ranks that this one can open and finds their tokens in.
fn reach(job: &Job, own: Option<&Inbox>, seats: &[Seat]) -> BTreeMap<usize, Inbox> {
    let mut reached = BTreeMap::new();
    let Some(own) = own else {
        return reached;
    };
    let others = seats
        .iter()
        .enumerate()
        .filter(|(rank, _)| *rank != job.rank());
    for (rank, address) in others.filter_map(|(rank, seat)| Some((rank, seat.1?))) {
        match Inbox::open(address) {
            Ok(inbox) => drop(reached.insert(rank, inbox)),
            Err(error) => log::debug!("TCP to rank {rank}, as its inbox is out of reach: {error}"),
        }
    }
    if !reached.is_empty()
        && let Err(error) = own.reserve()
    {
        log::debug!("TCP to all, as there is no memory for an inbox: {error}");
        reached.clear();
    }
    reached
}

/// Connects to each of `far`, or has it connect.
async fn connect(
    job: &Arc<Job>,
    far: &BTreeSet<usize>,
    seats: &[Seat],
    mut arrivals: Arrivals,
    deadline: Instant,
) -> Result<BTreeMap<usize, Connection>, Error> {
    let local = |source| Error::Local {
        what: "take a data connection over".to_owned(),
        source,
        scene: job.rendezvous_scene(),
    };
    let mut dials = JoinSet::new();
    for to in far.range(job.rank() + 1..).copied() {
        let (job, port) = (Arc::clone(job), seats[to].0);
        let key = ConnectionKey::random().map_err(local)?;
        dials.spawn(async move {
            let link = Message::Link { key: key.clone() };
            let place = Place::on(&job.config.hosts[to], port..=port);
            let dialled = dial(&job, Purpose::Data, to, place, deadline, &link).await;
            dialled.map(|link| (to, link, key))
        });
    }
    let mut expected: BTreeSet<usize> = far.range(..job.rank()).copied().collect();
    let mut connections = BTreeMap::new();
    loop {
        tokio::select! {
            Some(dialled) = dials.join_next() => {
                let (rank, link, key) = dialled.map_err(|error| local(error.into()))??;
                let stream = into_stream(link).map_err(local)?;
                connections.insert(rank, Connection { stream, key, dialled: true });
            }
            arrival = timeout_at(deadline, arrivals.recv()), if !expected.is_empty() => {
                let Ok(Some(arrival)) = arrival else {
                    let missing = expected.first().copied().unwrap_or_default();
                    return Err(absent(job, missing, "it did not open its data connection"));
                };
                match arrival.first {
                    Message::Link { key } if expected.remove(&arrival.rank) => {
                        let stream = into_stream(arrival.link).map_err(local)?;
                        connections.insert(arrival.rank, Connection { stream, key, dialled: false });
                    }
                    _ => log::warn!("rank {} is not to connect here: refused", arrival.rank),
                }
            }
            else => return Ok(connections),
        }
    }
}

fn absent(job: &Job, rank: usize, what: &str) -> Error {
    Error::RendezvousTimeout {
        missing: vec![job.name(rank)],
        detail: what.to_owned(),
        scene: job.rendezvous_scene(),
    }
}

fn deadline(job: &Job) -> Instant {
    Instant::from_std(job.started) + job.config.rendezvous_timeout()
}
