//! How a vector is divided: one chunk for each rank, and each chunk into segments, one per frame.

use std::ops::Range;

/// The elements of chunk `index` when `length` elements are divided among `world_size` ranks: the
/// first chunks are one element longer, and with fewer elements than ranks the last ones are empty.
pub(crate) fn chunk(length: usize, world_size: usize, index: usize) -> Range<usize> {
    let (size, longer) = (length / world_size, length % world_size);
    let start = index * size + index.min(longer);
    start..start + size + usize::from(index < longer)
}

/// Segment `index` of `range`, at most `size` elements; none when the range has ended before.
pub(crate) fn segment(range: &Range<usize>, size: usize, index: usize) -> Option<Range<usize>> {
    let start = range.start + index * size;
    (start < range.end).then(|| start..range.end.min(start + size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{chunk, segment};

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
        fn segments_cover_their_range(start in 0usize..100, length in 0usize..1000, size in 1usize..70) {
            let range = start..start + length;
            let segments: Vec<_> = (0..).map_while(|index| segment(&range, size, index)).collect();
            prop_assert_eq!(segments.len(), length.div_ceil(size));
            let covered: Vec<usize> = segments.into_iter().flatten().collect();
            prop_assert_eq!(covered, range.collect::<Vec<_>>());
        }
    }
}
