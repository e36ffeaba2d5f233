//! `keras.layers`, reshaping.

mod flatten;
mod reshape;

use super::Family;

pub(super) const LAYERS: Family = &[("Flatten", flatten::build), ("Reshape", reshape::build)];
