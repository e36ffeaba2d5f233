//! In which order a pass over the data draws rows.
//!
//! While rows still arrive they are drawn out of a buffer, as `tf.data.Dataset.shuffle(buffer_size)`
//! does. Where the dataset keeps its rows, the buffer of later passes is all of them, which makes the
//! draw a full shuffle. The order depends on the seed, the pass, the rank, the size of batches and
//! the order of arrival, never on timing nor on where rows are kept.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::VecDeque;

/// How many rows wait so that one can be drawn at random, unless the caller says otherwise.
pub const SHUFFLE_BUFFER: usize = 4096;

/// A row's place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef {
    /// Index of the block.
    pub block: u32,
    /// Row within the block.
    pub row: u32,
}

/// The rows that the current pass has not drawn yet: 8 bytes for each.
#[derive(Debug)]
pub(crate) struct Order {
    pending: VecDeque<RowRef>,
    shuffle: Option<Seed>,
    buffer: usize,
    rng: Xoshiro256PlusPlus,
}

#[derive(Debug, Clone, Copy)]
struct Seed {
    seed: u64,
    rank: usize,
}

impl Order {
    /// `seed` turns shuffling on, with `buffer` rows.
    pub(crate) fn new(seed: Option<u64>, rank: usize, buffer: usize) -> Self {
        let mut order = Self {
            pending: VecDeque::new(),
            shuffle: seed.map(|seed| Seed { seed, rank }),
            buffer,
            rng: random(seed.unwrap_or(0), &[]),
        };
        order.start_pass(0);
        order
    }

    /// Starts pass `pass`, counted from 0, with no rows.
    pub(crate) fn start_pass(&mut self, pass: usize) {
        if let Some(Seed { seed, rank }) = self.shuffle {
            self.rng = random(seed, &[pass as u64, rank as u64]);
        }
        self.pending.clear();
    }

    /// Adds the rows of a block.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block is one record batch"
    )]
    pub(crate) fn offer(&mut self, block: u32, rows: usize) {
        let rows = (0..rows).map(|row| row as u32);
        self.pending.extend(rows.map(|row| RowRef { block, row }));
    }

    /// Whether rows that are still to come must be there before `batch_size` rows are drawn.
    pub(crate) fn wants_more(&self, batch_size: usize) -> bool {
        let enough = match self.shuffle {
            Some(_) => self.buffer.max(batch_size),
            None => batch_size,
        };
        self.pending.len() < enough
    }

    /// Draws up to `batch_size` rows.
    pub(crate) fn draw(&mut self, batch_size: usize) -> Vec<RowRef> {
        let count = batch_size.min(self.pending.len());
        (0..count).filter_map(|_| self.draw_one()).collect()
    }

    fn draw_one(&mut self) -> Option<RowRef> {
        if self.shuffle.is_none() {
            return self.pending.pop_front();
        }
        let at = below(&mut self.rng, self.pending.len());
        self.pending.swap_remove_front(at)
    }
}

/// A generator for one purpose: the same seed and parts give the same stream everywhere.
pub(crate) fn random(seed: u64, parts: &[u64]) -> Xoshiro256PlusPlus {
    // SplitMix64 (Steele et al. 2014) as the mixing step between the parts.
    let mixed = parts.iter().fold(seed, |state, part| {
        let mut z = state ^ part.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    Xoshiro256PlusPlus::seed_from_u64(mixed)
}

/// An index below `n`, by Lemire's multiply-and-shift; the bias is below `n` / 2^64.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the high half of the product is below n"
)]
fn below(rng: &mut Xoshiro256PlusPlus, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
