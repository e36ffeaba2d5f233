//! Several columns side by side, row by row.

use super::sources::shortened;
use crate::block::reserve;
use crate::decode::{Column, Nulls, Slots, Target};
use crate::error::DataError;

/// The widths of columns that hold `expected` values together. The first one of those that are null
/// throughout, whose values are all alike, takes what the others leave.
pub(super) fn shared_out(widths: &[Option<usize>], expected: usize) -> Vec<usize> {
    let mut rest = expected.saturating_sub(widths.iter().flatten().sum());
    let width = |width: &Option<usize>| width.unwrap_or_else(|| std::mem::take(&mut rest));
    widths.iter().map(width).collect()
}

/// The values of several columns, row by row; where `padded`, a list may be shorter than its width.
pub(super) fn concatenate<T: Target>(
    columns: &[Column<'_>],
    widths: &[usize],
    rows: usize,
    padded: bool,
    nulls: &mut Nulls,
) -> Result<Vec<T>, DataError> {
    let stride: usize = widths.iter().sum();
    let mut out = reserve(rows, stride).map_err(|bytes| too_large(columns, rows, bytes))?;
    out.resize(rows * stride, T::default());
    let mut offset = 0;
    for (column, &width) in columns.iter().zip(widths) {
        if rows > 0 {
            let slots = Slots {
                offset,
                width,
                stride,
                padded,
            };
            column.fill(&mut out, slots, nulls)?;
        }
        offset += width;
    }
    Ok(out)
}

/// The strings of several columns, row by row.
pub(super) fn strings(
    columns: &[Column<'_>],
    widths: &[usize],
    rows: usize,
    nulls: &mut Nulls,
) -> Result<Vec<Box<[u8]>>, DataError> {
    let parts = columns.iter().zip(widths);
    let parts = parts.map(|(column, &width)| column.strings(width, nulls));
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let mut out =
        reserve(rows, widths.iter().sum()).map_err(|bytes| too_large(columns, rows, bytes))?;
    for _ in 0..rows {
        for (part, &width) in parts.iter_mut().zip(widths) {
            out.extend(part.by_ref().take(width));
        }
    }
    Ok(out)
}

fn too_large(columns: &[Column<'_>], rows: usize, bytes: usize) -> DataError {
    let names = shortened(columns.iter().map(|column| column.name));
    DataError::TooLarge {
        what: format!("the columns [{names}]"),
        rows,
        bytes,
    }
}
