//! Sums over the ranks within a pass, for layers that look at the rows of all of them.

use flambeau_collective::Communicator;
use flambeau_keras::{Failure, Replicas};

/// The ranks as a model sees them.
#[derive(Debug)]
pub(crate) struct Ranks<'a>(pub(crate) &'a mut Communicator);

impl Replicas for Ranks<'_> {
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        Ok(self.0.allreduce_f64(values)?)
    }
}
