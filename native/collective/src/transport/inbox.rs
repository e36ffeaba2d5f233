//! Where a rank takes what the other ranks of its host send: a ring of bytes for each of them, and
//! a doorbell to sleep on.
//!
//! ```text
//! 0        token, u64: random, proves to a peer that this is the memory it was told of
//! 64       doorbell, u32: counts rings, a futex;  68  whom the owner waits for, u32
//! 128      for each sender: tail, u64, written by the sender; 64 bytes on: head, written by the owner
//! 16384    for each sender: its ring
//! ```
//! A word and its writer have a cache line of their own. Data here needs no code against alteration:
//! whoever can write to this memory is the same user and could change the process itself.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::transport::memory::Memory;
use crate::transport::wait::{futex_wait, futex_wake};

const PURPOSE: &str = "inbox";
const TOKEN: usize = 0;
const DOORBELL: usize = 64;
const WAITING: usize = 68;
const SENDERS: usize = 128;
const SENDER_STRIDE: usize = 128;
const RINGS: usize = 16 << 10;
const RINGS_BYTES: usize = 2 << 20;
const INBOX_BYTES: usize = RINGS + RINGS_BYTES;
const SMALLEST_RING: usize = 16 << 10;
const LARGEST_RING: usize = 1 << 20;

/// The most ranks that share memory with each other; more on one host form several groups.
pub(crate) const LARGEST_GROUP: usize = 64;

/// Nobody is waited for.
const AWAKE: u32 = 0;
/// Whatever happens is waited for.
const ANYTHING: u32 = u32::MAX;

/// Where an inbox is to be found by those who see its owner, process and descriptor, and the token
/// that proves it. Short, as one message holds those of all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address(u32, i32, u64);

/// The memory of one inbox, its owner's or a sender's view of it.
#[derive(Debug)]
pub(crate) struct Inbox {
    memory: Memory,
    /// Until all who can have opened it.
    file: Mutex<Option<OwnedFd>>,
}

impl Inbox {
    /// This rank's own inbox, proven by `token`.
    pub(crate) fn create(token: u64) -> io::Result<(Self, Address)> {
        let (memory, file) = Memory::create(PURPOSE, INBOX_BYTES)?;
        memory.word64(TOKEN).store(token, Ordering::Release);
        let address = Address(std::process::id(), file.as_raw_fd(), token);
        let file = Mutex::new(Some(file));
        Ok((Self { memory, file }, address))
    }

    /// The inbox at `address`, if this process can reach it and finds the token in it.
    pub(crate) fn open(Address(pid, fd, token): Address) -> io::Result<Self> {
        let memory = Memory::open(PURPOSE, (pid, fd), INBOX_BYTES)?;
        if memory.word64(TOKEN).load(Ordering::Acquire) != token {
            return Err(io::Error::other("its token is not there"));
        }
        let file = Mutex::new(None);
        Ok(Self { memory, file })
    }

