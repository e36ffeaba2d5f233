//! Which plan an operation takes: by the length of the vector and by what all ranks know of the
//! world, so that all choose the same.

use std::ops::Range;

use crate::algorithm::broadcast::spread;
use crate::algorithm::direct;
use crate::algorithm::doubling::Doubling;
use crate::algorithm::gather::Gather;
use crate::algorithm::halving::Halving;
use crate::algorithm::hierarchical::Hierarchical;
use crate::algorithm::hosts::{HostGather, Phases};
use crate::algorithm::pipeline::run;
use crate::algorithm::ring::Ring;
use crate::algorithm::scatter::Scatter;
use crate::algorithm::{Plan, Step};
use crate::element::Element;
use crate::topology::chunks::Slice;
use crate::topology::groups::Groups;
use crate::topology::partners::MESH;
use crate::transport::LinkError;
use crate::transport::frame::Operation;
use crate::transport::links::Links;
use crate::wire::{Encoding, Plain};

/// Vectors that everybody sends to everybody: all bytes that a rank sends are at most so many.
const DIRECT_BYTES: usize = 32 << 10;
/// Vectors that cross the network whole in each of a few rounds.
const DOUBLING_BYTES: usize = 16 << 10;
/// Elements that are rounded at a time, to stay in a core's cache.
const PIECE: usize = 16 << 10;
/// From so many bytes for each member on a ring takes no longer than halving: its rounds are more, but
/// each of them goes to the same neighbour.
const RING_BYTES: usize = 4 << 20;
/// The same where halving has members beyond a power of two, for which others send twice as much.
const UNEVEN_RING_BYTES: usize = 64 << 10;

/// The ranks of a job as one of them sees them.
#[derive(Debug)]
pub(crate) struct World {
    rank: usize,
    all: Vec<usize>,
    groups: Groups,
    /// The rail of this rank, or if it is on none the one there is.
    rail: Vec<usize>,
}

impl World {
    pub(crate) fn new(rank: usize, world_size: usize, groups: Groups) -> Self {
        let place = groups.place(rank);
        Self {
            rank,
            all: (0..world_size).collect(),
            rail: groups.rail(if place < groups.rails() { place } else { 0 }),
            groups,
        }
    }

    #[cfg(test)]
    pub(crate) fn members(&self) -> &[usize] {
        &self.all
    }

    /// This rank.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// Whether all ranks share memory with each other.
    pub(crate) fn shares_memory(&self) -> bool {
        self.groups.count() == 1
    }

    /// Sums `data` over all ranks, with the same bits on each.
    pub(crate) fn allreduce<T: Element, E: Encoding<T>>(
        &self,
        links: &mut Links,
        operation: Operation,
        data: &mut [T],
    ) -> Result<(), LinkError> {
        links.begin(operation, size_of_val(data));
        match self.plan(size_of_val(data)) {
            None => direct::allreduce::<T, E>(links, (&self.all, self.rank), data),
            Some(plan) => finish::<T, E>(links, &*plan, data),
        }
    }

