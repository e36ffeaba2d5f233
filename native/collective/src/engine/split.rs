//! Groups of the ranks of a communicator, each with a communicator of its own.

use std::sync::Arc;

use crate::engine::communicator::Communicator;
use crate::engine::operation::Operations;
use crate::error::Error;
use crate::failure::abort::Shared;
use crate::failure::kin;

impl Communicator {
    /// Has some of the ranks, `members` in their new order, meet in a communicator of their own, whose
    /// operations may run at the same time as those of this one. They fail together, and errors name
    /// ranks by their numbers here. The members call this at the same time, with the same `name`, that
    /// no other split has where one of the members takes part.
    ///
    /// # Errors
    /// [`Error::Config`] if this rank is not one of the members; else as [`connect`](Self::connect).
    pub fn split(&self, name: &str, members: &[usize]) -> Result<Self, Error> {
        let Operations { job, shared } = &*self.operations;
        let place = members.iter().position(|member| *member == self.rank());
        let inside = members.iter().all(|member| *member < self.world_size());
        let Some(place) = place.filter(|_| inside) else {
            let (rank, ranks) = (self.rank(), self.world_size());
            let what = format!("rank {rank} of {ranks} in a group of ranks {members:?}");
            return Err(Error::Config { what });
        };
        let part = Arc::<Shared>::default();
        kin::join(shared, &part);
        Self::meet(job.part(name, members, place), &part)
    }
}
