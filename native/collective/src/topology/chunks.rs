//! How a vector is divided among ranks.

use std::ops::Range;

/// The elements of chunk `index` when `length` elements are divided among `world_size` ranks: the
/// first chunks are one element longer, and with fewer elements than ranks the last ones are empty.
pub(crate) fn chunk(length: usize, world_size: usize, index: usize) -> Range<usize> {
    let (size, longer) = (length / world_size, length % world_size);
    let start = index * size + index.min(longer);
    start..start + size + usize::from(index < longer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::chunk;

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
    }
}
