//! Records into batches of columns.

use std::collections::HashMap;

use super::column::{Column, ColumnSpec};
use super::{RecordType, Refusal};
use crate::Result;
use crate::example::walk::{feature_lists, features};
use crate::tfrecord::Record;

/// Rows of a batch, column by column.
#[derive(Debug)]
pub struct Batch {
    /// Rows held.
    pub rows: usize,
    /// In the order asked for.
    pub columns: Vec<Column>,
}

/// Gathers records of one type into batches of the columns that are wanted; other features are
/// passed over.
#[derive(Debug)]
pub struct RecordDecoder {
    record_type: RecordType,
    specs: Vec<ColumnSpec>,
    /// Of each name the column.
    places: HashMap<String, usize>,
    batch: Batch,
    /// Bytes of the columns' values.
    bytes: usize,
}

impl RecordDecoder {
    /// Of columns with different names.
    pub fn new(record_type: RecordType, specs: Vec<ColumnSpec>) -> Self {
        let names = specs.iter().enumerate();
        RecordDecoder {
            record_type,
            places: names.map(|(at, spec)| (spec.name.clone(), at)).collect(),
            batch: empty(&specs),
            specs,
            bytes: 0,
        }
    }

    /// Adds a record as a row.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) for bytes that are no such message,
    /// [`Error::Unfit`](crate::Error::Unfit) for a feature that its column does not take. Nothing
    /// of the record stays.
    pub fn add(&mut self, record: &Record<'_>) -> Result<()> {
        if let Err(refusal) = self.put(record.bytes) {
            self.batch.columns.iter_mut().for_each(Column::undo);
            return Err(refusal.at(record, self.record_type));
        }
        self.bytes = 0;
        for column in &mut self.batch.columns {
            column.end_row();
            self.bytes += column.bytes();
        }
        self.batch.rows += 1;
        Ok(())
    }

    /// Rows added since the last batch.
    pub fn rows(&self) -> usize {
        self.batch.rows
    }

    /// Bytes that the values of the rows added since the last batch take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows added since the last batch. The memory of `spare`, a batch no longer needed, serves
    /// the next one.
    pub fn take(&mut self, spare: Option<Batch>) -> Batch {
        let mut next = spare.unwrap_or_else(|| empty(&self.specs));
        next.rows = 0;
        next.columns.iter_mut().for_each(Column::clear);
        self.bytes = 0;
        let mut batch = std::mem::replace(&mut self.batch, next);
        batch.columns.iter_mut().for_each(Column::seal);
        batch
    }

    fn put(&mut self, record: &[u8]) -> std::result::Result<(), Refusal> {
        let columns = &mut self.batch.columns;
        if self.record_type == RecordType::ByteArray {
            return columns
                .iter_mut()
                .try_for_each(|column| column.put_bytes(record));
        }
        // Records of one writer have their features in one order, mostly that of the columns.
        let mut likely = 0;
        let mut place = |name: &str, columns: &[Column]| {
            let is_next = columns.get(likely).is_some_and(|next| next.name() == name);
            let at = if is_next {
                Some(likely)
            } else {
                self.places.get(name).copied()
            };
            likely = at.map_or(likely, |at| at + 1);
            at
        };
        features::<Refusal>(record, |name, parts| match place(name, columns) {
            Some(at) => columns[at].put(parts),
            None => Ok(()),
        })?;
        if self.record_type == RecordType::SequenceExample {
            feature_lists::<Refusal>(record, |name, parts| match place(name, columns) {
                Some(at) => columns[at].put_list(parts),
                None => Ok(()),
            })?;
        }
        Ok(())
    }
}

fn empty(specs: &[ColumnSpec]) -> Batch {
    Batch {
        rows: 0,
        columns: specs.iter().cloned().map(Column::new).collect(),
    }
}
