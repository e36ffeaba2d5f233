//! Allreduce of large vectors among many by recursive halving and doubling.
//!
//! ```text
//!   0   1   2   3      stage 1   pairs at a distance of 2 exchange halves: 0 and 2 add each its own
//!   abcd               stage 2   pairs at a distance of 1 exchange halves of these halves
//!   ab..   ..cd                  now each holds the sum of one part
//!   a... .b..          stages 3 and 4   the same way back, with sums that are only copied
//! ```
//! Each member sends `2 (n - 1) / n` of the vector, as on a ring, but in `2 log2 n` rounds. Members
//! beyond the largest power of two join in before (stage 0) and have the sum sent at last, whole.

use std::ops::Range;

use crate::algorithm::{Plan, Step, add, send, store};
use crate::topology::chunks::Slice;

/// The plan of the member at `place` among `members`.
#[derive(Debug)]
pub(crate) struct Halving<'a> {
    pub(crate) members: &'a [usize],
    pub(crate) place: usize,
}

impl Halving<'_> {
    /// What the member at `place` holds of the block after `halvings` halvings.
    fn held(&self, place: usize, halvings: usize, block: &Range<usize>) -> Range<usize> {
        let mut held = block.clone();
        for level in 0..halvings {
            let middle = held.start + held.len() / 2;
            let upper = place >> (self.levels() - 1 - level) & 1 == 1;
            held = if upper {
                middle..held.end
            } else {
                held.start..middle
            };
        }
        held
    }

    fn levels(&self) -> usize {
        self.members.len().ilog2() as usize
    }
}

impl Plan for Halving<'_> {
    fn stages(&self) -> usize {
        2 + 2 * self.levels()
    }

    fn parts(&self) -> usize {
        1 << self.levels()
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let block = slice.whole();
        let (members, place) = (self.members, self.place);
        let levels = self.levels();
        let core = 1 << levels;
        if stage == 0 || stage + 1 == self.stages() {
            let joining = stage == 0;
            match members.get(place + core).copied() {
                Some(other) if joining => steps.push(add(other, block)),
                Some(other) => steps.push(send(other, block)),
                None if place >= core && joining => steps.push(send(members[place - core], block)),
                None if place >= core => steps.push(store(members[place - core], block)),
                None => {}
            }
            return;
        }
        if place >= core {
            return;
        }
        // Halvings made so far: up to `levels`, and then back.
        let turn = stage - 1;
        let level = turn.min(2 * levels - 1 - turn);
        let other = place ^ (core >> (level + 1));
        let (own, theirs) = (
            self.held(place, level + 1, &block),
            self.held(other, level + 1, &block),
        );
        if turn < levels {
            steps.push(send(members[other], theirs));
            steps.push(add(members[other], own));
        } else {
            steps.push(send(members[other], own));
            steps.push(store(members[other], theirs));
        }
    }
}
