//! Ranks on a network: rendezvous, authenticated links, allreduce, broadcast, failure detection.
//!
//! Every rank builds one [`Communicator`] from the same [`Config`] (but for its rank) and the same
//! [`Secret`]. Rank 0 listens and the others find it; no third party takes part. Each rank then
//! holds one encrypted control connection to rank 0 (heartbeats, abort, exit barrier), served by
//! one thread, and links for data: shared memory to the ranks that it proves to have some in common
//! with, sealed connections to others. In a small world it has a link to everybody.
//!
//! An operation is a plan (`algorithm`), pure index arithmetic, carried out over these links.
//!
//! Ranks of a job that has no such steps in common call each other instead (`calls`): every one of them
//! has an [`Endpoint`], and a rank that is lost is lost for those who call it.
//!
//! Nothing here recovers from a failure: the crate makes sure that every rank hears of it, with
//! its first cause, within a bounded time. After an error a communicator only repeats that error.
//! All state belongs to a communicator; any number of them may live in one process.

mod algorithm;
mod calls;
mod config;
mod element;
mod engine;
mod error;
mod failure;
mod membership;
mod secret;
mod topology;
mod transport;
mod wire;

pub use calls::endpoint::{Answer, Endpoint, Event};
pub use calls::line::{Line, Reply};
pub use config::{Config, Security, Transports};
pub use engine::communicator::Communicator;
pub use engine::ticket::Ticket;
pub use engine::vector::{Part, Vector};
pub use error::{Error, Scene};
pub use failure::abort::{AbortHandle, AbortReason};
pub use secret::Secret;
pub use wire::Wire;
