//! Sums over ranks within a pass: for layers that look at the rows of all of them, and for those whose
//! weights are split between some.

use flambeau_collective::Communicator;
use flambeau_keras::{Failure, Replicas, TensorGroup};

/// The ranks as a model sees them.
#[derive(Debug)]
pub(crate) struct Ranks<'a>(pub(crate) &'a mut Communicator);

impl Replicas for Ranks<'_> {
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        Ok(self.0.allreduce_f64(values)?)
    }
}

/// The ranks that share the weights of a stage.
#[derive(Debug)]
pub(crate) struct Parts(pub(crate) Communicator);

impl TensorGroup for Parts {
    fn sum(&mut self, values: &mut [f32]) -> Result<(), Failure> {
        Ok(self.0.allreduce(values)?)
    }

    fn gather(&mut self, values: &mut [f32]) -> Result<(), Failure> {
        let pieces = self.0.parts(values.len());
        Ok(self.0.gather(values, &pieces)?)
    }
}

impl Replicas for Parts {
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        Ok(self.0.allreduce_f64(values)?)
    }
}

/// The stages of a replica, each of which `parts` ranks have.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    pub(crate) replica: &'a mut Communicator,
    pub(crate) parts: usize,
}

impl Replicas for Stages<'_> {
    /// Of numbers that those who share a stage agree on.
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        self.replica.allreduce_f64(values)?;
        values
            .iter_mut()
            .for_each(|value| *value /= self.parts as f64);
        Ok(())
    }
}
