//! Allreduce in two stages: every member sums one chunk of the vector for all.
//!
//! ```text
//!   members     0     1     2
//!   chunks     abc   abc   abc     stage 0   chunk a of all goes to 0, b to 1, c to 2: they add
//!              A..   .B.   ..C     stage 1   everybody sends its sum to everybody
//!              ABC   ABC   ABC
//! ```
//! Each member sends `2 (n - 1) / n` of the vector, as little as is possible, in two rounds. It needs
//! links between all. A chunk is summed by one member, its own part first, then those of the members
//! after it, in turn; the others have copies.

use crate::algorithm::{Plan, Step, add, send, store};
use crate::topology::chunks::Slice;

/// The plan of the member at `place` among `members`.
#[derive(Debug)]
pub(crate) struct Scatter<'a> {
    pub(crate) members: &'a [usize],
    pub(crate) place: usize,
    /// Whether all shall have all sums, and not only each its own chunk.
    pub(crate) gather: bool,
}

impl Plan for Scatter<'_> {
    fn stages(&self) -> usize {
        if self.gather { 2 } else { 1 }
    }

    fn parts(&self) -> usize {
        self.members.len()
    }

    fn chunks(&self) -> usize {
        self.members.len()
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let n = self.members.len();
        let part = |place: usize| slice.of(n, place);
        for distance in 1..n {
            // To the members after this one, from those before: nobody is everybody's first.
            let (to, from) = ((self.place + distance) % n, (self.place + n - distance) % n);
            let (to_rank, from_rank) = (self.members[to], self.members[from]);
            if stage == 0 {
                steps.push(send(to_rank, part(to)));
                steps.push(add(from_rank, part(self.place)));
            } else {
                steps.push(send(to_rank, part(self.place)));
                steps.push(store(from_rank, part(from)));
            }
        }
    }
}
