//! `keras.layers`, normalization.

mod batch;

use super::Family;

pub(super) const LAYERS: Family = &[("BatchNormalization", batch::build)];
