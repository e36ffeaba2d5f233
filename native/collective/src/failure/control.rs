//! The control plane of one rank: a star with rank 0 in its middle.
//!
//! Rank 0 holds a link to every other rank, each of them one to rank 0; both run this same loop.
//! Whatever stops a rank is told on all its links, so through rank 0 it reaches everybody.
//! Heartbeats tell that a rank lives and how far it came; rank 0 sends back who is furthest behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::failure::abort::{AbortReason, Position, Shared};
use crate::failure::cause::Cause;
use crate::failure::pace::Pace;
use crate::failure::peer::Peer;
use crate::membership::handshake::{Arrival, SecureLink, SecureReader};
use crate::membership::job::Job;
use crate::membership::message::Message;
use crate::topology::groups::Groups;
use crate::transport::inbox::{Address, LARGEST_GROUP};

/// The most that telling the peers and waiting for them to hang up may take.
const LINGER: Duration = Duration::from_secs(1);

/// Where a rank takes data: its port, and its inbox if it has one.
pub(crate) type Seat = (u16, Option<Address>);

/// What the control plane and the rank that meets the others through it tell each other.
pub(crate) struct Meeting {
    /// Receives the seats of all ranks.
    pub(crate) table: Option<oneshot::Sender<Vec<Seat>>>,
    /// The ranks whose inboxes this rank has found.
    pub(crate) reached: Option<oneshot::Receiver<Vec<usize>>>,
    /// Receives the number of each rank's group.
    pub(crate) groups: Option<oneshot::Sender<Vec<usize>>>,
}

enum Event {
    Said(Message),
    Closed(String),
}

pub(crate) struct Control {
    job: Arc<Job>,
    shared: Arc<Shared>,
    peers: BTreeMap<usize, Peer>,
    /// How this rank comes forward itself.
    pace: Pace,
    /// Of the ranks that have joined.
    seats: BTreeMap<usize, Seat>,
    /// On rank 0, whose inboxes each rank has found, until all have said so.
    reached: BTreeMap<usize, Vec<usize>>,
    /// Ranks yet to join, on rank 0, until the table is sent.
    arrivals: Option<UnboundedReceiver<Arrival>>,
    events: UnboundedReceiver<(usize, Event)>,
    event_sender: UnboundedSender<(usize, Event)>,
    left: bool,
}

impl Control {
    pub(crate) fn new(job: Arc<Job>, shared: Arc<Shared>, seat: Seat) -> Self {
        let (event_sender, events) = unbounded_channel();
        Self {
            peers: BTreeMap::new(),
            pace: pace_of(&job, job.rank()),
            seats: BTreeMap::from([(job.rank(), seat)]),
            reached: BTreeMap::new(),
            arrivals: None,
            events,
            event_sender,
            left: false,
            job,
            shared,
        }
    }

    /// Has all other ranks join through `arrivals`.
    pub(crate) fn expect(&mut self, arrivals: UnboundedReceiver<Arrival>) {
        self.arrivals = Some(arrivals);
    }

    pub(crate) fn add(&mut self, rank: usize, (reader, writer): SecureLink) {
        tokio::spawn(listen_to(rank, reader, self.event_sender.clone()));
        self.peers
            .insert(rank, Peer::new(pace_of(&self.job, rank), writer));
    }

    /// Serves until the job has ended, well or not.
    pub(crate) async fn run(mut self, mut meeting: Meeting) {
        let mut heartbeat = interval(self.job.config.heartbeat());
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_beat = Instant::now();
        let mut told_leaving = false;
        let patience = self.job.config.rendezvous_timeout();
        let deadline = Instant::from_std(self.job.started) + patience;
        while !self.left && self.shared.cause().is_none() {
            let silent_until = self.silent_until();
            tokio::select! {
                () = self.shared.change() => {}
                Some((rank, event)) = self.events.recv() => self.on_event(rank, event, &mut meeting),
                Some(arrival) = next_arrival(&mut self.arrivals) => self.on_arrival(arrival).await,
                ranks = own_reach(&mut meeting.reached), if meeting.reached.is_some() => {
                    meeting.reached = None;
                    self.on_own_reach(ranks);
                }
                _ = heartbeat.tick() => {
                    self.on_heartbeat();
                    last_beat = Instant::now();
                }
                () = sleep_until(silent_until) => self.on_silence(last_beat.elapsed()),
                () = sleep_until(deadline), if self.arrivals.is_some() => self.give_up_waiting(),
            }
            self.advance(&mut meeting);
            if self.shared.is_leaving() {
                self.on_leaving(&mut told_leaving);
            }
        }
        self.end().await;
    }

