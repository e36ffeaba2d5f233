//! `keras.layers`, normalization.

mod axes;
mod batch;
mod group;
mod layer;
mod moments;
mod renorm;
mod rms;
mod spectral;
mod unit;

pub(crate) use self::batch::scale_and_shift;
pub(crate) use self::moments::Moments;
use super::Family;

pub(super) const LAYERS: Family = &[
    ("BatchNormalization", batch::build),
    ("LayerNormalization", layer::build),
    ("GroupNormalization", group::build),
    ("RMSNormalization", rms::build),
    ("UnitNormalization", unit::build),
    ("SpectralNormalization", spectral::build),
];
