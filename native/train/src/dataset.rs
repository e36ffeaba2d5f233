//! One rank's rows: which are cached, and in which order an epoch draws them.
//!
//! In the first epoch rows are drawn while later ones still arrive, out of a window of
//! [`SHUFFLE_WINDOW`] rows, as `tf.data.Dataset.shuffle(buffer_size)` does. From the second epoch
//! on the window is the whole cache, which makes the draw a full shuffle. The order depends on
//! the seed, the epoch, the rank and the order of arrival, never on timing.

use crate::block::Block;
use crate::error::Error;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::VecDeque;

/// Rows that wait in the first epoch so that one can be drawn at random.
pub const SHUFFLE_WINDOW: usize = 4096;

/// A row's place in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef {
    /// Index of the block.
    pub block: u32,
    /// Row within the block.
    pub row: u32,
}

/// Gives the next block of the stream; none at its end.
pub trait Blocks {
    /// Waits for the next block.
    ///
    /// # Errors
    /// Whatever ended the stream early.
    fn next_block(&mut self) -> Result<Option<Block>, Error>;
}

/// The blocks that have arrived, and the order in which the current epoch draws their rows.
#[derive(Debug)]
pub struct Dataset {
    blocks: Vec<Cached>,
    pending: VecDeque<RowRef>,
    /// Whether the stream has ended.
    complete: bool,
    /// Whether a block outlives the epoch that used its rows.
    keep: bool,
    shuffle: Option<Seed>,
    rng: Xoshiro256PlusPlus,
}

#[derive(Debug)]
struct Cached {
    /// Gone once every row was used, unless the dataset keeps blocks.
    block: Option<Block>,
    rows: usize,
    unused: usize,
}

#[derive(Debug, Clone, Copy)]
struct Seed {
    seed: u64,
    rank: usize,
}

impl Dataset {
    /// An empty dataset. Without `keep` a block's memory is freed as soon as its rows are used,
    /// which is enough for one epoch. `seed` turns shuffling on.
    pub fn new(seed: Option<u64>, rank: usize, keep: bool) -> Self {
        Self {
            blocks: Vec::new(),
            pending: VecDeque::new(),
            complete: false,
            keep,
            shuffle: seed.map(|seed| Seed { seed, rank }),
            rng: random(seed.unwrap_or(0), &[]),
        }
    }

    /// Receives the whole stream without using any row: before an epoch that is not the first.
    ///
    /// # Errors
    /// The stream's.
    pub fn fill(&mut self, source: &mut dyn Blocks) -> Result<(), Error> {
        while !self.complete {
            self.receive(source)?;
        }
        Ok(())
    }

    /// Starts epoch `epoch`, counted from 0. The first epoch starts with what has arrived, later
    /// ones with every row.
    pub fn start_epoch(&mut self, epoch: usize) {
        if let Some(Seed { seed, rank }) = self.shuffle {
            self.rng = random(seed, &[epoch as u64, rank as u64]);
        }
        self.pending.clear();
        for block in 0..self.blocks.len() {
            self.blocks[block].unused = self.blocks[block].rows;
            self.offer(block);
        }
    }

    /// Draws up to `batch_size` rows, waiting for the stream as long as it has not ended; empty
    /// when the epoch is over.
    ///
    /// # Errors
    /// The stream's.
    pub fn draw(
        &mut self,
        batch_size: usize,
        source: &mut dyn Blocks,
    ) -> Result<Vec<RowRef>, Error> {
        let window = if self.shuffle.is_some() {
            SHUFFLE_WINDOW.max(batch_size)
        } else {
            batch_size
        };
        while !self.complete && self.pending.len() < window {
            self.receive(source)?;
        }
        let count = batch_size.min(self.pending.len());
        let rows = (0..count).filter_map(|_| self.draw_one()).collect();
        Ok(rows)
    }

    /// The block a drawn row is in; none if its memory was freed.
    pub fn block(&self, index: u32) -> Option<&Block> {
        self.blocks.get(index as usize)?.block.as_ref()
    }

