//! How a vector is divided among ranks.

use std::ops::Range;

/// The elements of chunk `index` when `length` elements are divided among `world_size` ranks: the
/// first chunks are one element longer, and with fewer elements than ranks the last ones are empty.
pub(crate) fn chunk(length: usize, world_size: usize, index: usize) -> Range<usize> {
    let (size, longer) = (length / world_size, length % world_size);
    let start = index * size + index.min(longer);
    start..start + size + usize::from(index < longer)
}

/// A piece of a vector that goes through the stages of a plan on its own: of every chunk one slice.
///
/// ```text
///   chunks     aaaaaaaaa bbbbbbbbb ccccccccc
///   slice 0    aaa...... bbb...... ccc......    who sums what depends on the chunk alone, and so
///   slice 1    ...aaa... ...bbb... ...ccc...    does not depend on the number of slices
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// The first element of the vector, or of the part of one that is cut here.
    pub(crate) start: usize,
    /// How many elements that has.
    pub(crate) length: usize,
    /// Number of slices.
    pub(crate) count: usize,
    /// This one, from 0.
    pub(crate) index: usize,
}

/// Slices begin at multiples of so many elements of a chunk, a cache line of float32.
const ALIGNMENT: usize = 16;

impl Slice {
    /// What the slice has of chunk `index` of `chunks`.
    pub(crate) fn of(&self, chunks: usize, index: usize) -> Range<usize> {
        let chunk = chunk(self.length, chunks, index);
        let size = chunk.len().div_ceil(self.count).next_multiple_of(ALIGNMENT);
        let start = |index: usize| self.start + chunk.end.min(chunk.start + index * size);
        start(self.index)..start(self.index + 1)
    }

    /// What the slice has of the vector as one chunk.
    pub(crate) fn whole(&self) -> Range<usize> {
        self.of(1, 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Slice, chunk};

    proptest! {
        #[test]
        fn chunks_follow_each_other_and_differ_by_one_at_most(
            length in 0usize..10_000,
            world_size in 1usize..20,
        ) {
            let mut end = 0;
            for index in 0..world_size {
                let chunk = chunk(length, world_size, index);
                prop_assert_eq!(chunk.start, end);
                prop_assert!(chunk.len() - length / world_size <= 1);
                end = chunk.end;
            }
            prop_assert_eq!(end, length);
        }

        #[test]
        fn slices_cover_their_chunk(
            length in 0usize..10_000,
            chunks in 1usize..20,
            count in 1usize..40,
        ) {
            for index in 0..chunks {
                let slices = (0..count).map(|slice| Slice { start: 3, length, count, index: slice });
                let covered: Vec<usize> = slices.flat_map(|slice| slice.of(chunks, index)).collect();
                prop_assert_eq!(covered, chunk(length, chunks, index).map(|element| element + 3).collect::<Vec<_>>());
            }
        }
    }
}
