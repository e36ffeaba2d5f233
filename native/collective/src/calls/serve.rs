//! What the thread of an endpoint does: makes connections, takes them, and sees them end.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::calls::connection::{End, Peer, serve};
use crate::calls::endpoint::Event;
use crate::calls::line::{Awaited, Line, Outbox};
use crate::calls::message::{self, Message as CallMessage, MessageReader, MessageWriter};
use crate::error::Error;
use crate::failure::abort::{AbortReason, Shared};
use crate::failure::cause::Cause;
use crate::membership::accept::{accept, listen};
use crate::membership::dial::{Place, dial};
use crate::membership::handshake::{Arrival, SecureLink, into_stream};
use crate::membership::hello::Purpose;
use crate::membership::job::Job;
use crate::membership::message::Message;
use crate::transport::frame::Kind;
use crate::transport::keys::ConnectionKey;

/// The most that telling the others and waiting for them to hang up may take.
const LINGER: Duration = Duration::from_secs(1);

/// What the owner of an endpoint wants.
pub(crate) enum Command {
    Listen(mpsc::Sender<Result<u16, Error>>),
    Connect {
        rank: usize,
        place: Place,
        reply: mpsc::Sender<Result<Line, Error>>,
    },
}

/// All connections of an endpoint.
pub(crate) struct Switchboard {
    job: Arc<Job>,
    shared: Arc<Shared>,
    incarnation: u64,
    events: mpsc::Sender<Event>,
    arrivals: Option<UnboundedReceiver<Arrival>>,
    dials: JoinSet<Dialled>,
    /// By a number of its own.
    connections: BTreeMap<u64, Connection>,
    served: JoinSet<(u64, End)>,
    made: u64,
    /// The newest incarnation of each rank that has called.
    newest: BTreeMap<usize, u64>,
}

struct Connection {
    rank: usize,
    calls: bool,
    outbox: Outbox,
    task: AbortHandle,
}

struct Dialled {
    rank: usize,
    link: Result<(SecureLink, ConnectionKey), Error>,
    reply: mpsc::Sender<Result<Line, Error>>,
}

