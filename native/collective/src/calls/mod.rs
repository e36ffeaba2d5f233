//! Requests between two ranks, and their answers, beside the collective operations.
//!
//! ```text
//! caller                                      called
//!   hello, handshake                ->          listens for as long as it lives
//!   Call { key, incarnation }       ->          a later incarnation of a rank takes the place of
//!                                               the one before
//!   call 7, as many frames as it takes ->
//!                                   <-        answer 7, whenever it is there
//!   heartbeat                       <->       when there is nothing else to say
//!   failure                         <->       the last word of a rank that fails
//! ```
//! A rank whose line to another breaks fails with that as its cause, as one of a communicator does. One
//! that is called outlives its callers: that one is gone is an event for it.

pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod line;
pub(crate) mod message;
pub(crate) mod serve;
