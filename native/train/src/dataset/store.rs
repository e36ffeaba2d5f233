//! Where blocks are kept: in memory as far as the budget goes, the others in a file.

use crate::block::Block;
use crate::dataset::order::RowRef;
use crate::dataset::record::{Layout, Record, buffer};
use crate::dataset::row::Row;
use crate::dataset::spill::{Extent, Spill};
use crate::error::Error;
use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

/// The blocks of a rank.
#[derive(Debug)]
pub(crate) struct Store {
    blocks: Vec<Kept>,
    /// Indices of those that were freed.
    free: Vec<u32>,
    /// Bytes that blocks in memory may take together.
    budget: u64,
    /// What they take.
    held: u64,
    /// What is kept beside them within the budget.
    beside: u64,
    spill: Spill,
}

#[derive(Debug)]
struct Kept {
    rows: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Block),
    Disk(Spilled),
    /// Nobody needs its rows any more.
    Freed,
}

#[derive(Debug)]
struct Spilled {
    extent: Extent,
    bytes: usize,
    layout: Layout,
}

/// Rows that are side by side in the file.
struct Run {
    /// Their first byte in the file.
    at: u64,
    bytes: usize,
}

impl Store {
    /// `budget` is in bytes; `folder` is where a file may be made.
    pub(crate) fn new(budget: u64, folder: PathBuf) -> Self {
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
            budget,
            held: 0,
            beside: 0,
            spill: Spill::new(folder),
        }
    }

    /// Leaves so many bytes of the budget to what is kept beside blocks.
    pub(crate) fn leave(&mut self, bytes: u64) {
        self.beside += bytes;
    }

    /// Keeps a block; the index it has until it is freed.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn put(&mut self, block: Block) -> Result<u32, Error> {
        let rows = block.rows;
        let bytes = block.bytes() as u64;
        let place = if self.held.saturating_add(self.beside + bytes) <= self.budget {
            self.held += bytes;
            Place::Memory(block)
        } else {
            let layout = Layout::of(&block);
            let records = layout.write(&block)?;
            Place::Disk(Spilled {
                extent: self.spill.write(&records)?,
                bytes: records.len(),
                layout,
            })
        };
        let kept = Kept { rows, place };
        if let Some(index) = self.free.pop() {
            self.blocks[index as usize] = kept;
            return Ok(index);
        }
        let index = u32::try_from(self.blocks.len());
        let index = index.map_err(|_| Error::Panic("more than 2^32 blocks".to_owned()))?;
        self.blocks.push(kept);
        Ok(index)
    }

    /// Rows of a block.
    pub(crate) fn rows(&self, block: u32) -> usize {
        self.blocks.get(block as usize).map_or(0, |kept| kept.rows)
    }

    /// Whether a block is in the file.
    pub(crate) fn is_on_disk(&self, block: u32) -> bool {
        matches!(self.place(block), Ok(Place::Disk(_)))
    }

    /// Bytes that blocks take in memory: never more than the budget.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Bytes of the file.
    #[cfg(test)]
    pub(crate) fn spilled(&self) -> u64 {
        self.spill.end()
    }

    /// Forgets a block's rows.
    pub(crate) fn free(&mut self, index: u32) {
        let Some(kept) = self.blocks.get_mut(index as usize) else {
            return;
        };
        match std::mem::replace(&mut kept.place, Place::Freed) {
            Place::Memory(block) => self.held -= block.bytes() as u64,
            Place::Disk(spilled) => self.spill.release(spilled.extent),
            Place::Freed => return,
        }
        self.free.push(index);
    }

    /// A whole block, from wherever it is.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Panic`] if it was freed.
    pub(crate) fn block(&self, index: u32) -> Result<Cow<'_, Block>, Error> {
        match self.place(index)? {
            Place::Memory(block) => Ok(Cow::Borrowed(block)),
            Place::Disk(spilled) => self.read(spilled, self.rows(index)).map(Cow::Owned),
            Place::Freed => Err(freed(index)),
        }
    }

    /// The rows at `refs`, in that order. Those in the file are read into `records`, in the order of
    /// the file, neighbours together.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Panic`] if a block was freed.
    pub(crate) fn fetch<'a>(
        &'a self,
        refs: &[RowRef],
        records: &'a mut Vec<u8>,
    ) -> Result<Vec<Row<'a>>, Error> {
        let mut rows = Vec::with_capacity(refs.len());
        let mut spilled = Vec::new();
        for (at, row) in refs.iter().enumerate() {
            rows.push(match self.place(row.block)? {
                Place::Memory(block) => Row::Held(block, row.row as usize),
                Place::Disk(place) => {
                    spilled.push((at, place, row.row as usize));
                    record(place, &[], 0..0)
                }
                Place::Freed => return Err(freed(row.block)),
            });
        }
        spilled.sort_unstable_by_key(|(_, place, row)| (place.extent.at, *row));
        let together = |a: &(usize, &Spilled, usize), b: &(usize, &Spilled, usize)| {
            a.1.extent.at == b.1.extent.at && a.2 + 1 == b.2
        };
        // Where each row is within `records`.
        let mut spans = Vec::with_capacity(spilled.len());
        let mut runs = Vec::new();
        let mut total = 0;
        for neighbours in spilled.chunk_by(together) {
            let [(_, place, first), ..] = neighbours else {
                continue;
            };
            let beginnings = self.beginnings(place, *first, neighbours.len())?;
            let start = beginnings[0];
            let ends = beginnings.windows(2);
            spans.extend(ends.map(|ends| total + ends[0] - start..total + ends[1] - start));
            let bytes = beginnings[neighbours.len()] - start;
            runs.push(Run {
                at: place.extent.at + start as u64,
                bytes,
            });
            total += bytes;
        }
        *records = buffer(spilled.len(), total)?;
        let mut rest = records.as_mut_slice();
        for run in runs {
            let (bytes, after) = rest.split_at_mut(run.bytes);
            self.spill.read(run.at, bytes)?;
            rest = after;
        }
        for ((at, place, _), span) in spilled.into_iter().zip(spans) {
            rows[at] = record(place, records, span);
        }
        Ok(rows)
    }

    fn place(&self, index: u32) -> Result<&Place, Error> {
        let kept = self.blocks.get(index as usize);
        kept.map(|kept| &kept.place).ok_or_else(|| freed(index))
    }

    /// Where records of a block begin and the last one ends: one more than `rows`.
    fn beginnings(&self, place: &Spilled, first: usize, rows: usize) -> Result<Vec<usize>, Error> {
        let mut table = Vec::new();
        if let Some((at, bytes)) = place.layout.table(first, rows) {
            table = buffer(rows, bytes)?;
            self.spill.read(place.extent.at + at as u64, &mut table)?;
        }
        Ok(place.layout.beginnings(first, rows, &table))
    }

    fn read(&self, place: &Spilled, rows: usize) -> Result<Block, Error> {
        let mut bytes = buffer(rows, place.bytes)?;
        self.spill.read(place.extent.at, &mut bytes)?;
        let table = place.layout.table(0, rows);
        let table = table.map_or(&[][..], |(at, size)| &bytes[at..at + size]);
        let beginnings = place.layout.beginnings(0, rows, table);
        let records = beginnings.windows(2);
        let records = records.map(|ends| record(place, &bytes, ends[0]..ends[1]));
        let records: Vec<_> = records.collect();
        place.layout.block(&records)
    }
}

fn record<'a>(place: &'a Spilled, records: &'a [u8], span: Range<usize>) -> Row<'a> {
    Row::Read(Record {
        layout: &place.layout,
        bytes: records.get(span).unwrap_or_default(),
    })
}

fn freed(block: u32) -> Error {
    Error::Panic(format!("block {block} was freed before its rows were used"))
}
