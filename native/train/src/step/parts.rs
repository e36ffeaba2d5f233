//! Which weights are whose, where each rank keeps the optimizer's state of its own part of them only
//! (Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020,
//! stage 1).
//!
//! ```text
//!   weights     |    bucket 0     |    bucket 1     |     of each bucket, or of all weights, a rank has
//!   rank 0      ======            ======                  the part whose gradients it sums anyway
//!   rank 1            ======            ======      1.  gradients: each rank gets the sums of its part
//!   rank 2                  =====             ===== 2.  it updates its part, by the state that it keeps
//!                                                   3.  all get the weights of all parts
//! ```
//! Of a matrix of which ranks exchange rows all get the sums, a rank has some rows, and where no others
//! change all get the weights of those that were looked up.
//! Rules that look at whole variables have parts that begin and end with one.

use crate::error::Error;
use crate::share::Region;
use flambeau_collective::Communicator;
use flambeau_keras::IndexedSlices;
use std::ops::Range;

/// The parts of all ranks.
#[derive(Debug)]
pub(super) struct Parts {
    /// Stretches of all weights, one behind the other; parts are in the order of ranks.
    regions: Vec<Region>,
}

impl Parts {
    /// Every rank has its part of each of the regions.
    pub(super) fn of_regions(regions: Vec<Region>) -> Self {
        Self { regions }
    }

    /// Every rank has some of the variables that lie at `spans`, one behind the other from 0: of about
    /// as many elements as go.
    pub(super) fn of_variables(spans: &[Range<usize>], ranks: usize) -> Self {
        let length = spans.last().map_or(0, |span| span.end);
        let ends = spans.iter().map(|span| span.end);
        let borders: Vec<usize> = std::iter::once(0).chain(ends).collect();
        let cut = |rank: usize| {
            let wanted = length / ranks * rank + length % ranks * rank / ranks;
            let nearest = borders.iter().min_by_key(|border| border.abs_diff(wanted));
            nearest.copied().unwrap_or(0)
        };
        let pieces = (0..ranks).map(|rank| match rank + 1 {
            last if last == ranks => cut(rank)..length,
            next => cut(rank)..cut(next),
        });
        Self {
            regions: vec![(0..length, pieces.collect())],
        }
    }

    /// What `rank` has of each variable; one lies in a single region.
    pub(super) fn of_rank(&self, rank: usize, spans: &[Range<usize>]) -> Vec<Range<usize>> {
        let own = spans.iter().map(|span| {
            let of_region = |(region, pieces): &Region| {
                let piece = pieces.get(rank)?;
                let start = (region.start + piece.start).max(span.start);
                let end = (region.start + piece.end).min(span.end);
                (start < end).then(|| start - span.start..end - span.start)
            };
            self.regions.iter().find_map(of_region).unwrap_or(0..0)
        });
        own.collect()
    }

    /// Gives all ranks the weights of all parts; of matrices that have `slices` only the rows that these
    /// list, unless they are dense.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(super) fn gather(
        &self,
        communicator: &mut Communicator,
        weights: &mut [f32],
        slices: &[IndexedSlices],
    ) -> Result<(), Error> {
        for (span, pieces) in &self.regions {
            let weights = &mut weights[span.clone()];
            let mut slices = slices.iter().filter(|slices| !slices.is_dense());
            match slices.find(|slices| slices.span() == *span) {
                Some(slices) => gather_rows(communicator, weights, slices, pieces)?,
                None => communicator.gather(weights, pieces)?,
            }
        }
        Ok(())
    }
}

/// Gives all ranks the rows of a matrix that `slices` list, each from the rank in whose piece it is.
fn gather_rows(
    communicator: &mut Communicator,
    matrix: &mut [f32],
    slices: &IndexedSlices,
    pieces: &[Range<usize>],
) -> Result<(), Error> {
    let (rows, width) = (slices.rows(), slices.width());
    let places = rows.iter().map(|row| row * width..(row + 1) * width);
    let before = |end: usize| width * rows.partition_point(|row| row * width < end);
    let pieces = pieces
        .iter()
        .map(|piece| before(piece.start)..before(piece.end));
    let pieces: Vec<_> = pieces.collect();
    let mut packed = Vec::with_capacity(rows.len() * width);
    for place in places.clone() {
        packed.extend_from_slice(&matrix[place]);
    }
    communicator.gather(&mut packed, &pieces)?;
    for (place, row) in places.zip(packed.chunks(width)) {
        matrix[place].copy_from_slice(row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_whole_variables_are_of_about_the_same_size() {
        let spans = [0..10, 10..12, 12..12, 12..40, 40..41, 41..60];
        let of = |ranks: usize| {
            let parts = Parts::of_variables(&spans, ranks);
            parts.regions[0].1.clone()
        };
        assert_eq!(of(1)[0], 0..60);
        assert_eq!(of(2), [0..40, 40..60]);
        assert_eq!(of(3), [0..12, 12..40, 40..60]);
        // A part may well be empty.
        assert_eq!(of(4), [0..12, 12..40, 40..41, 41..60]);
        let many = of(8);
        assert_eq!(many.iter().map(Range::len).sum::<usize>(), 60);
        assert!(many.iter().any(Range::is_empty));
        assert_eq!(Parts::of_variables(&[], 2).regions[0].1, [0..0, 0..0]);
    }

    #[test]
    fn of_a_variable_a_rank_has_what_lies_in_its_pieces() {
        let region = |span: Range<usize>, cut: usize| {
            let length = span.len();
            (span, vec![0..cut, cut..length])
        };
        let parts = Parts {
            regions: vec![region(0..10, 5), region(10..13, 2)],
        };
        let spans = [0..4, 4..4, 4..10, 10..13];
        assert_eq!(parts.of_rank(0, &spans), [0..4, 0..0, 0..1, 0..2]);
        assert_eq!(parts.of_rank(1, &spans), [0..0, 0..0, 1..6, 2..3]);
    }
}
