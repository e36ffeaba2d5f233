//! One rank's end of the operations, as the rest of the program sees it.
//!
//! A blocking call runs in the thread that makes it. Operations that are started instead
//! ([`start_allreduce`](communicator::Communicator::start_allreduce)) run in a thread of the
//! communicator, one after the other in the order in which they were started, and their tickets give
//! the memory back that they own meanwhile. A blocking call waits until that thread has nothing left
//! to do, so the order of all operations is the order of the calls.

pub(crate) mod carrier;
pub(crate) mod communicator;
pub(crate) mod data_plane;
pub(crate) mod operation;
pub(crate) mod split;
pub(crate) mod ticket;
pub(crate) mod vector;
