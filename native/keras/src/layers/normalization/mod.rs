//! `keras.layers`, normalization.

mod axes;
mod batch;
mod layer;
mod renorm;
mod rms;
mod unit;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("BatchNormalization", batch::build),
    ("LayerNormalization", layer::build),
    ("RMSNormalization", rms::build),
    ("UnitNormalization", unit::build),
];
