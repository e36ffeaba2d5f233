//! A model's output, as losses and metrics call a value.

pub use crate::value::Value as Output;
