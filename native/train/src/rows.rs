//! Which rows of looked-up matrices ranks exchange: those that any of them looked up.

use crate::error::Error;
use flambeau_collective::{Communicator, Ticket};
use flambeau_keras::IndexedSlices;
use std::ops::Range;

/// A matrix of fewer elements is exchanged whole: to agree on rows would cost more.
const LARGE: usize = 65_536;

/// What is exchanged of each matrix, once all ranks have said which rows they looked up.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// None where no matrix is large.
    rows: Option<Ticket<Vec<Vec<u8>>>>,
}

impl Exchanged {
    /// Begins to tell the other ranks which rows this one `looked_up` of each matrix.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn start(
        slices: &[IndexedSlices],
        looked_up: &[Vec<usize>],
        communicator: &mut Communicator,
    ) -> Result<Self, Error> {
        let large = slices.iter().zip(looked_up);
        let large: Vec<_> = large.filter(|(slices, _)| is_large(slices)).collect();
        let rows = (!large.is_empty()).then(|| {
            let own = encode(large.iter().map(|(_, rows)| rows.as_slice()));
            communicator.start_allgather(own)
        });
        Ok(Self {
            rows: rows.transpose()?,
        })
    }

    /// Waits until all have done so, and has the slices list what any rank looked up; the stretches of
    /// each matrix that are exchanged.
    ///
    /// # Errors
    /// [`Error::Collective`], or another rank's matrices are larger.
    pub(crate) fn wait(
        self,
        slices: &mut [IndexedSlices],
    ) -> Result<Vec<Vec<Range<usize>>>, Error> {
        let large = slices.iter().filter(|slices| is_large(slices));
        let heights: Vec<_> = large
            .map(|slices| slices.span().len() / slices.width())
            .collect();
        let mut rows = vec![Vec::new(); heights.len()];
        let gathered = self.rows.map(Ticket::wait).transpose()?;
        for (rank, of_rank) in gathered.iter().flatten().enumerate() {
            decode(of_rank, &heights, &mut rows).map_err(|row| {
                Error::Config(format!(
                    "rank {rank} looked up row {row} of an embedding that has no such row on \
                     this rank: all ranks must train the same model"
                ))
            })?;
        }
        let mut rows = rows.into_iter();
        let stretches = slices.iter_mut().map(|slices| {
            if is_large(slices) {
                slices.list(distinct(rows.next().unwrap_or_default()));
                stretches(slices)
            } else {
                slices.make_dense();
                std::iter::once(0..slices.span().len()).collect()
            }
        });
        Ok(stretches.collect())
    }
}

/// Whether ranks exchange rows of a matrix, and not all of it.
pub(crate) fn is_large(slices: &IndexedSlices) -> bool {
    slices.span().len() >= LARGE
}

/// Row numbers in order, each once.
fn distinct(mut rows: Vec<usize>) -> Vec<usize> {
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// For each matrix the number of its rows and these, as little-endian 64-bit numbers.
fn encode<'a>(matrices: impl Iterator<Item = &'a [usize]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for rows in matrices {
        let rows = distinct(rows.to_vec());
        for number in std::iter::once(rows.len()).chain(rows) {
            bytes.extend((number as u64).to_le_bytes());
        }
    }
    bytes
}

/// Adds the rows that another rank has encoded; fails with a row that the matrix, of as many rows
/// as `heights` says, does not have.
fn decode(bytes: &[u8], heights: &[usize], matrices: &mut [Vec<usize>]) -> Result<(), u64> {
    let (words, _) = bytes.as_chunks::<8>();
    let mut numbers = words.iter().map(|word| u64::from_le_bytes(*word));
    for (rows, &height) in matrices.iter_mut().zip(heights) {
        let count = numbers.next().unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for number in numbers.by_ref().take(count) {
            let row = usize::try_from(number).ok().filter(|&row| row < height);
            rows.push(row.ok_or(number)?);
        }
    }
    Ok(())
}

/// Where the listed rows lie in their matrix; neighbours are one stretch.
fn stretches(slices: &IndexedSlices) -> Vec<Range<usize>> {
    let width = slices.width();
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for row in slices.rows() {
        match stretches.last_mut() {
            Some(last) if last.end == row * width => last.end += width,
            _ => stretches.push(row * width..(row + 1) * width),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_several_matrices_travel_in_one_message() {
        let own = [vec![5, 2, 5], vec![], vec![9]];
        let message = encode(own.iter().map(Vec::as_slice));
        let mut matrices = vec![vec![1], vec![], vec![]];
        decode(&message, &[10, 1, 10], &mut matrices).unwrap();
        assert_eq!(matrices, [vec![1, 2, 5], vec![], vec![9]]);
        // What is cut off is missing, no more.
        decode(&message[..12], &[10, 1, 10], &mut matrices).unwrap();
        assert_eq!(matrices, [vec![1, 2, 5], vec![], vec![9]]);
        assert_eq!(decode(&message, &[10, 1, 9], &mut matrices), Err(9));
    }
}
