//! Gradients on their way to the other ranks while those of earlier layers are still being computed.
//!
//! ```text
//! variables       | first layer        | ...        | last layer |  rest of the share |
//! buckets         |      bucket 2      |  bucket 1  |  bucket 0  |  last of all       |
//! backward pass   <-------------------------------------------
//! ```
//! A bucket leaves when the gradients in it and all buckets before it are whole. So they leave in
//! the same order on every rank, also on one without rows, which sends zeros. Matrices whose rows are
//! looked up are held back: not all of them is exchanged. Their gradients begin with zeros.

use crate::error::Error;
use flambeau_collective::{Communicator, Part, Ticket, Vector, Wire};
use std::ops::Range;

/// Elements of a bucket, or of one variable if that is larger: 4 MB, few enough for the first to
/// leave early, and so many that what it costs to begin an exchange is little.
const BUCKET: usize = 1 << 20;

/// With fewer elements in all there is nothing to gain.
pub(crate) const WORTH_IT: usize = 1 << 18;

/// Which variables go in which bucket.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Of each variable, where it lies.
    spans: Vec<Range<usize>>,
    /// Where parts but the first in memory begin: buckets, what is held back, the rest of the share.
    cuts: Vec<usize>,
    /// Of each variable, in which part it is.
    parts: Vec<usize>,
    /// Of each variable, whether it is held back.
    held: Vec<bool>,
    /// The parts that are buckets, as they leave.
    order: Vec<usize>,
}

impl Buckets {
    /// For variables that lie at `spans`, one behind the other from 0, of which some are `held` back;
    /// none if it is not worth it.
    pub(crate) fn plan(spans: Vec<Range<usize>>, held: &[usize]) -> Option<Self> {
        let held: Vec<bool> = (0..spans.len()).map(|at| held.contains(&at)).collect();
        let leaves = spans.iter().zip(&held).filter(|(_, held)| !**held);
        if leaves.map(|(span, _)| span.len()).sum::<usize>() < WORTH_IT {
            return None;
        }
        let length = spans.last().map_or(0, |span| span.end);
        let mut cuts = vec![length];
        let mut end = length;
        for (at, span) in spans.iter().enumerate().rev() {
            let full = end - span.start >= BUCKET && !held[at];
            let other = at > 0 && held[at] != held[at - 1];
            if (full || other) && span.start > 0 && span.start < end {
                cuts.push(span.start);
                end = span.start;
            }
        }
        cuts.reverse();
        let part_of = |span: &Range<usize>| cuts.partition_point(|&cut| cut <= span.start);
        let parts: Vec<usize> = spans.iter().map(part_of).collect();
        let is_bucket = |part: &usize| {
            let mut members = parts.iter().zip(&held);
            members.any(|(of, held)| of == part && !held)
        };
        Some(Self {
            order: (0..cuts.len()).rev().filter(is_bucket).collect(),
            parts,
            cuts,
            held,
            spans,
        })
    }

    /// Where a variable lies in its part.
    fn place(&self, variable: usize) -> Range<usize> {
        let part = self.parts[variable];
        let start = part.checked_sub(1).map_or(0, |before| self.cuts[before]);
        let span = &self.spans[variable];
        span.start - start..span.end - start
    }

    /// Where the parts of the gradients lie, buckets and what is held back, one behind the other.
    pub(crate) fn regions(&self) -> Vec<Range<usize>> {
        let starts = std::iter::once(0).chain(self.cuts.iter().copied());
        starts
            .zip(&self.cuts)
            .map(|(start, &end)| start..end)
            .collect()
    }

    /// Begins to send a share, which is `Leaving` until it comes back as the sum. With `scatters`, and
    /// numbers that travel as they are, a rank gets its part of a bucket's sum and no more.
    pub(crate) fn leave<'a>(
        &'a self,
        share: Vector,
        communicator: &'a mut Communicator,
        wire: Wire,
        scatters: bool,
    ) -> Leaving<'a> {
        let parts = share.cut(&self.cuts).into_iter().map(Some).collect();
        let mut awaited = vec![0; self.cuts.len()];
        self.parts.iter().for_each(|&part| awaited[part] += 1);
        Leaving {
            buckets: self,
            parts,
            whole: vec![false; self.spans.len()],
            awaited,
            tickets: Vec::new(),
            communicator,
            wire,
            scatters: scatters && wire == Wire::Float32,
        }
    }
}

/// A share that is being filled and sent.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    buckets: &'a Buckets,
    /// What has not left.
    parts: Vec<Option<Part>>,
    /// Of each variable, whether its gradient is there.
    whole: Vec<bool>,
    /// Of each bucket, how many gradients it still waits for.
    awaited: Vec<usize>,
    tickets: Vec<Ticket<Part>>,
    communicator: &'a mut Communicator,
    wire: Wire,
    /// Whether a rank gets its part of a bucket's sum, and no more.
    scatters: bool,
}

