//! One rank's rows: those to train on and those to validate with, under one memory budget.
//!
//! `store` keeps blocks in memory up to the budget and the others in the file of `spill`, as the
//! `record`s of their rows; `order` says which rows a pass draws next; `row` gathers rows from
//! wherever they are. What is drawn depends on the order alone, never on the budget.
//!
//! A dataset either keeps its rows after the first pass, or receives them anew in each pass and then
//! holds no more than those that wait to be drawn. A [`Cursor`] says where it stands; from the same
//! rows a new dataset comes to the same place.
//!
//! The order of the rows, 8 bytes for each, is within the budget. Beside it there are the block that is
//! just arriving, those that wait for the trainer thread, and what one batch takes.

mod blob;
mod order;
mod record;
mod row;
mod spill;
mod store;
#[cfg(test)]
mod tests;

use crate::block::Block;
use crate::config::FitSession;
use crate::error::Error;
use order::Order;
pub(crate) use order::random;
pub use order::{RowRef, SHUFFLE_BUFFER};
pub(crate) use row::{Row, gather, too_large};
use serde::{Deserialize, Serialize};
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
    /// A stream has no more blocks: that of rows to train on in this pass, where they come anew in
    /// each. The stream of rows to validate with ends before, or together with, the other's first
    /// end.
    End(Stream),
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
    /// Rows that wait so that one can be drawn at random, while rows are received.
    pub shuffle_buffer: usize,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Whether the last batch of a pass is left out if it has fewer rows.
    pub drop_remainder: bool,
    /// Whether rows are kept for the passes after the first. If not, a block is freed as soon as its
    /// rows are used, and another pass receives its rows anew.
    pub keep: bool,
    /// Bytes of memory for the rows of both streams.
    pub budget: u64,
    /// Where the file for the others is made.
    pub folder: PathBuf,
}

impl Settings {
    /// Those of a rank that draws what its session says.
    pub(crate) fn of(session: &FitSession) -> Self {
        let fit = &session.fit;
        let (replica, replicas) = session.replica();
        Self {
            seed: fit.shuffle.then_some(fit.seed),
            rank: replica,
            shuffle_buffer: fit.shuffle_buffer,
            batch_size: fit.batch_size_of(replica, replicas),
            drop_remainder: fit.drop_remainder,
            keep: fit.keeps_rows(),
            budget: session.cache_bytes,
            folder: session.local_dir.clone(),
        }
    }
}

/// Where a rank stands in its rows; the ranks of a fit stand at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes that are over.
    pub passes: usize,
    /// Batches drawn in this one, those without rows too.
    pub batches: u64,
}

/// The blocks that have arrived, and the order in which the current pass draws their rows.
#[derive(Debug)]
pub struct Dataset {
    store: Store,
    order: Order,
    batch_size: usize,
    drop_remainder: bool,
    keep: bool,
    cursor: Cursor,
    /// Blocks to train on, where they are kept.
    training: Vec<u32>,
    validation: Vec<u32>,
    /// For each block, the rows that were not used yet; counted unless blocks are kept.
    unused: Vec<usize>,
    /// Whether all rows to train on have come, of this pass.
    complete: bool,
    /// Whether all rows to validate with have come.
    validation_complete: bool,
}

impl Dataset {
    /// An empty dataset, at the start of its first pass.
    pub fn new(settings: Settings) -> Self {
        Self {
            store: Store::new(settings.budget, settings.folder),
            order: Order::new(settings.seed, settings.rank, settings.shuffle_buffer),
            batch_size: settings.batch_size,
            drop_remainder: settings.drop_remainder,
            keep: settings.keep,
            cursor: Cursor::default(),
            training: Vec::new(),
            validation: Vec::new(),
            unused: Vec::new(),
            complete: false,
            validation_complete: false,
        }
    }

    /// Receives all blocks of this pass without using any row: until `deadline`. Whether it has
    /// them.
    ///
    /// # Errors
    /// The stream's, and [`Error::Storage`].
    pub fn fill(&mut self, source: &mut dyn Blocks, deadline: Instant) -> Result<bool, Error> {
        while !self.complete && Instant::now() < deadline {
            self.receive(source, Some(deadline))?;
        }
        Ok(self.complete)
    }

