//! One rank's rows: those to train on and those to validate with, under one memory budget.
//!
//! `store` keeps blocks in memory up to the budget and the others in the file of `spill`, as the
//! `record`s of their rows; `order` says which rows an epoch draws next; `row` gathers rows from
//! wherever they are. What is drawn depends on the order alone, never on the budget.
//!
//! Beside the budget there are 8 bytes for each row to train on, the block that is just arriving,
//! those that wait for the trainer thread, and what one batch takes.

mod blob;
mod order;
mod record;
mod row;
mod spill;
mod store;
#[cfg(test)]
mod tests;

use crate::block::Block;
use crate::error::Error;
use order::Order;
pub(crate) use order::random;
pub use order::{RowRef, SHUFFLE_WINDOW};
pub(crate) use row::{Row, gather, too_large};
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Instant;
use store::Store;

/// Which rows a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Rows to train on.
    Training,
    /// Rows to measure loss and metrics on after each epoch.
    Validation,
}

/// What a wait for the next block came to.
#[derive(Debug)]
pub enum Arrival {
    /// A block.
    Block(Stream, Block),
    /// Nothing within the time.
    Late,
    /// Both streams have ended.
    End,
}

/// A rank's incoming blocks.
pub trait Blocks {
    /// Waits for the next block: until `deadline`, if there is one.
    ///
    /// # Errors
    /// Whatever ended the streams early.
    fn next_block(&mut self, deadline: Option<Instant>) -> Result<Arrival, Error>;
}

/// How a dataset keeps and draws its rows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Turns shuffling on.
    pub seed: Option<u64>,
    /// Whose rows they are.
    pub rank: usize,
    /// Whether rows are drawn again in another epoch. If not, a block is freed as soon as its rows
    /// are used.
    pub keep: bool,
    /// Bytes of memory for the rows of both streams.
    pub budget: u64,
    /// Where the file for the others is made.
    pub folder: PathBuf,
}

/// The blocks that have arrived, and the order in which the current epoch draws their rows.
#[derive(Debug)]
pub struct Dataset {
    store: Store,
    order: Order,
    keep: bool,
    training: Vec<u32>,
    validation: Vec<u32>,
    /// For each block, the rows that were not used yet; counted unless blocks are kept.
    unused: Vec<usize>,
    /// Whether the streams have ended.
    complete: bool,
}

impl Dataset {
    /// An empty dataset.
    pub fn new(settings: Settings) -> Self {
        Self {
            store: Store::new(settings.budget, settings.folder),
            order: Order::new(settings.seed, settings.rank),
            keep: settings.keep,
            training: Vec::new(),
            validation: Vec::new(),
            unused: Vec::new(),
            complete: false,
        }
    }

    /// Receives blocks without using any row, before an epoch that is not the first: until
    /// `deadline`. Whether it has all.
    ///
    /// # Errors
    /// The stream's, and [`Error::Storage`].
    pub fn fill(&mut self, source: &mut dyn Blocks, deadline: Instant) -> Result<bool, Error> {
        while !self.complete && Instant::now() < deadline {
            self.receive(source, Some(deadline))?;
        }
        Ok(self.complete)
    }

    /// Starts epoch `epoch`, counted from 0. The first epoch starts with what has arrived, later
    /// ones with every row.
    pub fn start_epoch(&mut self, epoch: usize) {
        self.order.start_epoch(epoch);
        for &block in &self.training {
            self.order.offer(block, self.store.rows(block));
        }
    }

    /// Draws up to `batch_size` rows, waiting for the stream as long as it has not ended; empty
    /// when the epoch is over.
    ///
    /// # Errors
    /// The stream's, and [`Error::Storage`].
    pub fn draw(
        &mut self,
        batch_size: usize,
        source: &mut dyn Blocks,
    ) -> Result<Vec<RowRef>, Error> {
        while !self.complete && self.order.wants_more(batch_size) {
            self.receive(source, None)?;
        }
        Ok(self.order.draw(batch_size))
    }

    /// The drawn rows; those that are on the disk are read into `records`.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn rows<'a>(
        &'a self,
        drawn: &[RowRef],
        records: &'a mut Vec<u8>,
    ) -> Result<Vec<Row<'a>>, Error> {
        self.store.fetch(drawn, records)
    }

    /// Says that drawn rows have been copied, so that a block nobody needs any more is freed.
    pub fn release(&mut self, drawn: &[RowRef]) {
        if self.keep {
            return;
        }
        for row in drawn {
            let unused = &mut self.unused[row.block as usize];
            *unused -= 1;
            if *unused == 0 {
                self.store.free(row.block);
            }
        }
    }

    /// The validation rows, in the order in which they came; all of them once an epoch is over.
    ///
    /// # Errors
    /// Of each block, [`Error::Storage`].
    pub fn validation(&self) -> impl Iterator<Item = Result<Cow<'_, Block>, Error>> {
        let blocks = self.validation.iter();
        blocks.map(|&block| self.store.block(block))
    }

    /// Bytes of memory that the blocks take: never more than the budget.
    pub fn held(&self) -> u64 {
        self.store.held()
    }

    fn receive(&mut self, source: &mut dyn Blocks, deadline: Option<Instant>) -> Result<(), Error> {
        match source.next_block(deadline)? {
            Arrival::Block(stream, block) => {
                let rows = block.rows;
                if rows == 0 {
                    return Ok(());
                }
                let block = self.store.put(block)?;
                self.unused.push(rows);
                match stream {
                    Stream::Training => {
                        self.training.push(block);
                        self.order.offer(block, rows);
                    }
                    Stream::Validation => self.validation.push(block),
                }
            }
            Arrival::Late => {}
            Arrival::End => self.complete = true,
        }
        Ok(())
    }
}
