//! `keras.layers`, convolution.

mod conv;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Conv1D", conv::build),
    ("Conv2D", conv::build),
    ("Conv3D", conv::build),
];
