//! Allgather: every member has one piece of the vector, and all get all pieces.
//!
//! ```text
//!   links between all:   everybody sends its piece to everybody, at once
//!   a ring otherwise:    stage k   everybody passes on the piece that began k places before it
//! ```

use std::ops::Range;

use crate::algorithm::{Plan, Step, send, store};
use crate::topology::chunks::Slice;

/// The plan of the member at `place` among `members`, where piece `p` of the vector is `pieces[p]`.
/// The vector is one slice.
#[derive(Debug)]
pub(crate) struct Gather<'a> {
    pub(crate) members: &'a [usize],
    pub(crate) place: usize,
    pub(crate) pieces: &'a [Range<usize>],
    /// Whether there are links between all members.
    pub(crate) mesh: bool,
}

impl Plan for Gather<'_> {
    fn stages(&self) -> usize {
        if self.mesh { 1 } else { self.members.len() - 1 }
    }

    fn parts(&self) -> usize {
        usize::MAX
    }

    fn steps(&self, stage: usize, _slice: Slice, steps: &mut Vec<Step>) {
        let (n, place) = (self.members.len(), self.place);
        if self.mesh {
            for distance in 1..n {
                let (to, from) = ((place + distance) % n, (place + n - distance) % n);
                steps.push(send(self.members[to], self.pieces[place].clone()));
                steps.push(store(self.members[from], self.pieces[from].clone()));
            }
        } else {
            let (next, previous) = (
                self.members[(place + 1) % n],
                self.members[(place + n - 1) % n],
            );
            steps.push(send(next, self.pieces[(place + n - stage) % n].clone()));
            steps.push(store(
                previous,
                self.pieces[(place + n - stage - 1) % n].clone(),
            ));
        }
    }
}
