//! `keras.layers`, preprocessing.

mod rescaling;

use super::Family;

pub(super) const LAYERS: Family = &[("Rescaling", rescaling::build)];