    /// Takes all memory of the inbox from the system.
    pub(crate) fn reserve(&self) -> io::Result<()> {
        match &*self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => Memory::reserve(file, INBOX_BYTES),
            None => Ok(()),
        }
    }

    /// From now on nobody else can open it.
    pub(crate) fn shut(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The word that `sender` writes: how many bytes it has put into its ring.
    pub(crate) fn tail(&self, sender: usize) -> &AtomicU64 {
        self.memory.word64(SENDERS + sender * SENDER_STRIDE)
    }

    /// The word that the owner writes: how many bytes of the ring of `sender` it has taken.
    pub(crate) fn head(&self, sender: usize) -> &AtomicU64 {
        self.memory.word64(SENDERS + sender * SENDER_STRIDE + 64)
    }

    /// Writes `bytes` at `offset` of a ring of `capacity` bytes, beyond its end at its beginning.
    pub(crate) fn write(&self, sender: usize, capacity: usize, offset: usize, bytes: &[u8]) {
        let offset = offset % capacity;
        let ring = RINGS + sender * capacity;
        let (first, second) = bytes.split_at(bytes.len().min(capacity - offset));
        self.memory.write(ring + offset, first);
        self.memory.write(ring, second);
    }

    /// What [`write`](Self::write) wrote, in two pieces.
    pub(crate) fn read(
        &self,
        sender: usize,
        capacity: usize,
        offset: usize,
        length: usize,
    ) -> [&[u8]; 2] {
        let offset = offset % capacity;
        let ring = RINGS + sender * capacity;
        let first = length.min(capacity - offset);
        [
            self.memory.bytes(ring + offset, first),
            self.memory.bytes(ring, length - first),
        ]
    }

    fn doorbell(&self) -> &AtomicU32 {
        self.memory.word32(DOORBELL)
    }

    fn waiting(&self) -> &AtomicU32 {
        self.memory.word32(WAITING)
    }

    /// The owner is about to sleep until `sender` rings, or anybody. It must look once more whether
    /// what it waits for has come, and then [`sleep`](Self::sleep) with the number returned.
    pub(crate) fn announce(&self, sender: Option<usize>) -> u32 {
        let rings = self.doorbell().load(Ordering::Acquire);
        let whom = sender.map_or(ANYTHING, name);
        self.waiting().store(whom, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        rings
    }

    /// The owner is not about to sleep after all.
    pub(crate) fn stay_awake(&self) {
        self.waiting().store(AWAKE, Ordering::Relaxed);
    }

    /// Sleeps until somebody rings after `announce`, or for `patience`.
    pub(crate) fn sleep(&self, rings: u32, patience: Duration) {
        futex_wait(self.doorbell(), rings, patience);
        self.stay_awake();
    }

    /// `sender` has put something in, for an owner that sleeps until it does.
    pub(crate) fn ring(&self, sender: usize) {
        fence(Ordering::SeqCst);
        let whom = self.waiting().load(Ordering::Relaxed);
        if whom == ANYTHING || whom == name(sender) {
            self.wake();
        }
    }

    /// Room has become free in another's inbox, for an owner that sleeps until anything happens.
    pub(crate) fn ring_for_room(&self) {
        fence(Ordering::SeqCst);
        if self.waiting().load(Ordering::Relaxed) == ANYTHING {
            self.wake();
        }
    }

    /// Wakes the owner whatever it waits for.
    pub(crate) fn wake(&self) {
        self.stay_awake();
        self.doorbell().fetch_add(1, Ordering::Release);
        futex_wake(self.doorbell());
    }
}

/// The word for one sender, of which a group has far fewer than there are words.
fn name(sender: usize) -> u32 {
    u32::try_from(sender + 1).unwrap_or(ANYTHING)
}

/// Size of each ring in an inbox of a group of so many ranks: a power of two, so that positions
/// wrap without a gap.
pub(crate) fn ring_bytes(group: usize) -> usize {
    let fair = (RINGS_BYTES / group.max(1)).max(1);
    (1 << fair.ilog2()).clamp(SMALLEST_RING, LARGEST_RING)
}

#[cfg(test)]
mod tests {
    use super::{
        Address, INBOX_BYTES, Inbox, LARGEST_GROUP, RINGS, SENDER_STRIDE, SENDERS, ring_bytes,
    };

    #[test]
    fn the_rings_of_every_group_fit() {
        const { assert!(SENDERS + LARGEST_GROUP * SENDER_STRIDE <= RINGS) };
        for group in 2..=LARGEST_GROUP {
            assert!(RINGS + group * ring_bytes(group) <= INBOX_BYTES, "{group}");
        }
    }

    #[test]
    fn only_the_right_token_opens_an_inbox() {
        let (inbox, address) = Inbox::create(7).expect("shared memory");
        inbox.reserve().expect("2 MiB");
        assert!(Inbox::open(address).is_ok());
        let Address(pid, fd, _) = address;
        assert!(Inbox::open(Address(pid, fd, 8)).is_err());
        assert!(Inbox::open(Address(pid, -1, 7)).is_err());
        assert!(Inbox::open(Address(pid, 0, 7)).is_err());
        inbox.shut();
        assert!(Inbox::open(address).is_err());
    }

    #[test]
    fn bytes_go_round_the_end_of_a_ring() {
        let (inbox, address) = Inbox::create(1).expect("shared memory");
        let sender = Inbox::open(address).expect("the same memory");
        let capacity = ring_bytes(2);
        sender.write(1, capacity, 3 * capacity - 64, &[9; 100]);
        let [first, second] = inbox.read(1, capacity, 3 * capacity - 64, 100);
        assert_eq!((first, second), ([9; 64].as_slice(), [9; 36].as_slice()));
    }
}