    /// Receives blocks until all rows to validate with are there: until `deadline`. Whether they are.
    ///
    /// # Errors
    /// The stream's, and [`Error::Storage`].
    pub fn fill_validation(
        &mut self,
        source: &mut dyn Blocks,
        deadline: Instant,
    ) -> Result<bool, Error> {
        while !self.validation_complete && Instant::now() < deadline {
            self.receive(source, Some(deadline))?;
        }
        Ok(self.validation_complete)
    }

    /// Goes on to where a dataset over the same rows stood: until `deadline`; to be called again
    /// until it is there, which is the answer. Rows that come anew in each pass must be those of
    /// pass `to.passes`.
    ///
    /// # Errors
    /// The stream's, and [`Error::Storage`].
    pub fn seek(
        &mut self,
        to: Cursor,
        source: &mut dyn Blocks,
        deadline: Instant,
    ) -> Result<bool, Error> {
        if self.keep && to.passes > 0 && !self.fill(source, deadline)? {
            return Ok(false);
        }
        if self.cursor.passes != to.passes {
            self.start_pass(to.passes);
        }
        while self.cursor.batches < to.batches {
            if !self.wait(source, Some(deadline))? {
                return Ok(false);
            }
            let skipped = self.draw_waiting();
            self.release(&skipped);
        }
        Ok(true)
    }

    /// Where it stands.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Starts pass `pass`, counted from 0: with every row if they are kept, else with none.
    pub fn start_pass(&mut self, pass: usize) {
        self.order.start_pass(pass);
        self.cursor = Cursor {
            passes: pass,
            batches: 0,
        };
        if !self.keep {
            self.complete = false;
        }
        for &block in &self.training {
            self.order.offer(block, self.store.rows(block));
        }
    }

    /// Draws the rows of the next batch, waiting for the stream as long as it has not ended; none
    /// when the pass is over.
    ///
    /// # Errors
    /// The stream's, and [`Error::Storage`].
    pub fn draw(&mut self, source: &mut dyn Blocks) -> Result<Vec<RowRef>, Error> {
        self.wait(source, None)?;
        Ok(self.draw_waiting())
    }

    /// Waits until there is what a batch is drawn from: until `deadline`, if there is one. Whether
    /// it is there.
    fn wait(&mut self, source: &mut dyn Blocks, deadline: Option<Instant>) -> Result<bool, Error> {
        while !self.complete && self.order.wants_more(self.batch_size) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            self.receive(source, deadline)?;
        }
        Ok(true)
    }

    fn draw_waiting(&mut self) -> Vec<RowRef> {
        self.cursor.batches += 1;
        let drawn = self.order.draw(self.batch_size);
        if self.drop_remainder && drawn.len() < self.batch_size {
            self.release(&drawn);
            return Vec::new();
        }
        drawn
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

    /// Whether some of the drawn rows are on the disk.
    pub(crate) fn is_on_disk(&self, drawn: &[RowRef]) -> bool {
        drawn.iter().any(|row| self.store.is_on_disk(row.block))
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

    /// The validation rows that have come, in that order.
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
                if self.keep && matches!(stream, Stream::Training) {
                    // The order of the rows.
                    self.store.leave((rows * size_of::<RowRef>()) as u64);
                }
                let block = self.store.put(block)?;
                match stream {
                    Stream::Training => {
                        if self.keep {
                            self.training.push(block);
                        } else {
                            let blocks = self.unused.len().max(block as usize + 1);
                            self.unused.resize(blocks, 0);
                            self.unused[block as usize] = rows;
                        }
                        self.order.offer(block, rows);
                    }
                    Stream::Validation => self.validation.push(block),
                }
            }
            Arrival::Late => {}
            Arrival::End(Stream::Validation) => self.validation_complete = true,
            Arrival::End(Stream::Training) => {
                self.complete = true;
                self.validation_complete = true;
            }
        }
        Ok(())
    }
}
