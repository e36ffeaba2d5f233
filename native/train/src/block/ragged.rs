//! Rows that do not all hold as many values.

use super::{Values, reserve};
use std::ops::Range;

/// An end of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Its beginning.
    Pre,
    /// Its end.
    Post,
}

/// Rows of differing lengths, which become equally long when a batch is made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Ragged {
    values: Box<Values>,
    /// Where each row begins within the values, and where the last one ends.
    offsets: Vec<usize>,
    padding: Side,
}

impl Ragged {
    /// `offsets` are those of the rows and the end of the last, growing from 0; zeros or empty
    /// strings go to the `padding` side of rows.
    pub(crate) fn new(values: Values, offsets: Vec<usize>, padding: Side) -> Self {
        Self {
            values: Box::new(values),
            offsets,
            padding,
        }
    }

    /// The values of all rows, one row after the other.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Where values are missing.
    pub(crate) fn padding(&self) -> Side {
        self.padding
    }

    /// Where a row's values are.
    pub(crate) fn range(&self, row: usize) -> Option<Range<usize>> {
        Some(*self.offsets.get(row)?..*self.offsets.get(row + 1)?)
    }

    /// Bytes kept in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.values.bytes() + self.offsets.len() * size_of::<usize>()
    }

    /// The rows at `rows`.
    pub(crate) fn pick(&self, rows: &[usize]) -> Self {
        let ranges: Vec<_> = rows.iter().filter_map(|&row| self.range(row)).collect();
        let mut offsets = vec![0];
        let mut end = 0;
        offsets.extend(ranges.iter().map(|range| {
            end += range.len();
            end
        }));
        let values = match &*self.values {
            Values::U8(values) => Values::U8(pick(values, &ranges)),
            Values::F32(values) => Values::F32(pick(values, &ranges)),
            Values::I32(values) => Values::I32(pick(values, &ranges)),
            Values::I64(values) => Values::I64(pick(values, &ranges)),
            Values::Strings(values) => Values::Strings(pick(values, &ranges)),
            Values::Ragged(ragged) => Values::Ragged(ragged.clone()),
        };
        Self::new(values, offsets, self.padding)
    }

    /// The rows filled up to the longest one's length, or to `least`, with that length.
    ///
    /// # Errors
    /// The bytes that were not to be had.
    pub(crate) fn padded(self, least: usize) -> Result<(Values, usize), usize> {
        let lengths = self.offsets.windows(2).map(|ends| ends[1] - ends[0]);
        let width = lengths.max().unwrap_or(0).max(least);
        let shape = Fitted {
            width,
            padding: self.padding,
            truncating: Side::Post,
        };
        let offsets = &self.offsets;
        let values = match *self.values {
            Values::U8(values) => Values::U8(shape.of(values, offsets)?),
            Values::F32(values) => Values::F32(shape.of(values, offsets)?),
            Values::I32(values) => Values::I32(shape.of(values, offsets)?),
            Values::I64(values) => Values::I64(shape.of(values, offsets)?),
            Values::Strings(values) => Values::Strings(shape.of(values, offsets)?),
            Values::Ragged(ragged) => return ragged.padded(least),
        };
        Ok((values, width))
    }
}

/// Values of one type, of rows of differing lengths.
#[derive(Debug)]
pub(crate) struct Uneven<V> {
    /// One row after the other.
    pub(crate) values: Vec<V>,
    /// Where each row begins, and where the last one ends.
    pub(crate) offsets: Vec<usize>,
}

impl<V> Uneven<V> {
    /// As a block holds them; what is missing goes to the `padding` side of rows.
    pub(crate) fn wrapped(self, wrap: impl Fn(Vec<V>) -> Values, padding: Side) -> Values {
        Values::Ragged(Ragged::new(wrap(self.values), self.offsets, padding))
    }
}

/// Rows of one length, as Keras's `pad_sequences` makes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fitted {
    /// Values in a row.
    pub(crate) width: usize,
    /// Where rows are filled up that are shorter.
    pub(crate) padding: Side,
    /// Where rows are cut that are longer.
    pub(crate) truncating: Side,
}

impl Fitted {
    /// The rows of `values` that `offsets` tell, one after the other.
    ///
    /// # Errors
    /// The bytes that were not to be had.
    pub(crate) fn of<T: Default>(
        self,
        mut values: Vec<T>,
        offsets: &[usize],
    ) -> Result<Vec<T>, usize> {
        let rows = offsets.len().saturating_sub(1);
        let mut out: Vec<T> = reserve(rows, self.width)?;
        out.resize_with(rows * self.width, T::default);
        let slots = out.chunks_exact_mut(self.width.max(1));
        for (ends, slot) in offsets.windows(2).zip(slots) {
            let row = &mut values[ends[0]..ends[1]];
            let extra = row.len().saturating_sub(self.width);
            let row = match self.truncating {
                Side::Pre => &mut row[extra..],
                Side::Post => {
                    let kept = row.len() - extra;
                    &mut row[..kept]
                }
            };
            let missing = self.width - row.len();
            let slot = match self.padding {
                Side::Pre => &mut slot[missing..],
                Side::Post => &mut slot[..row.len()],
            };
            slot.swap_with_slice(row);
        }
        Ok(out)
    }
}

fn pick<T: Clone>(values: &[T], ranges: &[Range<usize>]) -> Vec<T> {
    let parts = ranges.iter().map(|range| &values[range.clone()]);
    parts.flatten().cloned().collect()
}
