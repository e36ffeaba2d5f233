//! What ends a job early: its first cause, how every rank hears of it, and who has fallen silent.

pub(crate) mod abort;
pub(crate) mod cause;
pub(crate) mod control;
pub(crate) mod kin;
pub(crate) mod pace;
pub(crate) mod peer;
