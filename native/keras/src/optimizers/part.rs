//! The parameters, gradients and state of all variables, cut into parts for several threads.

use std::ops::Range;

use super::rule::{Piece, SLOTS};
use super::slot::Slot;
use super::workers::CHUNK;
use crate::indexed_slices::IndexedSlices;
use crate::variables::Variable;

/// What an optimizer keeps for one variable.
#[derive(Debug)]
pub(super) struct State {
    /// The elements of the variable that this optimizer updates: all, unless it is one of several.
    pub(super) own: Range<usize>,
    /// The slots of the rule.
    pub(super) slots: Vec<Slot>,
    /// The moving average of the parameters, if one is kept.
    pub(super) average: Option<Slot>,
    /// The gradients since the last update, if they are accumulated over several steps.
    pub(super) accumulator: Option<Slot>,
}

impl State {
    /// All slots, with the ranks in which Keras creates them for all variables, one rank after the
    /// other.
    pub(super) fn ranked(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let own = self.average.iter().map(|slot| (0, slot));
        let own = own.chain(self.accumulator.iter().map(|slot| (1, slot)));
        own.chain(self.slots.iter().map(|slot| (2 + slot.group, slot)))
    }

    /// The same, to be changed.
    pub(super) fn ranked_mut(&mut self) -> impl Iterator<Item = (usize, &mut Slot)> {
        let own = self.average.iter_mut().map(|slot| (0, slot));
        let own = own.chain(self.accumulator.iter_mut().map(|slot| (1, slot)));
        own.chain(self.slots.iter_mut().map(|slot| (2 + slot.group, slot)))
    }
}

/// A stretch of one variable with all that belongs to it.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Index of the variable.
    pub(super) variable: usize,
    /// What a rule sees of it.
    pub(super) piece: Piece<'a>,
    /// The same stretch of the average; empty if none is kept.
    pub(super) average: &'a mut [f32],
    /// The same stretch of the accumulator; empty if nothing is accumulated.
    pub(super) accumulator: &'a mut [f32],
}

impl Part<'_> {
    /// The piece, lent once more.
    pub(super) fn piece(&mut self) -> Piece<'_> {
        let [a, b, c] = &mut self.piece.slots;
        Piece {
            shape: self.piece.shape,
            grads: self.piece.grads,
            params: self.piece.params,
            slots: [a, b, c],
            statistics: self.piece.statistics,
        }
    }
}

/// Cuts the parameters and gradients, laid out as `variables`, into parts: whole variables, or
/// pieces of a chunk each, of what is the optimizer's own. Variables without such elements have none,
/// nor those whose `slices`, in the order of the variables that they belong to, are not dense.
pub(super) fn cut<'a>(
    variables: &'a [Variable],
    states: &'a mut [State],
    mut params: &'a mut [f32],
    mut grads: &'a mut [f32],
    slices: &'a mut [IndexedSlices],
    is_whole: bool,
) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut slices = slices.iter_mut().peekable();
    for (index, (variable, state)) in variables.iter().zip(states).enumerate() {
        let len = variable.len();
        let own = |values: &'a mut [f32]| values.get_mut(state.own.clone()).unwrap_or_default();
        let slices = slices.next_if(|slices| slices.variable() == index);
        let is_dense = slices.as_ref().is_none_or(|slices| slices.is_dense());
        let piece = Piece {
            shape: &variable.shape,
            grads: own(grads.split_off_mut(..len).unwrap_or_default()),
            params: own(params.split_off_mut(..len).unwrap_or_default()),
            slots: values(&mut state.slots),
            statistics: own(slices
                .map(IndexedSlices::statistics_mut)
                .unwrap_or_default()),
        };
        let len = state.own.len();
        if len == 0 || !is_dense {
            continue;
        }
        let size = if is_whole { len } else { CHUNK };
        let mut averages = chunks(&mut state.average, size);
        let mut accumulators = chunks(&mut state.accumulator, size);
        let pieces = if is_whole {
            vec![piece]
        } else {
            piece.split(CHUNK)
        };
        parts.extend(pieces.into_iter().map(|piece| Part {
            variable: index,
            piece,
            average: averages.next().unwrap_or_default(),
            accumulator: accumulators.next().unwrap_or_default(),
        }));
    }
    parts
}

fn values(slots: &mut [Slot]) -> [&mut [f32]; SLOTS] {
    let mut slots = slots.iter_mut();
    std::array::from_fn(|_| {
        slots
            .next()
            .map(|slot| slot.values.as_mut_slice())
            .unwrap_or_default()
    })
}

fn chunks(slot: &mut Option<Slot>, size: usize) -> std::slice::ChunksMut<'_, f32> {
    let values = slot.as_mut().map(|slot| slot.values.as_mut_slice());
    values.unwrap_or_default().chunks_mut(size)
}