    /// The plan of an allreduce of so many bytes; none if all send all they have to all.
    pub(crate) fn plan(&self, bytes: usize) -> Option<Box<dyn Plan + '_>> {
        let n = self.all.len();
        if is_short(n, bytes) {
            return None;
        }
        if !self.groups.are_mixed() {
            return Some(flat(&self.all, self.rank, bytes));
        }
        let (group, place) = (self.groups.of(self.rank), self.groups.place(self.rank));
        // A rank on no rail only counts the stages of one, as many wherever it stands.
        let on_rail = self.rail.iter().position(|rank| *rank == self.rank);
        Some(Box::new(Hierarchical {
            group,
            place,
            rails: self.groups.rails(),
            rail: flat(
                &self.rail,
                on_rail.unwrap_or_default(),
                bytes / self.groups.rails(),
            ),
        }))
    }

    /// Sums the chunks of `data` over all ranks, each on one of them; the other elements of `data` are
    /// of no use any more. Sums have the bits of an allreduce.
    pub(crate) fn reduce_scatter<T: Element>(
        &self,
        links: &mut Links,
        operation: Operation,
        data: &mut [T],
    ) -> Result<(), LinkError> {
        match self.scatter_plan(size_of_val(data)) {
            Some(plan) => {
                links.begin(operation, size_of_val(data));
                run::<T, Plain>(links, &OneSlice(&*plan), data)
            }
            None => self.allreduce::<T, Plain>(links, operation, data),
        }
    }

    /// The first half of the plan of an allreduce of so many bytes, after which each rank has the sums
    /// of its own chunk. None where that plan has no such half: it is as good to carry it out whole
    /// where a vector is short, and better where what the ranks of a host have in common would cross
    /// the network for each of them.
    fn scatter_plan(&self, bytes: usize) -> Option<Box<dyn Plan + '_>> {
        let (members, place, n) = (self.all.as_slice(), self.rank, self.all.len());
        // The ranks' chunks need no slices: there is no second stage to go on with.
        let gather = false;
        if self.groups.are_mixed() || is_short(n, bytes) {
            None
        } else if n <= MESH {
            Some(Box::new(Scatter {
                members,
                place,
                gather,
            }))
        } else {
            is_for_a_ring(n, bytes).then(|| {
                let ring = Ring {
                    members,
                    place,
                    gather,
                };
                Box::new(ring) as Box<dyn Plan>
            })
        }
    }

    /// Fills `data` on every rank with that of `root`.
    pub(crate) fn broadcast<T: Element>(
        &self,
        links: &mut Links,
        operation: Operation,
        root: usize,
        data: &mut [T],
    ) -> Result<(), LinkError> {
        links.begin(operation, size_of_val(data));
        match self.broadcast_plan(root, size_of_val(data)) {
            Some(plan) => run::<T, Plain>(links, &*plan, data),
            None => Ok(()),
        }
    }

    /// The plan of a broadcast of so many bytes; every rank has one.
    pub(crate) fn broadcast_plan(&self, root: usize, bytes: usize) -> Option<Box<dyn Plan>> {
        if self.groups.are_mixed() {
            let phases = Phases::broadcast(&self.groups, self.rank, root, bytes);
            return Some(Box::new(phases));
        }
        // Ranks in turn from the root on: distances, and so links, are the same.
        let n = self.all.len();
        let members: Vec<_> = (0..n).map(|place| (root + place) % n).collect();
        spread(&members, self.rank, bytes)
    }

    /// Fills `all` with the piece of each rank, which has its own.
    pub(crate) fn gather<T: Element>(
        &self,
        links: &mut Links,
        operation: Operation,
        pieces: &[Range<usize>],
        all: &mut [T],
    ) -> Result<(), LinkError> {
        let bytes = size_of_val(all);
        links.begin(operation, bytes);
        run::<T, Plain>(links, &*self.gather_plan(pieces, bytes), all)
    }

    /// The plan of an allgather of `pieces`, which have so many bytes together.
    pub(crate) fn gather_plan<'a>(
        &'a self,
        pieces: &'a [Range<usize>],
        bytes: usize,
    ) -> Box<dyn Plan + 'a> {
        let (groups, rank, mesh) = (&self.groups, self.rank, self.all.len() <= MESH);
        if groups.are_mixed() && (!mesh || bytes > DIRECT_BYTES) {
            return Box::new(HostGather {
                groups,
                rank,
                pieces,
            });
        }
        Box::new(Gather {
            members: &self.all,
            place: rank,
            pieces,
            mesh,
        })
    }

    /// Gives every rank the two words of each, in rank order.
    pub(crate) fn gather_words(
        &self,
        links: &mut Links,
        operation: Operation,
        own: [u64; 2],
    ) -> Result<Vec<[u64; 2]>, LinkError> {
        let size = size_of_val(&own);
        let pieces: Vec<_> = self
            .all
            .iter()
            .map(|rank| size * rank..size * (rank + 1))
            .collect();
        let mut all = vec![0u8; size * self.all.len()];
        for (bytes, word) in all[pieces[self.rank].clone()]
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(own)
        {
            *bytes = word.to_le_bytes();
        }
        self.gather(links, operation, &pieces, &mut all)?;
        let words = all
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes));
        let words: Vec<_> = words.collect();
        Ok(words.as_chunks().0.to_vec())
    }

    /// Gives every rank the block of each, in rank order. Blocks may differ in length.
    pub(crate) fn allgather(
        &self,
        links: &mut Links,
        operation: Operation,
        block: &[u8],
    ) -> Result<Vec<Vec<u8>>, LinkError> {
        let (members, place) = (self.all.as_slice(), self.rank);
        let mut lengths = vec![0u8; 8 * members.len()];
        lengths[8 * place..8 * (place + 1)].copy_from_slice(&(block.len() as u64).to_le_bytes());
        let pieces: Vec<_> = members
            .iter()
            .map(|rank| 8 * rank..8 * (rank + 1))
            .collect();
        self.gather(links, operation, &pieces, &mut lengths)?;

        let mut end = 0usize;
        let pieces: Vec<_> = lengths
            .as_chunks()
            .0
            .iter()
            .map(|length| {
                let start = end;
                end = end.saturating_add(local_length(*length));
                start..end
            })
            .collect();
        let mut all = Vec::new();
        if all.try_reserve_exact(end).is_err() {
            let longest = members.iter().max_by_key(|rank| pieces[**rank].len());
            return Err(too_long(longest.copied().unwrap_or_default(), end));
        }
        all.resize(end, 0u8);
        all[pieces[place].clone()].copy_from_slice(block);
        self.gather(links, operation, &pieces, &mut all)?;
        Ok(pieces
            .iter()
            .map(|piece| all[piece.clone()].to_vec())
            .collect())
    }

    /// Gives every rank the bytes of `root`; what others pass in is ignored.
    pub(crate) fn broadcast_bytes(
        &self,
        links: &mut Links,
        operation: Operation,
        root: usize,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, LinkError> {
        let mut announced = (data.len() as u64).to_le_bytes();
        self.broadcast(links, operation, root, &mut announced)?;
        let length = local_length(announced);
        if self.rank != root {
            data.clear();
            if data.try_reserve_exact(length).is_err() {
                return Err(too_long(root, length));
            }
            data.resize(length, 0);
        }
        self.broadcast(links, operation, root, &mut data)?;
        Ok(data)
    }
}

