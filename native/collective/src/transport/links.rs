//! All links of a rank, and how it waits for them.
//!
//! A wait costs the trainer little: it spins for some microseconds where the host has a core for
//! each of its ranks, then lets others run between two looks, then sleeps until a peer rings this
//! rank's doorbell, a socket is ready, or a slice of time is over. Whatever wakes it, it looks
//! whether the job has failed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::topology::groups::Groups;
use crate::transport::frame::{Head, Kind, Operation};
use crate::transport::inbox::Inbox;
use crate::transport::wait::{Wanted, poll};
use crate::transport::{Fault, Link, LinkError, Progress, shared, tcp};

/// Looks that follow each other at once, for about ten microseconds. Nothing tells the processor that
/// this is a spin: a hypervisor that hears of it may take the core away for longer than that.
const SPINS: u32 = 200;
/// Looks with a chance for others to run in between.
const YIELDS: u32 = 100;
/// The longest sleep. A doorbell or a socket ends it earlier; this is for the case that a peer dies
/// between putting something in and ringing.
const SLICE: Duration = Duration::from_millis(100);
/// The longest sleep when both a doorbell and a socket may end the wait, as it is only on sockets.
const MIXED_SLICE: Duration = Duration::from_micros(200);
/// After so long a wait a line in the log says who is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

struct Peer {
    link: Box<dyn Link>,
    /// Its place in this rank's group, if the link is shared memory.
    place: Option<usize>,
    sent: u32,
    received: u32,
}

/// The links of one rank by the rank at their other end.
pub(crate) struct Links {
    peers: Vec<Option<Peer>>,
    inbox: Option<Arc<Inbox>>,
    stopped: Arc<AtomicBool>,
    progress_timeout: Duration,
    segment_bytes: usize,
    spins: u32,
    operation: Operation,
    total: usize,
    waiting: Waiting,
}

#[derive(Default)]
struct Waiting {
    looks: u32,
    since: Option<Instant>,
    warned: u32,
    /// The number to sleep on, once peers have been told that this rank is about to.
    announced: Option<u32>,
}

impl Links {
    /// Links of `groups` without any peer yet. `stopped` becomes true when the job fails, after which
    /// somebody wakes this rank; `spin` says whether there is a core for each rank of this host.
    pub(crate) fn new(
        groups: &Groups,
        inbox: Option<Arc<Inbox>>,
        stopped: Arc<AtomicBool>,
        progress_timeout: Duration,
        spin: bool,
    ) -> Self {
        Self {
            peers: (0..groups.ranks()).map(|_| None).collect(),
            inbox,
            stopped,
            progress_timeout,
            segment_bytes: if groups.count() == 1 {
                shared::SEGMENT_BYTES
            } else {
                tcp::SEGMENT_BYTES
            },
            spins: if spin { SPINS } else { 0 },
            operation: Operation {
                number: 0,
                kind: Kind::Allreduce,
            },
            total: 0,
            waiting: Waiting::default(),
        }
    }

    /// Adds the link to `rank`; `place` is its place in this rank's group if they share memory.
    pub(crate) fn add(&mut self, rank: usize, link: Box<dyn Link>, place: Option<usize>) {
        self.peers[rank] = Some(Peer {
            link,
            place,
            sent: 0,
            received: 0,
        });
    }

    /// From now on frames belong to `operation` on `total` bytes.
    pub(crate) fn begin(&mut self, operation: Operation, total: usize) {
        self.operation = operation;
        self.total = total;
        for peer in self.peers.iter_mut().flatten() {
            (peer.sent, peer.received) = (0, 0);
        }
    }

    /// The parts in which plans move data, the same on all ranks.
    pub(crate) fn part_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// The most payload bytes of a frame between this rank and `rank`.
    pub(crate) fn segment_bytes(&self, rank: usize) -> usize {
        let peer = self.peers.get(rank).and_then(Option::as_ref);
        peer.map_or(1, |peer| peer.link.segment_bytes())
    }

    /// See [`Link::try_send`].
    pub(crate) fn try_send(&mut self, to: usize, payload: &[u8]) -> Result<Progress, LinkError> {
        let (operation, total) = (self.operation, self.total);
        let peer = self.peer(to)?;
        let head = Head::new(operation, total, peer.sent, payload.len());
        let sent = peer
            .link
            .try_send(&head, payload)
            .map_err(|fault| LinkError { rank: to, fault })?;
        if sent == Progress::Done {
            peer.sent = peer.sent.wrapping_add(1);
        }
        Ok(sent)
    }

    /// Looks whether the next frame from `from`, of `length` bytes, has come.
    pub(crate) fn try_receive(
        &mut self,
        from: usize,
        length: usize,
    ) -> Result<Progress, LinkError> {
        let (operation, total) = (self.operation, self.total);
        let peer = self.peer(from)?;
        let due = Head::new(operation, total, peer.received, length);
        peer.link
            .try_receive(&due)
            .map_err(|fault| LinkError { rank: from, fault })
    }