impl Switchboard {
    pub(crate) fn new(
        job: &Arc<Job>,
        shared: &Arc<Shared>,
        incarnation: u64,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            job: Arc::clone(job),
            shared: Arc::clone(shared),
            incarnation,
            events,
            arrivals: None,
            dials: JoinSet::new(),
            connections: BTreeMap::new(),
            served: JoinSet::new(),
            made: 0,
            newest: BTreeMap::new(),
        }
    }

    /// Until the owner wants no more, or this rank has failed.
    pub(crate) async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        let shared = Arc::clone(&self.shared);
        let last = loop {
            tokio::select! {
                biased;
                cause = shared.failure() => {
                    let last = cause.told_by(self.job.rank());
                    for connection in self.connections.values() {
                        connection.outbox.send(Some(failure(&last))).ok();
                    }
                    break Some(last);
                }
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => break None,
                },
                Some(ended) = self.served.join_next() => match ended {
                    Ok((connection, end)) => self.on_end(connection, end),
                    // One that was replaced.
                    Err(_aborted) => {}
                },
                Some(Ok(dialled)) = self.dials.join_next() => self.on_dialled(dialled),
                Some(arrival) = next_arrival(&mut self.arrivals) => self.on_arrival(arrival),
            }
        };
        self.end(last).await;
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Listen(reply) => {
                let listening = listen(&self.job).await.map(|(listener, port)| {
                    let (sender, arrivals) = unbounded_channel();
                    let (job, shared) = (Arc::clone(&self.job), Arc::clone(&self.shared));
                    tokio::spawn(accept(listener, job, shared, Purpose::Call, sender));
                    self.arrivals = Some(arrivals);
                    port
                });
                reply.send(listening).ok();
            }
            Command::Connect { rank, place, reply } => {
                let (job, incarnation) = (Arc::clone(&self.job), self.incarnation);
                self.dials.spawn(async move {
                    let link = call(&job, rank, place, incarnation).await;
                    Dialled { rank, link, reply }
                });
            }
        }
    }

    fn on_dialled(&mut self, Dialled { rank, link, reply }: Dialled) {
        let line = link.and_then(|(link, key)| {
            let awaited = Awaited::nothing();
            let peer = Peer::Called(Arc::clone(&awaited));
            let outbox = self.serve(rank, link, &key, true, peer);
            let outbox = outbox.map_err(|source| self.unusable(source))?;
            let (job, shared) = (Arc::clone(&self.job), Arc::clone(&self.shared));
            Ok(Line::new(rank, outbox, awaited, job, shared))
        });
        reply.send(line).ok();
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let Arrival { rank, link, first } = arrival;
        let Message::Call { key, incarnation } = first else {
            log::warn!("rank {rank} opened a connection for calls with {first:?}: refused");
            return;
        };
        let newest = self.newest.get(&rank).copied();
        if newest.is_some_and(|newest| newest >= incarnation) {
            log::warn!("an attempt of rank {rank} that was replaced has come: refused");
            self.turn_away(link, &key, self.dismissal());
            return;
        }
        self.newest.insert(rank, incarnation);
        self.replace(rank);
        // Its calls come behind it.
        self.events.send(Event::Came { rank, incarnation }).ok();
        let peer = Peer::Caller(rank, self.events.clone());
        if let Err(error) = self.serve(rank, link, &key, false, peer) {
            let message = format!("its connection cannot be taken over: {error}");
            self.tell_gone(rank, message);
        }
    }

    /// Tells a caller why it is not taken.
    fn turn_away(&self, link: SecureLink, key: &ConnectionKey, word: CallMessage) {
        if let Ok((_, mut writer)) = self.take_over(link, key, false) {
            tokio::spawn(async move {
                // It learns from the end of the connection, too.
                writer.send(&word).await.ok();
                writer.finish().await;
            });
        }
    }

    /// Hangs up on the incarnation of a rank that was here before.
    fn replace(&mut self, rank: usize) {
        let mut known = self.connections.iter();
        let Some((&number, _)) = known.find(|(_, one)| one.calls && one.rank == rank) else {
            return;
        };
        if let Some(one) = self.connections.remove(&number) {
            one.outbox.send(Some(self.dismissal())).ok();
            one.outbox.send(None).ok();
            one.task.abort();
            self.tell_gone(rank, "a newer attempt of it has come".to_owned());
        }
    }

    /// Tells a caller that another one has its place.
    fn dismissal(&self) -> CallMessage {
        let cause = Cause::Aborted {
            rank: self.job.rank(),
            reason: AbortReason {
                deterministic: false,
                message: "a newer attempt of this task has taken its place".to_owned(),
            },
        };
        failure(&cause)
    }

    fn tell_gone(&self, rank: usize, message: String) {
        let reason = AbortReason {
            deterministic: false,
            message,
        };
        self.events.send(Event::Gone { rank, reason }).ok();
    }

    /// Begins to serve an authenticated connection; what goes out over it.
    fn serve(
        &mut self,
        rank: usize,
        link: SecureLink,
        key: &ConnectionKey,
        dialled: bool,
        peer: Peer,
    ) -> io::Result<Outbox> {
        let address = link.0.peer_address()?;
        self.job.meet(rank, address.ip().to_string());
        let ends = self.take_over(link, key, dialled)?;
        let (outbox, outgoing) = unbounded_channel();
        self.made += 1;
        let (number, job, own) = (self.made, Arc::clone(&self.job), outbox.clone());
        let task = self.served.spawn(async move {
            let end = serve(ends, (own, outgoing), peer, &job.config).await;
            (number, end)
        });
        let connection = Connection {
            rank,
            calls: !dialled,
            outbox: outbox.clone(),
            task,
        };
        self.connections.insert(number, connection);
        Ok(outbox)
    }

    fn take_over(
        &self,
        link: SecureLink,
        key: &ConnectionKey,
        dialled: bool,
    ) -> io::Result<(MessageReader, MessageWriter)> {
        let seals = key.seals(&self.job.key, self.job.config.security, dialled)?;
        message::over(into_stream(link)?, seals)
    }

    fn on_end(&mut self, number: u64, end: End) {
        let Some(Connection { rank, calls, .. }) = self.connections.remove(&number) else {
            return;
        };
        match (calls, end) {
            (
                true,
                End::Told(Cause::Aborted {
                    rank: teller,
                    reason,
                }),
            ) if teller == rank => {
                self.events.send(Event::Gone { rank, reason }).ok();
            }
            (true, End::Told(cause)) => {
                let scene = self.job.rendezvous_scene();
                self.tell_gone(rank, cause.into_error(&self.job, scene).to_string());
            }
            (true, End::Lost(how) | End::Wrong(how)) => self.tell_gone(rank, how),
            (false, End::Told(cause)) => drop(self.shared.fail(cause)),
            (false, End::Lost(how)) => drop(self.shared.fail(Cause::Lost { rank, how })),
            (false, End::Wrong(what)) => drop(self.shared.fail(Cause::Protocol { rank, what })),
        }
    }

    /// Sends what is still to be sent, and stays until the others have hung up, so that nothing said is
    /// lost. After a failure it stays a moment for those that come late, to tell them, too.
    async fn end(mut self, last: Option<Cause>) {
        self.dials.abort_all();
        if last.is_none() {
            self.arrivals = None;
        }
        for connection in self.connections.values() {
            connection.outbox.send(None).ok();
        }
        let deadline = Instant::now() + LINGER;
        while !self.served.is_empty() || self.arrivals.is_some() {
            tokio::select! {
                Some(_) = self.served.join_next() => {}
                Some(Arrival { link, first, .. }) = next_arrival(&mut self.arrivals) => {
                    if let (Message::Call { key, .. }, Some(last)) = (first, &last) {
                        self.turn_away(link, &key, failure(last));
                    }
                }
                () = sleep_until(deadline) => break,
            }
        }
    }

    fn unusable(&self, source: io::Error) -> Error {
        Error::Local {
            what: "take a connection over".to_owned(),
            source,
            scene: self.job.rendezvous_scene(),
        }
    }
}

/// The last word of a rank that fails, or of one that is told to.
fn failure(cause: &Cause) -> CallMessage {
    CallMessage {
        kind: Kind::Failure,
        number: 0,
        // It holds nothing that could not be written.
        body: serde_json::to_vec(cause).unwrap_or_default(),
    }
}

/// Finds a rank and opens a connection for calls to it.
async fn call(
    job: &Arc<Job>,
    rank: usize,
    place: Place,
    incarnation: u64,
) -> Result<(SecureLink, ConnectionKey), Error> {
    let key = ConnectionKey::random().map_err(|source| Error::Local {
        what: "draw a key".to_owned(),
        source,
        scene: job.rendezvous_scene(),
    })?;
    let deadline = Instant::now() + job.config.rendezvous_timeout();
    let first = Message::Call {
        key: key.clone(),
        incarnation,
    };
    let link = dial(job, Purpose::Call, rank, place, deadline, &first).await?;
    Ok((link, key))
}

async fn next_arrival(arrivals: &mut Option<UnboundedReceiver<Arrival>>) -> Option<Arrival> {
    match arrivals {
        Some(arrivals) => arrivals.recv().await,
        None => None,
    }
}
