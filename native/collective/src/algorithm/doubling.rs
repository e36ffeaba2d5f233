//! Allreduce of small vectors by recursive doubling: pairs exchange all they have and both add.
//!
//! ```text
//!   0   1   2   3   4      5 members: the largest power of two is 4, the one beyond it joins in
//!   │<──────────────┘      stage 0     4 sends to 0, which adds
//!   │<─>│   │<─>│          stage 1     neighbours exchange and add
//!   │<─────>│   │          stage 2     pairs at a distance of two do
//!       │<─────>│
//!   │──────────────>│      stage 3     0 sends the sum to 4
//! ```
//! The vector crosses the network whole in each of the `log2 n` rounds. Both of a pair add the same
//! two numbers, and a sum of two does not depend on their order, so all have the same bits.

use crate::algorithm::{Plan, Step, add, send, store};
use crate::topology::chunks::Slice;

/// The plan of the member at `place` among `members`.
#[derive(Debug)]
pub(crate) struct Doubling<'a> {
    pub(crate) members: &'a [usize],
    pub(crate) place: usize,
}

impl Plan for Doubling<'_> {
    fn stages(&self) -> usize {
        2 + self.members.len().ilog2() as usize
    }

    fn parts(&self) -> usize {
        1
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let block = slice.whole();
        let (members, place) = (self.members, self.place);
        let core = 1 << members.len().ilog2();
        let beyond = members.get(place + core).copied();
        if stage == 0 || stage + 1 == self.stages() {
            let joining = stage == 0;
            match beyond {
                Some(other) if joining => steps.push(add(other, block)),
                Some(other) => steps.push(send(other, block)),
                None if place >= core && joining => steps.push(send(members[place - core], block)),
                None if place >= core => steps.push(store(members[place - core], block)),
                None => {}
            }
        } else if place < core {
            let other = members[place ^ (1 << (stage - 1))];
            steps.push(send(other, block.clone()));
            steps.push(add(other, block));
        }
    }
}
