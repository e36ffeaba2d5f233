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
            let head = head.load_acquire();
            if self
                .tail
                .checked_sub(head)
                .is_none_or(|used| used > self.capacity)
            {
                return Err(Corrupt);
            }
            self.head = head;
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
            let tail = tail.load_acquire();
            if tail
                .checked_sub(self.head)
                .is_none_or(|used| used > self.capacity)
            {
                return Err(Corrupt);
            }
            self.tail = tail;
        }
        Ok((self.tail - self.head >= length).then_some(self.head))
    }

    /// Gives the next `length` bytes back to the producer.
    pub(crate) fn release(&mut self, length: u64, head: &impl Index) {
        self.head += length;
        head.store_release(self.head);
    }
}

/// The ring and its doorbell under every interleaving of two threads that the memory model allows.
#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
    use loom::thread;

    use super::{Consumer, Corrupt, Index, Producer};

    impl Index for AtomicU64 {
        fn load_acquire(&self) -> u64 {
            self.load(Ordering::Acquire)
        }

        fn store_release(&self, value: u64) {
            self.store(value, Ordering::Release);
        }
    }

    const CAPACITY: usize = 2;

    /// A ring of two places, each with a value that only the two indices protect.
    struct Shared {
        head: AtomicU64,
        tail: AtomicU64,
        places: [AtomicU32; CAPACITY],
        waiting: AtomicU32,
        rings: AtomicU32,
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            places: [AtomicU32::new(0), AtomicU32::new(0)],
            waiting: AtomicU32::new(0),
            rings: AtomicU32::new(0),
        })
    }

    fn place(position: u64) -> usize {
        usize::try_from(position).expect("small") % CAPACITY
    }

    #[test]
    fn what_is_taken_is_what_was_put_in() {
        loom::model(|| {
            let ring = shared();
            let there = Arc::clone(&ring);
            let sender = thread::spawn(move || {
                let mut producer = Producer::new(CAPACITY as u64);
                for value in 1..=3 {
                    let at = loop {
                        match producer.reserve(1, &there.head).expect("a right head") {
                            Some(at) => break at,
                            None => thread::yield_now(),
                        }
                    };
                    there.places[place(at)].store(value, Ordering::Relaxed);
                    producer.publish(1, &there.tail);
                }
            });
            let mut consumer = Consumer::new(CAPACITY as u64);
            for expected in 1..=3 {
                let at = loop {
                    match consumer.available(1, &ring.tail).expect("a right tail") {
                        Some(at) => break at,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(ring.places[place(at)].load(Ordering::Relaxed), expected);
                consumer.release(1, &ring.head);
            }
            sender.join().expect("no panic");
        });
    }

    /// The protocol of `Inbox::announce`, `sleep` and `ring`, without the kernel: a receiver that
    /// goes to sleep has either seen what came, or been rung for.
    #[test]
    fn nobody_sleeps_while_something_is_there() {
        loom::model(|| {
            let ring = shared();
            let there = Arc::clone(&ring);
            let sender = thread::spawn(move || {
                let mut producer = Producer::new(CAPACITY as u64);
                producer.reserve(1, &there.head).expect("a right head");
                producer.publish(1, &there.tail);
                fence(Ordering::SeqCst);
                if there.waiting.load(Ordering::Relaxed) == 1 {
                    there.rings.fetch_add(1, Ordering::Release);
                }
            });
            let mut consumer = Consumer::new(CAPACITY as u64);
            let rings = ring.rings.load(Ordering::Acquire);
            ring.waiting.store(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let seen = consumer.available(1, &ring.tail).expect("a right tail");
            sender.join().expect("no panic");
            let rung = ring.rings.load(Ordering::Acquire) != rings;
            assert!(seen.is_some() || rung, "asleep for ever");
        });
    }

    /// As above with the abort instead of a frame: the flag is set before the bell is rung.
    #[test]
    fn nobody_sleeps_through_an_abort() {
        loom::model(|| {
            let ring = shared();
            let (there, stopped) = (Arc::clone(&ring), Arc::new(AtomicU32::new(0)));
            let flag = Arc::clone(&stopped);
            let failing = thread::spawn(move || {
                flag.store(1, Ordering::Release);
                there.rings.fetch_add(1, Ordering::Release);
            });
            // A waiter looks at the flag after it has read the number of rings it will sleep on.
            let rings = ring.rings.load(Ordering::Acquire);
            let seen = stopped.load(Ordering::Acquire) == 1;
            failing.join().expect("no panic");
            let rung = ring.rings.load(Ordering::Acquire) != rings;
            assert!(seen || rung, "asleep for ever");
        });
    }

    #[test]
    fn an_index_that_cannot_be_right_is_found_out() {
        let word = std::sync::atomic::AtomicU64::new(3);
        let mut consumer = Consumer::new(2);
        assert_eq!(consumer.available(1, &word), Err(Corrupt));
        let mut producer = Producer::new(2);
        producer.publish(2, &std::sync::atomic::AtomicU64::new(0));
        assert_eq!(producer.reserve(1, &word), Err(Corrupt));
        word.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(producer.reserve(1, &word), Err(Corrupt));
    }
}
