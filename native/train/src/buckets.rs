//! Gradients on their way to the other ranks while those of earlier layers are still being computed.
//!
//! ```text
//! variables       | first layer        | ...        | last layer |  rest of the share |
//! buckets         |      bucket 2      |  bucket 1  |  bucket 0  |  last of all       |
//! backward pass   <-------------------------------------------
//! ```
//! A bucket leaves when the gradients in it and all buckets before it are whole. So they leave in
//! the same order on every rank, also on one without rows, which sends zeros.

use crate::error::Error;
use flambeau_collective::{Communicator, Part, Ticket, Vector, Wire};
use std::ops::Range;

/// Elements of a bucket, or of one variable if that is larger: 4 MB, few enough for the first to
/// leave early, and so many that what it costs to begin an exchange is little.
const BUCKET: usize = 1 << 20;

/// With fewer elements in all there is nothing to gain.
const WORTH_IT: usize = 1 << 18;

/// Which variables go in which bucket.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Of each variable, where it lies.
    spans: Vec<Range<usize>>,
    /// Where buckets but the first in memory begin, and where the rest of the share does.
    cuts: Vec<usize>,
    /// Of each variable, in which part it is.
    parts: Vec<usize>,
}

impl Buckets {
    /// For variables that lie at `spans`, one behind the other from 0; none if it is not worth it.
    pub(crate) fn plan(spans: Vec<Range<usize>>) -> Option<Self> {
        let length = spans.last().map_or(0, |span| span.end);
        if length < WORTH_IT {
            return None;
        }
        let mut cuts = vec![length];
        let mut end = length;
        for span in spans.iter().rev() {
            if end - span.start >= BUCKET && span.start > 0 {
                cuts.push(span.start);
                end = span.start;
            }
        }
        cuts.reverse();
        let part_of = |span: &Range<usize>| cuts.partition_point(|&cut| cut <= span.start);
        Some(Self {
            parts: spans.iter().map(part_of).collect(),
            cuts,
            spans,
        })
    }

    /// Begins to send a share, which is `Leaving` until it comes back as the sum.
    pub(crate) fn leave<'a>(
        &'a self,
        share: Vector,
        communicator: &'a mut Communicator,
        wire: Wire,
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
}

impl Leaving<'_> {
    /// Has `write` fill the gradient of a variable, which is then whole.
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
        let at = buckets.parts[variable];
        let start = at.checked_sub(1).map_or(0, |before| buckets.cuts[before]);
        let span = &buckets.spans[variable];
        if let Some(part) = &mut self.parts[at]
            && !std::mem::replace(&mut self.whole[variable], true)
        {
            write(&mut part.as_mut()[span.start - start..span.end - start])?;
            self.awaited[at] -= 1;
        }
        self.send()
    }

    /// Sends the buckets that are whole and whose turn it is.
    fn send(&mut self) -> Result<(), Error> {
        while let Some(next) = self.awaited.len().checked_sub(1 + self.tickets.len())
            && self.awaited[next] == 0
        {
            self.start(next, self.wire)?;
        }
        Ok(())
    }

    fn start(&mut self, at: usize, wire: Wire) -> Result<(), Error> {
        if let Some(part) = self.parts[at].take() {
            let ticket = self.communicator.start_allreduce(part, wire)?;
            self.tickets.push(ticket);
        }
        Ok(())
    }

    /// Sends zeros for the gradients that never came, and then the rest of the share, which `fill`
    /// fills in. Gives the sum over all ranks.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn finish(mut self, fill: impl FnOnce(&mut [f32])) -> Result<Vector, Error> {
        for variable in 0..self.whole.len() {
            self.take(variable, |gradient| {
                gradient.fill(0.0);
                Ok::<_, Error>(())
            })?;
        }
        let rest = self.parts.len() - 1;
        if let Some(part) = &mut self.parts[rest] {
            fill(part.as_mut());
        }
        // Counts of rows and ranks, which 16 bits cannot hold.
        self.start(rest, Wire::Float32)?;
        let parts = self.tickets.into_iter().map(Ticket::wait);
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Vector::join(parts).ok_or_else(|| Error::Panic("a part of the gradients is lost".into()))
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
        let buckets = Buckets::plan(spans(&sizes)).unwrap();
        let total: usize = sizes.iter().sum();
        let second = total - 2 * (BUCKET / 2) - 7;
        assert_eq!(buckets.cuts, [5, second - BUCKET + 1 - 10, second, total]);
        assert_eq!(buckets.parts, [0, 1, 2, 2, 3, 3, 3]);
        assert!(Buckets::plan(spans(&[1000, 5])).is_none());
        assert!(Buckets::plan(Vec::new()).is_none());
    }
}
