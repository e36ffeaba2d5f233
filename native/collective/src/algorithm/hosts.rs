//! Broadcast and allgather among hosts: what all ranks of a host shall have crosses the network to that
//! host once, to a leader who hands it on in the host's memory.
//!
//! ```text
//!   broadcast from 1      host A: 0 1    host B: 2 3      0 and 2 lead, unless the root's like do
//!     first               1 ──> 0                         only where the root does not lead
//!     then                    0 ──────────> 2             along a tree or a chain of the leaders
//!     last                                  2 ──> 3       likewise in each host
//!
//!   allgather
//!     stage 0             everybody to everybody of its host
//!     then                leaders exchange what their hosts have: at once, or along a ring
//!     one stage behind    each leader hands on what has come
//! ```

use std::ops::Range;

use crate::algorithm::broadcast::spread;
use crate::algorithm::{Plan, Step, send, store};
use crate::topology::chunks::Slice;
use crate::topology::groups::Groups;
use crate::topology::partners::MESH;

/// Plans one after the other, of which a rank may take part in some.
pub(crate) struct Phases(Vec<Phase>);

struct Phase {
    /// On all ranks alike: as many as the longest plan has.
    stages: usize,
    plan: Option<Box<dyn Plan>>,
}

impl Phases {
    /// What `rank` does in a broadcast of so many bytes from `root`.
    pub(crate) fn broadcast(groups: &Groups, rank: usize, root: usize, bytes: usize) -> Self {
        let place = groups.place(root);
        let leads = place < groups.rails();
        let mut leaders = groups.rail(if leads { place } else { 0 });
        // From the root's host on, so that distances between hosts are those that have links.
        leaders.rotate_left(groups.index(root));
        let among = |members: Vec<usize>, longest: usize| Phase {
            stages: spread(&vec![0; longest], 0, bytes).map_or(0, |plan| plan.stages()),
            plan: spread(&members, rank, bytes),
        };
        let mut phases = Vec::new();
        if !leads {
            phases.push(among(vec![root, leaders[0]], 2));
        }
        let group = groups.of(rank);
        let leader = leaders.iter().find(|leader| group.contains(leader));
        let others = group.iter().filter(|member| {
            let has_it = !leads && **member == root;
            Some(*member) != leader && !has_it
        });
        let members = leader.into_iter().chain(others).copied().collect();
        let hosts = leaders.len();
        phases.push(among(leaders.clone(), hosts));
        phases.push(among(members, groups.largest()));
        Self(phases)
    }
}

impl Plan for Phases {
    fn stages(&self) -> usize {
        self.0.iter().map(|phase| phase.stages).sum()
    }

    fn parts(&self) -> usize {
        1
    }

    fn steps(&self, mut stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        for phase in &self.0 {
            if stage < phase.stages {
                let plan = phase.plan.as_ref().filter(|plan| stage < plan.stages());
                return plan.map_or((), |plan| plan.steps(stage, slice, steps));
            }
            stage -= phase.stages;
        }
    }
}

/// The plan of an allgather for `rank`, where rank `r` has `pieces[r]` of the vector. The vector is one
/// slice.
pub(crate) struct HostGather<'a> {
    pub(crate) groups: &'a Groups,
    pub(crate) rank: usize,
    pub(crate) pieces: &'a [Range<usize>],
}

impl HostGather<'_> {
    /// How many stages leaders take to exchange what they have.
    fn rounds(&self) -> usize {
        match self.groups.count() {
            hosts if hosts <= MESH => 1,
            hosts => hosts - 1,
        }
    }

    /// Of which hosts a leader has received what they have once `round` of its rounds is over, counted
    /// from 0, and not before; as distances to its own host, backwards.
    fn came_in(&self, round: usize) -> Range<usize> {
        if self.groups.count() <= MESH {
            1..self.groups.count()
        } else {
            round + 1..round + 2
        }
    }

    /// What the host so many places before this rank's has of the vector, in as few pieces as it takes.
    fn of_host(&self, back: usize) -> Vec<Range<usize>> {
        let (hosts, own) = (self.groups.count(), self.groups.index(self.rank));
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for member in self.groups.members((own + hosts - back) % hosts) {
            let piece = self.pieces[*member].clone();
            match ranges.last_mut() {
                Some(last) if last.end == piece.start => last.end = piece.end,
                _ => ranges.push(piece),
            }
        }
        ranges
    }

    fn within_host(&self, steps: &mut Vec<Step>) {
        let (group, place) = (self.groups.of(self.rank), self.groups.place(self.rank));
        let n = group.len();
        for distance in 1..n {
            let (to, from) = (
                group[(place + distance) % n],
                group[(place + n - distance) % n],
            );
            steps.push(send(to, self.pieces[self.rank].clone()));
            steps.push(store(from, self.pieces[from].clone()));
        }
    }

    fn between_leaders(&self, round: usize, steps: &mut Vec<Step>) {
        let (hosts, own) = (self.groups.count(), self.groups.index(self.rank));
        let leader = |host: usize| self.groups.members(host % hosts)[0];
        if hosts <= MESH {
            for distance in 1..hosts {
                let to = leader(own + distance);
                steps.extend(self.of_host(0).into_iter().map(|range| send(to, range)));
                let from = leader(own + hosts - distance);
                let came = self.of_host(distance).into_iter();
                steps.extend(came.map(|range| store(from, range)));
            }
        } else {
            let (next, previous) = (leader(own + 1), leader(own + hosts - 1));
            let passed = self.of_host(round).into_iter();
            steps.extend(passed.map(|range| send(next, range)));
            let came = self.of_host(round + 1).into_iter();
            steps.extend(came.map(|range| store(previous, range)));
        }
    }

    fn hand_on(&self, round: usize, steps: &mut Vec<Step>) {
        let group = self.groups.of(self.rank);
        let came = self.came_in(round).flat_map(|back| self.of_host(back));
        let came: Vec<_> = came.collect();
        if self.groups.place(self.rank) > 0 {
            steps.extend(came.into_iter().map(|range| store(group[0], range)));
            return;
        }
        for member in &group[1..] {
            steps.extend(came.iter().map(|range| send(*member, range.clone())));
        }
    }
}

impl Plan for HostGather<'_> {
    fn stages(&self) -> usize {
        2 + self.rounds()
    }

    fn parts(&self) -> usize {
        usize::MAX
    }

    fn steps(&self, stage: usize, _slice: Slice, steps: &mut Vec<Step>) {
        if stage == 0 {
            return self.within_host(steps);
        }
        if stage <= self.rounds() && self.groups.place(self.rank) == 0 {
            self.between_leaders(stage - 1, steps);
        }
        if stage > 1 {
            self.hand_on(stage - 2, steps);
        }
    }
}
