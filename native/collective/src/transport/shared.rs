//! A link through shared memory: frames in the rings of two inboxes, this rank's and the peer's.
//!
//! A frame begins at a multiple of 64 bytes: its head in 32 bytes, then the payload. It is published
//! whole, so a frame that begins to show is there to its end.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::transport::byte_ring::{Consumer, Corrupt, Producer};
use crate::transport::frame::{HEAD_BYTES, Head};
use crate::transport::inbox::{Inbox, ring_bytes};
use crate::transport::{Fault, Link, Progress, store_copy};

/// The parts in which plans move data through memory: a quarter of a ring of eight ranks, so that one
/// goes on before the other is done.
pub(crate) const SEGMENT_BYTES: usize = 64 << 10;

const LINE: usize = 64;
const HEAD_SPACE: usize = 32;

/// Both directions to a rank that shares memory with this one.
pub(crate) struct SharedLink {
    own: Arc<Inbox>,
    theirs: Inbox,
    /// This rank's place in the group, which is the place of its ring in the peer's inbox.
    place: usize,
    /// The peer's place in the group.
    peer: usize,
    capacity: usize,
    producer: Producer,
    consumer: Consumer,
    /// Position and payload of the frame that has come.
    come: Option<(usize, usize)>,
}

impl SharedLink {
    /// The link between `own` and `theirs`, the inboxes of the two places of a group of `group`
    /// ranks.
    pub(crate) fn new(
        own: Arc<Inbox>,
        theirs: Inbox,
        (place, peer): (usize, usize),
        group: usize,
    ) -> Self {
        let capacity = ring_bytes(group);
        Self {
            own,
            theirs,
            place,
            peer,
            capacity,
            producer: Producer::new(capacity as u64),
            consumer: Consumer::new(capacity as u64),
            come: None,
        }
    }
}

impl Link for SharedLink {
    fn try_send(&mut self, head: &Head, payload: &[u8]) -> Result<Progress, Fault> {
        let whole = space(payload.len());
        let reserved = self.producer.reserve(whole, self.theirs.head(self.place));
        let Some(at) = reserved.map_err(corrupt)? else {
            return Ok(Progress::Nothing);
        };
        let at = local(at);
        self.theirs
            .write(self.place, self.capacity, at, &head.bytes);
        self.theirs
            .write(self.place, self.capacity, at + HEAD_SPACE, payload);
        self.producer.publish(whole, self.theirs.tail(self.place));
        self.theirs.ring(self.place);
        Ok(Progress::Done)
    }

    fn try_receive(&mut self, due: &Head) -> Result<Progress, Fault> {
        if self.come.is_some() {
            return Ok(Progress::Done);
        }
        let tail = self.own.tail(self.peer);
        let begun = self
            .consumer
            .available(LINE as u64, tail)
            .map_err(corrupt)?;
        let Some(at) = begun.map(local) else {
            return Ok(Progress::Nothing);
        };
        let [came, _] = self.own.read(self.peer, self.capacity, at, HEAD_BYTES);
        if came != due.bytes {
            let mut other = [0; HEAD_BYTES];
            other[..came.len()].copy_from_slice(came);
            return Err(Fault::Wrong(due.differs_from(&other)));
        }
        match self.consumer.available(space(due.payload), tail) {
            Ok(Some(_)) => {}
            Ok(None) | Err(Corrupt) => return Err(corrupt(Corrupt)),
        }
        self.come = Some((at, due.payload));
        Ok(Progress::Done)
    }

    fn try_store(&mut self, due: &Head, into: &mut [u8]) -> Result<Progress, Fault> {
        store_copy(self, due, into)
    }

    fn payload(&self) -> [&[u8]; 2] {
        match self.come {
            Some((at, length)) => self
                .own
                .read(self.peer, self.capacity, at + HEAD_SPACE, length),
            None => [&[]; 2],
        }
    }

    fn release(&mut self) {
        if let Some((_, length)) = self.come.take() {
            self.consumer
                .release(space(length), self.own.head(self.peer));
            self.theirs.ring_for_room();
        }
    }

    fn segment_bytes(&self) -> usize {
        self.capacity / 4
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The space a frame takes up in a ring.
fn space(payload: usize) -> u64 {
    (HEAD_SPACE + payload).next_multiple_of(LINE) as u64
}

/// The part of a position that says where it is, as rings are smaller than 4 GiB.
fn local(position: u64) -> usize {
    usize::try_from(position & u64::from(u32::MAX)).unwrap_or(0)
}

fn corrupt(_: Corrupt) -> Fault {
    Fault::Wrong("its end of the shared memory holds what cannot be right".to_owned())
}
