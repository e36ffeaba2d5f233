//! Allreduce on a ring: every member sends to the next and receives from the previous.
//!
//! With three members and chunks a, b, c of the vector, where `a01` is the sum of chunk a of members
//! 0 and 1:
//!
//! ```text
//!   0 ──> 1 ──> 2      reduce-scatter: send a chunk, add the one received
//!   ^           │        stage 0   0 sends c0    1 sends a1    2 sends b2
//!   └───────────┘        stage 1   0 sends b20   1 sends c01   2 sends a12
//!                        then      0 holds a120  1 holds b201  2 holds c012
//!                      allgather: pass the finished chunks round
//!                        stage 2   0 sends a     1 sends b     2 sends c
//!                        stage 3   0 sends c     1 sends a     2 sends b
//! ```
//! Each member sends `2 (n - 1) / n` of the vector to a single other one, whatever `n` is. A chunk
//! is summed in one place in the order of the ring and then copied.

use crate::algorithm::{Plan, Step, add, send, store};
use crate::topology::chunks::Slice;

/// The plan of the member at `place` among `members`.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    pub(crate) members: &'a [usize],
    pub(crate) place: usize,
    /// Whether all shall have all sums, and not only each its own chunk.
    pub(crate) gather: bool,
}

impl Plan for Ring<'_> {
    fn stages(&self) -> usize {
        let once = self.members.len() - 1;
        if self.gather { 2 * once } else { once }
    }

    fn parts(&self) -> usize {
        self.members.len()
    }

    fn chunks(&self) -> usize {
        self.members.len()
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let (n, place) = (self.members.len(), self.place);
        let part = |index: usize| slice.of(n, index % n);
        let (next, previous) = (
            self.members[(place + 1) % n],
            self.members[(place + n - 1) % n],
        );
        // Stage n - 1 begins the second way round, with the chunk that stage n - 2 has finished.
        steps.push(send(next, part(place + 2 * n - 1 - stage)));
        let incoming = part(place + 2 * n - 2 - stage);
        steps.push(if stage + 1 < n {
            add(previous, incoming)
        } else {
            store(previous, incoming)
        });
    }
}
