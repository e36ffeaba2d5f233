//! Collective operations as plans: who sends which part of a vector to whom, and when.
//!
//! A plan is pure index arithmetic. It says what a rank does with a slice of the vector in each of
//! some stages; [`pipeline`] carries it out over links, stage after stage for each slice and one
//! slice behind the other:
//!
//! ```text
//!            round 0   round 1   round 2   round 3
//!  slice 0   stage 0   stage 1   stage 2              in a round a rank sends and receives at once
//!  slice 1             stage 0   stage 1   stage 2    all that the stages of that round ask for
//! ```
//! Additions are made in the order in which a plan lists them, so a sum has the same bits in every
//! run; that it has the same bits on every rank is each plan's own affair.

pub(crate) mod broadcast;
pub(crate) mod choice;
pub(crate) mod direct;
pub(crate) mod doubling;
pub(crate) mod gather;
pub(crate) mod halving;
pub(crate) mod hierarchical;
pub(crate) mod hosts;
pub(crate) mod pipeline;
pub(crate) mod ring;
pub(crate) mod scatter;
#[cfg(test)]
mod simulation;
pub(crate) mod windows;

use std::ops::Range;

use crate::topology::chunks::Slice;

/// What a rank does with a part of the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sends it.
    Send,
    /// Replaces it by what comes.
    Store,
    /// Adds what comes to it.
    Add,
}

/// One transfer of a rank: elements of the vector, to or from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) peer: usize,
    pub(crate) range: Range<usize>,
}

/// A collective operation as one rank sees it. For each pair of ranks the plans of both must list
/// their transfers within a stage in the same order.
pub(crate) trait Plan {
    /// How many stages a slice goes through, the same on all ranks.
    fn stages(&self) -> usize;

    /// How many segments a slice has, the same on all ranks.
    fn parts(&self) -> usize;

    /// How many chunks of the vector a slice has a part of.
    fn chunks(&self) -> usize {
        1
    }

    /// Appends what this rank does in `stage` with `slice`.
    fn steps(&self, stage: usize, slice: Slice, steps: &mut Vec<Step>);
}

fn send(peer: usize, range: Range<usize>) -> Step {
    let action = Action::Send;
    Step {
        action,
        peer,
        range,
    }
}

fn store(peer: usize, range: Range<usize>) -> Step {
    let action = Action::Store;
    Step {
        action,
        peer,
        range,
    }
}

fn add(peer: usize, range: Range<usize>) -> Step {
    let action = Action::Add;
    Step {
        action,
        peer,
        range,
    }
}
