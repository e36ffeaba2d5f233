//! The indices of a ring of bytes between one producer and one consumer.
//!
//! ```text
//!            head            tail
//!   ..........|##############|..........|      positions only grow; the place of a position in
//!             consumed up to  produced          memory is the position modulo the capacity
//! ```
//! The producer alone writes `tail`, the consumer alone writes `head`. Release and acquire on these
//! two words order the bytes between them. Each side keeps its own index in its own memory and
//! takes nothing from the shared words on trust: a peer that writes nonsense there is found out and
//! can at worst damage the bytes that are its own to damage.

use std::sync::atomic::{AtomicU64, Ordering};

/// A shared word that holds an index; in the tests one whose interleavings are explored.
pub(crate) trait Index {
    fn load_acquire(&self) -> u64;
    fn store_release(&self, value: u64);
}

impl Index for AtomicU64 {
    fn load_acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn store_release(&self, value: u64) {
        self.store(value, Ordering::Release);
    }
}

/// The peer's index cannot be right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// The sending end.
#[derive(Debug)]
pub(crate) struct Producer {
    capacity: u64,
    tail: u64,
    head: u64,
}

impl Producer {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            tail: 0,
            head: 0,
        }
    }

    /// The position to write `length` bytes at, if there is room for them.
    pub(crate) fn reserve(
        &mut self,
        length: u64,
        head: &impl Index,
    ) -> Result<Option<u64>, Corrupt> {
        if self.tail + length - self.head > self.capacity {
            self.head = head.load_acquire();
            if self
                .tail
                .checked_sub(self.head)
                .is_none_or(|used| used > self.capacity)
            {
                return Err(Corrupt);
            }
        }
        Ok((self.tail + length - self.head <= self.capacity).then_some(self.tail))
    }

    /// Lets the consumer see the `length` bytes written at the reserved position.
    pub(crate) fn publish(&mut self, length: u64, tail: &impl Index) {
        self.tail += length;
        tail.store_release(self.tail);
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Consumer {
    capacity: u64,
    head: u64,
    tail: u64,
}

impl Consumer {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            head: 0,
            tail: 0,
        }
    }

    /// The position of the next `length` bytes, if so many have come.
    pub(crate) fn available(
        &mut self,
        length: u64,
        tail: &impl Index,
    ) -> Result<Option<u64>, Corrupt> {
        if self.tail - self.head < length {
            self.tail = tail.load_acquire();
            if self
                .tail
                .checked_sub(self.head)
                .is_none_or(|used| used > self.capacity)
            {
                self.tail = self.head;
                return Err(Corrupt);
            }
        }
        Ok((self.tail - self.head >= length).then_some(self.head))
    }

    /// Gives the next `length` bytes back to the producer.
    pub(crate) fn release(&mut self, length: u64, head: &impl Index) {
        self.head += length;
        head.store_release(self.head);
    }
}
