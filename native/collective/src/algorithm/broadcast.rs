//! Broadcast from the first member.
//!
//! ```text
//!   a small vector, a tree                a large one, a chain: segment behind segment
//!   stage 0   0 ──> 1                       0 ──> 1 ──> 2 ──> 3
//!   stage 1   0 ──> 2   1 ──> 3             stage k   member k sends to member k + 1
//!   stage 2   0 ──> 4   1 ──> 5 ...
//! ```
//! The tree is done after `log2 n` rounds; on the chain everybody sends the vector once at most.

use crate::algorithm::{Plan, Step, send, store};
use crate::topology::chunks::Slice;

/// Vectors that are broadcast along a tree.
const TREE_BYTES: usize = 32 << 10;

/// What `rank` does to spread so many bytes among `members`, the first of whom has them; none if it is
/// not one of them.
pub(crate) fn spread(members: &[usize], rank: usize, bytes: usize) -> Option<Box<dyn Plan>> {
    let place = members.iter().position(|member| *member == rank)?;
    let members = members.to_vec();
    Some(if bytes <= TREE_BYTES {
        Box::new(Tree { members, place })
    } else {
        Box::new(Chain { members, place })
    })
}

/// The plan of the member at `place` among `members`, along a tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) members: Vec<usize>,
    pub(crate) place: usize,
}

impl Plan for Tree {
    fn stages(&self) -> usize {
        self.members.len().next_power_of_two().ilog2() as usize
    }

    fn parts(&self) -> usize {
        1
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let block = slice.whole();
        let distance = 1 << stage;
        if self.place < distance {
            if let Some(other) = self.members.get(self.place + distance) {
                steps.push(send(*other, block));
            }
        } else if self.place < 2 * distance {
            steps.push(store(self.members[self.place - distance], block));
        }
    }
}

/// The plan of the member at `place` among `members`, along a chain.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) members: Vec<usize>,
    pub(crate) place: usize,
}

impl Plan for Chain {
    fn stages(&self) -> usize {
        self.members.len() - 1
    }

    fn parts(&self) -> usize {
        1
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let block = slice.whole();
        if stage == self.place {
            steps.push(send(self.members[self.place + 1], block));
        } else if stage + 1 == self.place {
            steps.push(store(self.members[self.place - 1], block));
        }
    }
}
