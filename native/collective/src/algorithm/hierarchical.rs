//! Allreduce among hosts: what can be summed in a host's memory does not cross the network twice.
//!
//! Hosts with as many ranks each have rails: rank `i` of every host sums chunk `i` of the vector.
//!
//! ```text
//!   host A: 0 1     host B: 2 3     stage 0       0 and 1 exchange halves and add, so do 2 and 3
//!           0 <───────────> 2       stages 1 ..   the rail of 0 and 2 sums the first half,
//!             1 <───────────> 3                   that of 1 and 3 the second
//!                                   last stage    0 and 1 exchange the sums, so do 2 and 3
//! ```
//! Otherwise there is one rail, of the hosts' first ranks, and its chunk is the whole vector. In
//! either case a host sends what a rank alone on it would send. A slice crosses the network while the
//! next is summed within the hosts and the one before is handed out.

use crate::algorithm::{Plan, Step, add, send, store};
use crate::topology::chunks::{Slice, chunk};

/// The plan of the rank at `place` of `group`, the ranks of its host.
pub(crate) struct Hierarchical<'a> {
    pub(crate) group: &'a [usize],
    pub(crate) place: usize,
    /// How many ranks of each host, the first ones, are on a rail.
    pub(crate) rails: usize,
    /// The plan of this rank's rail; a rank on none only counts its stages.
    pub(crate) rail: Box<dyn Plan + 'a>,
}

impl Hierarchical<'_> {
    /// What a slice of the vector has of the chunk of rail `index`.
    fn of_rail(&self, slice: Slice, index: usize) -> Slice {
        let chunk = chunk(slice.length, self.rails, index);
        Slice {
            start: slice.start + chunk.start,
            length: chunk.len(),
            ..slice
        }
    }
}

impl Plan for Hierarchical<'_> {
    fn stages(&self) -> usize {
        2 + self.rail.stages()
    }

    fn parts(&self) -> usize {
        self.rails * self.rail.parts()
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let (first, last) = (stage == 0, stage + 1 == self.stages());
        if !first && !last {
            if self.place < self.rails {
                self.rail
                    .steps(stage - 1, self.of_rail(slice, self.place), steps);
            }
            return;
        }
        // The chunk of each rail in the pieces that its own plan takes.
        let chunks = self.rail.chunks();
        let pieces = |rail: usize| {
            let slice = self.of_rail(slice, rail);
            (0..chunks).map(move |chunk| slice.of(chunks, chunk))
        };
        let n = self.group.len();
        for distance in 1..n {
            let (to, from) = ((self.place + distance) % n, (self.place + n - distance) % n);
            let (sent, taken) = if first {
                (to, self.place)
            } else {
                (self.place, from)
            };
            if sent < self.rails {
                steps.extend(pieces(sent).map(|piece| send(self.group[to], piece)));
            }
            if taken < self.rails {
                let take = if first { add } else { store };
                steps.extend(pieces(taken).map(|piece| take(self.group[from], piece)));
            }
        }
    }
}