    /// Looks whether the next frame from `from` has come, with a place for it; see
    /// [`Link::try_store`].
    pub(crate) fn try_store(
        &mut self,
        from: usize,
        into: &mut [u8],
    ) -> Result<Progress, LinkError> {
        let (operation, total) = (self.operation, self.total);
        let peer = self.peer(from)?;
        let due = Head::new(operation, total, peer.received, into.len());
        let progress = peer.link.try_store(&due, into);
        let progress = progress.map_err(|fault| LinkError { rank: from, fault })?;
        if progress == Progress::Done {
            peer.received = peer.received.wrapping_add(1);
        }
        Ok(progress)
    }

    /// Has `take` use the pieces of the frame from `from` that has come, and is done with it.
    pub(crate) fn take(
        &mut self,
        from: usize,
        take: impl FnOnce([&[u8]; 2]),
    ) -> Result<(), LinkError> {
        let peer = self.peer(from)?;
        take(peer.link.payload());
        peer.link.release();
        peer.received = peer.received.wrapping_add(1);
        Ok(())
    }

    /// Something moved: the next wait begins anew.
    pub(crate) fn progressed(&mut self) {
        if self.waiting.looks > 0 {
            if self.waiting.announced.is_some()
                && let Some(inbox) = &self.inbox
            {
                inbox.stay_awake();
            }
            self.waiting = Waiting::default();
        }
    }

    /// Waits a little, as nothing moved: for a frame from `from`, or for room towards `to`. Returns
    /// for the caller to look again, or with an error once the job has failed or this took too long.
    pub(crate) fn wait(&mut self, from: Option<usize>, to: &[usize]) -> Result<(), LinkError> {
        let culprit = from.or(to.first().copied()).unwrap_or_default();
        let failed = |fault| LinkError {
            rank: culprit,
            fault,
        };
        if self.stopped.load(Ordering::Relaxed) {
            let ended = io::Error::new(io::ErrorKind::ConnectionAborted, "the job has ended");
            return Err(failed(Fault::Broken(ended)));
        }
        let look = self.waiting.looks;
        self.waiting.looks = look.saturating_add(1);
        if look < self.spins {
            return Ok(());
        }
        if look < self.spins + YIELDS {
            thread::yield_now();
        } else {
            self.sleep(from, to);
            let since = *self.waiting.since.get_or_insert_with(Instant::now);
            let waited = since.elapsed();
            if waited >= self.progress_timeout {
                return Err(failed(Fault::Stalled(waited)));
            }
            if waited >= PATIENCE * (self.waiting.warned + 1) {
                self.waiting.warned += 1;
                log::warn!(
                    "waiting {:.0} s for rank {culprit} in operation {} ({})",
                    waited.as_secs_f64(),
                    self.operation.number,
                    self.operation.kind
                );
            }
        }
        Ok(())
    }

    fn sleep(&mut self, from: Option<usize>, to: &[usize]) {
        let peers = &self.peers;
        let peer = |rank: usize| peers.get(rank).and_then(Option::as_ref);
        let senders = from.and_then(peer).map(|peer| (peer, false));
        let takers = to.iter().copied().filter_map(peer).map(|peer| (peer, true));
        let mut sockets: Vec<Wanted<'_>> = Vec::new();
        let mut shares = false;
        for (peer, writes) in senders.into_iter().chain(takers) {
            match peer.link.socket() {
                Some(socket) => sockets.push((socket, writes)),
                None => shares = true,
            }
        }
        let left = self.waiting.since.map_or(self.progress_timeout, |since| {
            self.progress_timeout.saturating_sub(since.elapsed())
        });
        let slice = left.clamp(Duration::from_millis(1), SLICE);
        match &self.inbox {
            Some(inbox) if shares && sockets.is_empty() => match self.waiting.announced {
                Some(rings) => {
                    inbox.sleep(rings, slice);
                    self.waiting.announced = None;
                }
                None => {
                    let sender = from.filter(|_| to.is_empty()).and_then(peer);
                    let place = sender.and_then(|sender| sender.place);
                    self.waiting.announced = Some(inbox.announce(place));
                }
            },
            _ if shares => poll(&sockets, MIXED_SLICE.min(slice)),
            _ => poll(&sockets, slice),
        }
    }

    fn peer(&mut self, rank: usize) -> Result<&mut Peer, LinkError> {
        let peer = self.peers.get_mut(rank).and_then(Option::as_mut);
        peer.ok_or_else(|| LinkError {
            rank,
            fault: Fault::Broken(io::Error::new(
                io::ErrorKind::NotConnected,
                "there is no link to it",
            )),
        })
    }
}
