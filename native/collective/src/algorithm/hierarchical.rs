//! Allreduce among hosts: each group sums in its own memory first, and one rank of it, the leader,
//! speaks for it on the network.
//!
//! ```text
//!   host A: 0 1 2     host B: 3 4        stage 0        1 and 2 send to 0, 4 sends to 3: they add
//!           0 <──────────────> 3         stages 1 ..    the leaders' own allreduce of these sums
//!           0 1 2             3 4        last stage     leaders send the sum to their groups
//! ```
//! A slice crosses the network while the next is summed within the groups and the one before is
//! handed out.

use crate::algorithm::{Plan, Step, add, send, store};
use crate::topology::chunks::Slice;

/// The plan of a rank of `group`, of which the first is the leader; only a leader's own plan asks
/// for steps in `among_leaders`, all others know how many stages it has.
pub(crate) struct Hierarchical<'a> {
    pub(crate) group: &'a [usize],
    pub(crate) rank: usize,
    pub(crate) among_leaders: &'a dyn Plan,
}

impl Plan for Hierarchical<'_> {
    fn stages(&self) -> usize {
        2 + self.among_leaders.stages()
    }

    fn parts(&self) -> usize {
        self.among_leaders.parts()
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        let leads = self.group[0] == self.rank;
        let others = &self.group[1..];
        if stage == 0 && leads {
            steps.extend(others.iter().map(|member| add(*member, slice.whole())));
        } else if stage == 0 {
            steps.push(send(self.group[0], slice.whole()));
        } else if stage + 1 < self.stages() {
            if leads {
                self.among_leaders.steps(stage - 1, slice, steps);
            }
        } else if leads {
            steps.extend(others.iter().map(|member| send(*member, slice.whole())));
        } else {
            steps.push(store(self.group[0], slice.whole()));
        }
    }
}
