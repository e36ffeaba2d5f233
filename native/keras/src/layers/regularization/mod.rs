//! `keras.layers`, regularization.

mod activity_regularization;
mod alpha_dropout;
pub(in crate::layers) mod dropout;
mod gaussian;
mod noise_shape;

pub(in crate::layers) use self::dropout::dropout_mask;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Dropout", dropout::build),
    ("SpatialDropout1D", dropout::build_spatial),
    ("SpatialDropout2D", dropout::build_spatial),
    ("SpatialDropout3D", dropout::build_spatial),
    ("GaussianNoise", gaussian::build),
    ("GaussianDropout", gaussian::build),
    ("AlphaDropout", alpha_dropout::build),
    ("ActivityRegularization", activity_regularization::build),
];
