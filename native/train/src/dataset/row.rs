//! Rows wherever they are kept, gathered part by part.

use crate::block::{Block, Kind, Number, Part, Values, reserve};
use crate::dataset::record::Record;
use crate::error::{DataError, Error};

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'a> {
    /// In a block in memory, at this place.
    Held(&'a Block, usize),
    /// As it was read from the disk.
    Read(Record<'a>),
}

impl Row<'_> {
    fn kind(&self, part: Part) -> Option<(Kind, usize)> {
        match self {
            Self::Held(block, _) => {
                let values = block.part(part)?;
                Some((values.kind(), values.len() / block.rows.max(1)))
            }
            Self::Read(record) => record.kind(part),
        }
    }
}

/// A part of each of `rows`, with the number of values a row has; none if rows have no such part.
///
/// # Errors
/// [`DataError::TooLarge`]; [`Error::Panic`] if a row has other values than the first one, which
/// the decoder sees to.
pub(crate) fn gather(rows: &[Row<'_>], part: Part) -> Result<Option<(Values, usize)>, Error> {
    let Some((kind, width)) = rows.first().and_then(|row| row.kind(part)) else {
        return Ok(None);
    };
    let values = match kind {
        Kind::U8 => Values::U8(numbers(rows, part, width)?),
        Kind::F32 => Values::F32(numbers(rows, part, width)?),
        Kind::I32 => Values::I32(numbers(rows, part, width)?),
        Kind::I64 => Values::I64(numbers(rows, part, width)?),
        Kind::Strings => Values::Strings(strings(rows, part, width)?),
    };
    Ok(Some((values, width)))
}

fn numbers<T: Number>(rows: &[Row<'_>], part: Part, width: usize) -> Result<Vec<T>, Error> {
    let mut out = room(rows, part, width)?;
    for row in rows {
        match row {
            Row::Held(block, at) => {
                let values = block.part(part).and_then(T::of);
                let row = values.and_then(|values| held(values, block, *at, width));
                out.extend_from_slice(row.ok_or_else(|| odd(part))?);
            }
            Row::Read(record) => {
                let bytes = record.numbers::<T>(part, width);
                let bytes = bytes.ok_or_else(|| odd(part))?;
                out.extend(bytes.chunks_exact(size_of::<T>()).map(T::from_bytes));
            }
        }
    }
    Ok(out)
}

fn strings(rows: &[Row<'_>], part: Part, width: usize) -> Result<Vec<Box<[u8]>>, Error> {
    let mut out = room(rows, part, width)?;
    for row in rows {
        match row {
            Row::Held(block, at) => {
                let row = match block.part(part) {
                    Some(Values::Strings(values)) => held(values, block, *at, width),
                    _ => None,
                };
                out.extend_from_slice(row.ok_or_else(|| odd(part))?);
            }
            Row::Read(record) => {
                let before = out.len();
                let strings = record.strings(part).ok_or_else(|| odd(part))?;
                out.extend(strings.map(Box::from));
                if out.len() - before != width {
                    return Err(odd(part));
                }
            }
        }
    }
    Ok(out)
}

/// A row's values, if all rows of the block have `width` of them.
fn held<'a, T>(values: &'a [T], block: &Block, row: usize, width: usize) -> Option<&'a [T]> {
    if values.len() != block.rows * width {
        return None;
    }
    values.get(row * width..(row + 1) * width)
}

fn room<T>(rows: &[Row<'_>], part: Part, width: usize) -> Result<Vec<T>, Error> {
    reserve(rows.len(), width).map_err(|bytes| {
        let what = match part {
            Part::Input(at) => format!("input {at} of a batch"),
            Part::Label(at) => format!("the labels of output {at} of a batch"),
            Part::Weights => "the weights of a batch".to_owned(),
        };
        let rows = rows.len();
        DataError::TooLarge { what, rows, bytes }.into()
    })
}

fn odd(part: Part) -> Error {
    Error::Panic(format!(
        "a row has another {part:?} than the first one of its batch"
    ))
}
