//! A row of a ragged part as the spill file holds it: one string of bytes.
//!
//! ```text
//! numbers: | number | number | ..
//! strings: | how many: i32 | length of each: i32 | the strings |
//! ```

use super::record::{LENGTH, length};
use crate::block::{Kind, Number, Values};
use std::ops::Range;

/// Bytes of the blob of the values at `range`.
pub(crate) fn size(values: &Values, range: Range<usize>) -> usize {
    match values.kind() {
        Kind::U8 => range.len(),
        Kind::F32 | Kind::I32 => range.len() * 4,
        Kind::I64 => range.len() * 8,
        Kind::Strings => {
            let strings = values.strings().unwrap_or_default()[range].iter();
            LENGTH + strings.map(|string| LENGTH + string.len()).sum::<usize>()
        }
    }
}

/// Writes the blob of the values at `range` into as many bytes as it takes.
pub(crate) fn write(values: &Values, range: Range<usize>, bytes: &mut [u8]) {
    fn numbers<T: Number>(values: &Values, range: Range<usize>, bytes: &mut [u8]) {
        let values = &T::of(values).unwrap_or_default()[range];
        for (value, slot) in values.iter().zip(bytes.chunks_exact_mut(size_of::<T>())) {
            value.to_bytes(slot);
        }
    }
    match values.kind() {
        Kind::U8 => numbers::<u8>(values, range, bytes),
        Kind::F32 => numbers::<f32>(values, range, bytes),
        Kind::I32 => numbers::<i32>(values, range, bytes),
        Kind::I64 => numbers::<i64>(values, range, bytes),
        Kind::Strings => {
            let strings = &values.strings().unwrap_or_default()[range];
            let (count, rest) = bytes.split_at_mut(LENGTH);
            i32::try_from(strings.len())
                .unwrap_or(i32::MAX)
                .to_bytes(count);
            let (lengths, mut rest) = rest.split_at_mut(strings.len() * LENGTH);
            for (string, slot) in strings.iter().zip(lengths.chunks_exact_mut(LENGTH)) {
                length(string).to_bytes(slot);
                let (place, after) = rest.split_at_mut(string.len());
                place.copy_from_slice(string);
                rest = after;
            }
        }
    }
}

/// The numbers of a blob.
pub(crate) fn numbers<T: Number>(bytes: &[u8]) -> impl ExactSizeIterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).map(T::from_bytes)
}

/// The strings of a blob, as far as they are there.
pub(crate) fn strings(bytes: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let place = |bytes: &[u8]| usize::try_from(i32::from_bytes(bytes)).unwrap_or(0);
    let (count, rest) = bytes.split_at_checked(LENGTH)?;
    let (lengths, mut strings) = rest.split_at_checked(place(count) * LENGTH)?;
    Some(lengths.chunks_exact(LENGTH).map_while(move |bytes| {
        let (string, rest) = strings.split_at_checked(place(bytes))?;
        strings = rest;
        Some(string)
    }))
}