impl Leaving<'_> {
    /// Has `write` fill the gradient of a variable, which is then whole; or, where the variable is held
    /// back, add to it.
    ///
    /// # Errors
    /// Those of `write`, and [`Error::Collective`].
    pub(crate) fn take<E>(
        &mut self,
        variable: usize,
        write: impl FnOnce(&mut [f32]) -> Result<(), E>,
    ) -> Result<(), Error>
    where
        Error: From<E>,
    {
        let buckets = self.buckets;
        let (at, place) = (buckets.parts[variable], buckets.place(variable));
        let first = !std::mem::replace(&mut self.whole[variable], true);
        let held = buckets.held[variable];
        if let Some(part) = &mut self.parts[at]
            && (first || held)
        {
            write(&mut part.as_mut()[place])?;
            self.awaited[at] -= usize::from(first);
        }
        self.send()
    }

    /// Sends the buckets that are whole and whose turn it is.
    fn send(&mut self) -> Result<(), Error> {
        while let Some(&next) = self.buckets.order.get(self.tickets.len())
            && self.awaited[next] == 0
        {
            self.start(next, self.wire, self.scatters)?;
        }
        Ok(())
    }

    fn start(&mut self, at: usize, wire: Wire, scatters: bool) -> Result<(), Error> {
        if let Some(part) = self.parts[at].take() {
            self.tickets.push(if scatters {
                self.communicator.start_reduce_scatter(part)?
            } else {
                self.communicator.start_allreduce(part, wire)?
            });
        }
        Ok(())
    }

    /// Sends zeros for the gradients that never came, and then the rest of the share, which `fill`
    /// fills in. Gives the sum over all ranks.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn finish(mut self, fill: impl FnOnce(&mut [f32])) -> Result<Vector, Error> {
        self.complete()?;
        let rest = self.parts.len() - 1;
        if let Some(part) = &mut self.parts[rest] {
            fill(part.as_mut());
        }
        // Counts of rows and ranks, which 16 bits cannot hold.
        self.start(rest, Wire::Float32, false)?;
        self.join()
    }

    /// As [`finish`](Self::finish), but has `exchange` add up what is held back, with the rest.
    ///
    /// # Errors
    /// Those of `exchange`, and [`Error::Collective`].
    pub(crate) fn finish_with(
        mut self,
        exchange: impl FnOnce(&mut Held<'_>, &mut Communicator) -> Result<(), Error>,
    ) -> Result<Vector, Error> {
        self.complete()?;
        let mut held = Held {
            buckets: self.buckets,
            parts: &mut self.parts,
        };
        exchange(&mut held, self.communicator)?;
        self.join()
    }

    /// Zeros for what never came.
    fn complete(&mut self) -> Result<(), Error> {
        for variable in 0..self.whole.len() {
            let held = self.buckets.held[variable];
            if !self.whole[variable] {
                self.take(variable, |gradient| {
                    if !held {
                        gradient.fill(0.0);
                    }
                    Ok::<_, Error>(())
                })?;
            }
        }
        Ok(())
    }

    fn join(self) -> Result<Vector, Error> {
        let parts = self.tickets.into_iter().map(Ticket::wait);
        let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
        parts.extend(self.parts.into_iter().flatten());
        Vector::join(parts).ok_or_else(|| Error::Panic("a part of the gradients is lost".into()))
    }
}

/// What of a share does not leave in buckets.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    buckets: &'a Buckets,
    parts: &'a mut [Option<Part>],
}

impl Held<'_> {
    /// The gradient of a variable that is held back.
    pub(crate) fn of(&mut self, variable: usize) -> &mut [f32] {
        let place = self.buckets.place(variable);
        match &mut self.parts[self.buckets.parts[variable]] {
            Some(part) => &mut part.as_mut()[place],
            None => &mut [],
        }
    }

    /// What comes behind the gradients.
    pub(crate) fn rest(&mut self) -> &mut [f32] {
        match self.parts.last_mut() {
            Some(Some(part)) => part.as_mut(),
            _ => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(sizes: &[usize]) -> Vec<Range<usize>> {
        let mut start = 0;
        let spans = sizes.iter().map(|size| {
            start += size;
            start - size..start
        });
        spans.collect()
    }

    #[test]
    fn buckets_are_whole_variables_from_the_last_to_the_first() {
        let sizes = [5, BUCKET, 10, BUCKET - 1, BUCKET / 2, 7, BUCKET / 2];
        let buckets = Buckets::plan(spans(&sizes), &[]).unwrap();
        let total: usize = sizes.iter().sum();
        let second = total - 2 * (BUCKET / 2) - 7;
        assert_eq!(buckets.cuts, [5, second - BUCKET + 1 - 10, second, total]);
        assert_eq!(buckets.parts, [0, 1, 2, 2, 3, 3, 3]);
        assert_eq!(buckets.order, [3, 2, 1, 0]);
        assert!(Buckets::plan(spans(&[1000, 5]), &[]).is_none());
        assert!(Buckets::plan(Vec::new(), &[]).is_none());
    }

    #[test]
    fn what_is_held_back_is_in_no_bucket() {
        let sizes = [3 * BUCKET, 7, BUCKET, 2 * BUCKET, 2 * BUCKET, 9];
        let buckets = Buckets::plan(spans(&sizes), &[0, 3, 4]).unwrap();
        let starts = spans(&sizes).into_iter().map(|span| span.start);
        let starts: Vec<_> = starts.collect();
        let total: usize = sizes.iter().sum();
        assert_eq!(
            buckets.cuts,
            [starts[1], starts[2], starts[3], starts[5], total]
        );
        assert_eq!(buckets.parts, [0, 1, 2, 3, 3, 4]);
        assert_eq!(buckets.order, [4, 2, 1]);
        let regions = buckets.regions();
        assert_eq!(regions[..2], [0..starts[1], starts[1]..starts[2]]);
        assert_eq!(regions[4], starts[5]..total);
        assert_eq!(buckets.place(4), 2 * BUCKET..4 * BUCKET);
        // A model that is all embeddings has nothing to gain.
        assert!(Buckets::plan(spans(&sizes), &[0, 2, 3, 4]).is_none());
    }
}