    /// On rank 0: tells all what only it can know, once it does.
    fn advance(&mut self, meeting: &mut Meeting) {
        if self.arrivals.is_some() && self.seats.len() == self.job.world_size() {
            self.arrivals = None;
            let seats: Vec<_> = self.seats.values().copied().collect();
            let (data_ports, inboxes) = seats.iter().copied().unzip();
            self.tell_all(&Message::Table {
                data_ports,
                inboxes,
            });
            meeting.table.take().map(|table| table.send(seats));
        }
        if self.job.rank() == 0 && self.reached.len() == self.job.world_size() {
            let reached: Vec<_> = std::mem::take(&mut self.reached).into_values().collect();
            let ids = Groups::ids_of_mutual(&reached, LARGEST_GROUP);
            self.tell_all(&Message::Groups { ids: ids.clone() });
            meeting.groups.take().map(|groups| groups.send(ids));
        }
    }

    fn on_own_reach(&mut self, ranks: Vec<usize>) {
        if self.job.rank() == 0 {
            self.reached.insert(0, ranks);
        } else {
            self.tell_all(&Message::Reached { ranks });
        }
    }

    fn on_event(&mut self, rank: usize, event: Event, meeting: &mut Meeting) {
        let world_size = self.job.world_size();
        let Some(peer) = self.peers.get_mut(&rank) else {
            return;
        };
        peer.heard = Instant::now();
        match event {
            Event::Said(Message::Heartbeat(position)) if self.job.rank() == 0 => {
                peer.pace.moved_to(position, peer.heard);
            }
            Event::Said(Message::Heartbeat(position)) => self.shared.set_furthest_behind(position),
            Event::Said(Message::Table {
                data_ports,
                inboxes,
            }) if rank == 0 && data_ports.len() == world_size && inboxes.len() == world_size => {
                let seats = data_ports.into_iter().zip(inboxes).collect();
                meeting.table.take().map(|table| table.send(seats));
            }
            Event::Said(Message::Reached { ranks }) if self.job.rank() == 0 => {
                self.reached.insert(rank, ranks);
            }
            Event::Said(Message::Groups { ids }) if rank == 0 && ids.len() == world_size => {
                meeting.groups.take().map(|groups| groups.send(ids));
            }
            Event::Said(Message::Warning(message)) if rank == 0 => log::warn!("{message}"),
            Event::Said(Message::Failed(cause)) => drop(self.shared.fail(cause)),
            Event::Said(Message::Leave) => peer.leaving = true,
            Event::Said(Message::Farewell) => self.left = true,
            Event::Said(message) => {
                let what = format!("it sent {message:?} on an established control link");
                let rank = self.job.name(rank);
                self.shared.fail(Cause::Protocol { rank, what });
            }
            Event::Closed(how) => {
                peer.closed = true;
                let rank = self.job.name(rank);
                self.shared.fail(Cause::Lost { rank, how });
            }
        }
    }

    async fn on_arrival(&mut self, mut arrival: Arrival) {
        let rank = arrival.rank;
        let Message::Join { data_port, inbox } = arrival.first else {
            log::warn!(
                "rank {rank} opened a control link with {:?}: refused",
                arrival.first
            );
            return;
        };
        if self.peers.contains_key(&rank) {
            let message = format!("there is a rank {rank} in this job already");
            log::warn!("{message}: refused the second");
            let reason = AbortReason {
                deterministic: false,
                message,
            };
            let refusal = Message::Failed(Cause::Aborted {
                rank: self.job.own_name(),
                reason,
            });
            // Best effort: the second sees the link close in any case.
            timeout(LINGER, arrival.link.1.send(&refusal)).await.ok();
            return;
        }
        self.seats.insert(rank, (data_port, inbox));
        self.add(rank, arrival.link);
    }

    fn give_up_waiting(&self) {
        let world = 0..self.job.world_size();
        let ranks = world
            .filter(|rank| !self.seats.contains_key(rank))
            .map(|rank| self.job.name(rank))
            .collect();
        let config = &self.job.config;
        let detail = format!(
            "rank 0 listened on {}, in ports {} to {}, for {:?}",
            config.bind_host,
            config.ports().start(),
            config.ports().end(),
            config.rendezvous_timeout()
        );
        self.shared.fail(Cause::Missing { ranks, detail });
    }

    fn on_heartbeat(&mut self) {
        let own = Position {
            operations: self.shared.operations(),
            rank: self.job.rank(),
        };
        let behind = self.peers.values().map(|peer| peer.pace.position);
        let furthest = behind
            .chain([own])
            .min_by_key(|position| position.operations);
        let furthest = furthest.unwrap_or(own);
        if self.job.rank() == 0 {
            self.shared.set_furthest_behind(furthest);
            self.pace.moved_to(own, Instant::now());
            self.name_straggler();
        }
        let sent = if self.job.rank() == 0 { furthest } else { own };
        self.tell_all(&Message::Heartbeat(sent));
    }

