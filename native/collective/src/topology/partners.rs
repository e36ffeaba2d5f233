//! Who has a link to whom.
//!
//! In a small world everybody has one to everybody. In a larger one a rank has links to those whose
//! distance from it is a power of two, modulo the size of the world: the neighbours on the ring, the
//! partners of recursive halving and doubling, and the branches of a tree from rank 0. Of 1,024 ranks
//! each has 19.

/// The largest world in which everybody has a link to everybody.
pub(crate) const MESH: usize = 16;

/// Whether two places of `count` have a link.
pub(crate) fn linked(a: usize, b: usize, count: usize) -> bool {
    let forward = (b + count - a) % count;
    a != b && (count <= MESH || forward.is_power_of_two() || (count - forward).is_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::linked;

    #[test]
    fn links_have_two_ends() {
        for count in 1..70 {
            for a in 0..count {
                assert!((0..count).all(|b| linked(a, b, count) == linked(b, a, count)));
                assert!(count == 1 || linked(a, (a + 1) % count, count));
            }
        }
    }

    #[test]
    fn few_links_make_a_large_world() {
        let links = |own, count| {
            (0..count)
                .filter(|other| linked(own, *other, count))
                .count()
        };
        assert_eq!(links(3, 8), 7);
        assert_eq!(links(5, 1024), 19);
    }
}
