//! Frames between two ranks, and what goes wrong with them.

pub(crate) mod tcp;