    /// Says that drawn rows have been copied, so that a block nobody needs any more is freed.
    pub fn release(&mut self, rows: &[RowRef]) {
        for row in rows {
            let cached = &mut self.blocks[row.block as usize];
            cached.unused -= 1;
            if cached.unused == 0 && !self.keep {
                cached.block = None;
            }
        }
    }

    fn receive(&mut self, source: &mut dyn Blocks) -> Result<(), Error> {
        match source.next_block()? {
            Some(block) => {
                let rows = block.rows;
                self.blocks.push(Cached {
                    block: Some(block),
                    rows,
                    unused: rows,
                });
                self.offer(self.blocks.len() - 1);
            }
            None => self.complete = true,
        }
        Ok(())
    }

    fn offer(&mut self, block: usize) {
        let rows = self.blocks[block].rows;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a block is one record batch"
        )]
        let refs = (0..rows).map(|row| RowRef {
            block: block as u32,
            row: row as u32,
        });
        self.pending.extend(refs);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Values;
    use std::collections::HashSet;

    struct Stream(VecDeque<usize>);

    impl Blocks for Stream {
        fn next_block(&mut self) -> Result<Option<Block>, Error> {
            Ok(self.0.pop_front().map(|rows| Block {
                rows,
                inputs: vec![Values::U8(vec![0; rows])],
                labels: Vec::new(),
                weights: None,
            }))
        }
    }

    fn epoch(dataset: &mut Dataset, stream: &mut Stream, index: usize) -> Vec<(u32, u32)> {
        dataset.start_epoch(index);
        let mut drawn = Vec::new();
        loop {
            let rows = dataset.draw(64, stream).unwrap();
            if rows.is_empty() {
                return drawn;
            }
            dataset.release(&rows);
            drawn.extend(rows.iter().map(|row| (row.block, row.row)));
        }
    }

    #[test]
    fn every_row_is_drawn_once_in_every_epoch() {
        let mut stream = Stream([1000, 0, 5000, 1, 313].into());
        let mut dataset = Dataset::new(Some(7), 0, true);
        for index in 0..3 {
            let rows = epoch(&mut dataset, &mut stream, index);
            assert_eq!(rows.len(), 6314);
            assert_eq!(rows.iter().collect::<HashSet<_>>().len(), 6314);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_rank_another() {
        let draw = |seed, rank| {
            let mut stream = Stream([1000, 4000, 2000].into());
            let mut dataset = Dataset::new(Some(seed), rank, true);
            let first = epoch(&mut dataset, &mut stream, 0);
            (first, epoch(&mut dataset, &mut stream, 1))
        };
        assert_eq!(draw(7, 0), draw(7, 0));
        assert_ne!(draw(7, 0), draw(8, 0));
        assert_ne!(draw(7, 0), draw(7, 1));
        let (first, second) = draw(7, 0);
        assert_ne!(first, second);
    }

    #[test]
    fn without_a_seed_rows_keep_their_order() {
        let mut stream = Stream([3, 2].into());
        let mut dataset = Dataset::new(None, 0, true);
        let order = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)];
        assert_eq!(epoch(&mut dataset, &mut stream, 0), order);
        assert_eq!(epoch(&mut dataset, &mut stream, 1), order);
    }

    #[test]
    fn a_dataset_for_one_epoch_frees_used_blocks() {
        let mut stream = Stream([64, 64].into());
        let mut dataset = Dataset::new(None, 0, false);
        dataset.start_epoch(0);
        let rows = dataset.draw(64, &mut stream).unwrap();
        assert!(dataset.block(0).is_some());
        dataset.release(&rows);
        assert!(dataset.block(0).is_none());
    }

    #[test]
    fn an_epoch_can_start_with_the_stream_already_received() {
        let mut stream = Stream([100, 200].into());
        let mut resumed = Dataset::new(Some(7), 0, true);
        resumed.fill(&mut stream).unwrap();
        let after_resume = epoch(&mut resumed, &mut stream, 1);
        let mut stream = Stream([100, 200].into());
        let mut whole = Dataset::new(Some(7), 0, true);
        epoch(&mut whole, &mut stream, 0);
        assert_eq!(after_resume, epoch(&mut whole, &mut stream, 1));
    }
}
