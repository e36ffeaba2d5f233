//! Rows wherever they are kept, gathered part by part.

use crate::block::{Block, Kind, Number, Part, Side, Uneven, Values, reserve};
use crate::dataset::blob;
use crate::dataset::record::Record;
use crate::error::{DataError, Error};
use std::ops::Range;

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'a> {
    /// In a block in memory, at this place.
    Held(&'a Block, usize),
    /// As it was read from the disk.
    Read(Record<'a>),
}

/// What a part of a row is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) kind: Kind,
    /// Values in a row; means nothing of ragged ones.
    pub(crate) width: usize,
    /// Of ragged ones.
    pub(crate) padding: Option<Side>,
}

impl Row<'_> {
    fn form(&self, part: Part) -> Option<Form> {
        match self {
            Self::Held(block, _) => {
                let values = block.part(part)?;
                Some(Form {
                    kind: values.kind(),
                    width: values.len() / block.rows.max(1),
                    padding: values.padding(),
                })
            }
            Self::Read(record) => record.form(part),
        }
    }
}

/// A part of each of `rows`, with the number of values a row has, which is 0 for ragged ones; none if
/// rows have no such part.
///
/// # Errors
/// [`DataError::TooLarge`]; [`Error::Panic`] if a row has other values than the first one, which
/// the decoder sees to.
pub(crate) fn gather(rows: &[Row<'_>], part: Part) -> Result<Option<(Values, usize)>, Error> {
    let Some(form) = rows.first().and_then(|row| row.form(part)) else {
        return Ok(None);
    };
    let Form { kind, width, .. } = form;
    if let Some(padding) = form.padding {
        let ragged = match kind {
            Kind::U8 => ragged_numbers(rows, part)?.wrapped(Values::U8, padding),
            Kind::F32 => ragged_numbers(rows, part)?.wrapped(Values::F32, padding),
            Kind::I32 => ragged_numbers(rows, part)?.wrapped(Values::I32, padding),
            Kind::I64 => ragged_numbers(rows, part)?.wrapped(Values::I64, padding),
            Kind::Strings => ragged_strings(rows, part)?.wrapped(Values::Strings, padding),
        };
        return Ok(Some((ragged, 0)));
    }
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
                let values = block.part(part).filter(|values| values.padding().is_none());
                let values = values.and_then(T::of);
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

/// The numbers of rows of differing lengths.
fn ragged_numbers<T: Number>(rows: &[Row<'_>], part: Part) -> Result<Uneven<T>, Error> {
    let (mut values, mut offsets) = (Vec::new(), vec![0]);
    for row in rows {
        match row {
            Row::Held(block, at) => {
                let (held, range) = ragged(block, *at, part).ok_or_else(|| odd(part))?;
                let row = T::of(held).and_then(|held| held.get(range));
                let row = row.ok_or_else(|| odd(part))?;
                more(&mut values, row.len(), rows, part)?;
                values.extend_from_slice(row);
            }
            Row::Read(record) => {
                let bytes = record.blob(part, T::KIND).ok_or_else(|| odd(part))?;
                let row = blob::numbers::<T>(bytes);
                more(&mut values, row.len(), rows, part)?;
                values.extend(row);
            }
        }
        offsets.push(values.len());
    }
    Ok(Uneven { values, offsets })
}

/// Likewise the strings.
fn ragged_strings(rows: &[Row<'_>], part: Part) -> Result<Uneven<Box<[u8]>>, Error> {
    let (mut values, mut offsets) = (Vec::new(), vec![0]);
    for row in rows {
        match row {
            Row::Held(block, at) => {
                let (held, range) = ragged(block, *at, part).ok_or_else(|| odd(part))?;
                let row = held.strings().and_then(|held| held.get(range));
                let row = row.ok_or_else(|| odd(part))?;
                more(&mut values, row.len(), rows, part)?;
                values.extend_from_slice(row);
            }
            Row::Read(record) => {
                let blob = record.blob(part, Kind::Strings);
                let strings = blob.and_then(blob::strings);
                values.extend(strings.ok_or_else(|| odd(part))?.map(Box::from));
            }
        }
        offsets.push(values.len());
    }
    Ok(Uneven { values, offsets })
}

/// A ragged part of a block, and where a row's values are.
fn ragged(block: &Block, row: usize, part: Part) -> Option<(&Values, Range<usize>)> {
    let values = block.part(part)?;
    values.padding()?;
    Some((values, values.range(row, block.rows)?))
}

/// Room for `count` more values.
fn more<T>(out: &mut Vec<T>, count: usize, rows: &[Row<'_>], part: Part) -> Result<(), Error> {
    let bytes = (out.len() + count).saturating_mul(size_of::<T>());
    let had = out.try_reserve(count);
    had.map_err(|_| too_large(rows.len(), part, bytes))
}

/// A row's values, if all rows of the block have `width` of them.
fn held<'a, T>(values: &'a [T], block: &Block, row: usize, width: usize) -> Option<&'a [T]> {
    if values.len() != block.rows * width {
        return None;
    }
    values.get(row * width..(row + 1) * width)
}

fn room<T>(rows: &[Row<'_>], part: Part, width: usize) -> Result<Vec<T>, Error> {
    reserve(rows.len(), width).map_err(|bytes| too_large(rows.len(), part, bytes))
}

/// Rows of a batch that memory has no room for.
pub(crate) fn too_large(rows: usize, part: Part, bytes: usize) -> Error {
    let what = match part {
        Part::Input(at) => format!("input {at} of a batch"),
        Part::Label(at) => format!("the labels of output {at} of a batch"),
        Part::Weights => "the weights of a batch".to_owned(),
    };
    DataError::TooLarge { what, rows, bytes }.into()
}

fn odd(part: Part) -> Error {
    Error::Panic(format!(
        "a row has another {part:?} than the first one of its batch"
    ))
}
