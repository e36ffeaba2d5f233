//! Collective operations as sequences of frames over a transport.

pub(crate) mod ring;