    /// When the peer that was heard least lately has been silent for too long.
    fn silent_until(&self) -> Instant {
        let heard = self.peers.values().map(|peer| peer.heard).min();
        heard.unwrap_or_else(Instant::now) + self.job.config.dead_after()
    }

    fn on_silence(&mut self, since_last_beat: Duration) {
        let dead_after = self.job.config.dead_after();
        if since_last_beat > dead_after / 2 {
            // This process itself was frozen: what the peers said meanwhile is still unread.
            self.peers
                .values_mut()
                .for_each(|peer| peer.heard = Instant::now());
        }
        for (rank, peer) in &self.peers {
            let silence = peer.heard.elapsed();
            if silence >= dead_after {
                let how = format!(
                    "no heartbeat for {:.1} s: its process or host is frozen, or the network is cut",
                    silence.as_secs_f64()
                );
                let rank = self.job.name(*rank);
                self.shared.fail(Cause::Lost { rank, how });
            }
        }
    }

    /// The exit barrier: nobody goes before all want to.
    fn on_leaving(&mut self, told: &mut bool) {
        if self.job.rank() == 0 {
            if self.arrivals.is_none() && self.peers.values().all(|peer| peer.leaving) {
                self.tell_all(&Message::Farewell);
                self.left = true;
            }
        } else if !*told {
            *told = true;
            self.tell_all(&Message::Leave);
        }
    }

    /// Rank 0 says who holds the others up, if somebody has for a while: the rank that stands still
    /// longest of those that have begun fewer operations than others.
    fn name_straggler(&mut self) {
        let now = Instant::now();
        let peers = self.peers.values_mut().map(|peer| &mut peer.pace);
        let mut paces: Vec<_> = peers.chain([&mut self.pace]).collect();
        let begun = paces.iter().map(|pace| pace.position.operations);
        let furthest = begun.max().unwrap_or_default();
        let behind = paces
            .iter_mut()
            .filter_map(|pace| Some((pace.straggles(furthest, now)?, pace.position)))
            .max_by_key(|(waited, _)| *waited);
        let Some((waited, Position { rank, operations })) = behind else {
            return;
        };
        let message = format!(
            "waiting {:.0} s for rank {} ({}) in {}{}: it has begun operation {operations} so far",
            waited.as_secs_f64(),
            self.job.name(rank),
            self.job.config.hosts[rank],
            self.shared.name_of(furthest),
            self.shared
                .step()
                .map_or(String::new(), |step| format!(", step {step}")),
        );
        log::warn!("{message}");
        self.tell_all(&Message::Warning(message.clone()));
        self.shared.warn(message);
    }

    fn tell_all(&self, message: &Message) {
        for peer in self.peers.values() {
            peer.tell(message);
        }
    }

    /// Tells a failure, then stays until the peers have hung up, so that nothing said is lost.
    async fn end(mut self) {
        if self.left {
            self.shared.set_left();
        } else if let Some(cause) = self.shared.cause() {
            self.tell_all(&Message::Failed(cause.told_by(self.job.own_name())));
        }
        for peer in self.peers.values_mut() {
            peer.finish();
        }
        let all_closed = async {
            while self.peers.values().any(|peer| !peer.closed) {
                if let Some((rank, Event::Closed(_))) = self.events.recv().await
                    && let Some(peer) = self.peers.get_mut(&rank)
                {
                    peer.closed = true;
                }
            }
        };
        timeout(LINGER, all_closed).await.ok();
    }
}

fn pace_of(job: &Job, rank: usize) -> Pace {
    Pace::new(rank, Instant::now(), job.config.straggler())
}

async fn next_arrival(arrivals: &mut Option<UnboundedReceiver<Arrival>>) -> Option<Arrival> {
    match arrivals {
        Some(arrivals) => arrivals.recv().await,
        None => None,
    }
}

/// Completes with what this rank has reached, nothing if it will not say.
async fn own_reach(reached: &mut Option<oneshot::Receiver<Vec<usize>>>) -> Vec<usize> {
    match reached {
        Some(reached) => reached.await.unwrap_or_default(),
        None => Vec::new(),
    }
}

async fn listen_to(rank: usize, mut reader: SecureReader, events: UnboundedSender<(usize, Event)>) {
    loop {
        let event = match reader.receive().await {
            Ok(message) => Event::Said(message),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Event::Closed("its process ended, or closed its control connection".to_owned())
            }
            Err(error) => Event::Closed(format!("its control connection broke: {error}")),
        };
        let closed = matches!(event, Event::Closed(_));
        if events.send((rank, event)).is_err() || closed {
            return;
        }
    }
}