/// The plan among `members` that all stand alone on the network, or all share memory.
fn flat(members: &[usize], place: usize, bytes: usize) -> Box<dyn Plan + '_> {
    let (n, gather) = (members.len(), true);
    if n > MESH && bytes <= DOUBLING_BYTES {
        Box::new(Doubling { members, place })
    } else if n <= MESH {
        Box::new(Scatter {
            members,
            place,
            gather,
        })
    } else if is_for_a_ring(n, bytes) {
        Box::new(Ring {
            members,
            place,
            gather,
        })
    } else {
        Box::new(Halving { members, place })
    }
}

/// Whether all of `n` ranks send so many bytes to all.
fn is_short(n: usize, bytes: usize) -> bool {
    n <= MESH && bytes * (n - 1) <= DIRECT_BYTES
}

/// Whether a ring takes no longer than halving among `n` members.
fn is_for_a_ring(n: usize, bytes: usize) -> bool {
    let least = if n.is_power_of_two() {
        RING_BYTES
    } else {
        UNEVEN_RING_BYTES
    };
    bytes / n >= least
}

/// A plan that takes the vector as one slice.
struct OneSlice<'a>(&'a dyn Plan);

impl Plan for OneSlice<'_> {
    fn stages(&self) -> usize {
        self.0.stages()
    }

    fn parts(&self) -> usize {
        usize::MAX
    }

    fn chunks(&self) -> usize {
        self.0.chunks()
    }

    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>) {
        self.0.steps(stage, slice, steps);
    }
}

/// Carries `plan` out, after which sums that were not sent are rounded like those that were.
fn finish<T: Element, E: Encoding<T>>(
    links: &mut Links,
    plan: &dyn Plan,
    data: &mut [T],
) -> Result<(), LinkError> {
    run::<T, E>(links, plan, data)?;
    if !E::AS_IT_IS {
        let mut unused = Vec::new();
        for piece in data.chunks_mut(PIECE) {
            unused.clear();
            E::encode(piece, &mut unused);
        }
    }
    Ok(())
}

fn local_length(length: [u8; 8]) -> usize {
    usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX)
}

/// Every rank announces lengths of its own data, so one beyond memory is nonsense.
fn too_long(rank: usize, length: usize) -> LinkError {
    LinkError {
        rank,
        fault: crate::transport::Fault::Wrong(format!("data of {length} bytes was announced")),
    }
}
