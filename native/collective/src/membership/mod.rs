//! Who takes part: how ranks find each other, prove that they belong together, and join.

pub(crate) mod accept;
pub(crate) mod dial;
pub(crate) mod handshake;
pub(crate) mod hello;
pub(crate) mod job;
pub(crate) mod lookup;
pub(crate) mod message;
pub(crate) mod rendezvous;
pub(crate) mod strangers;
