//! `keras.layers`, convolution.

pub(crate) mod conv;
mod depthwise;
pub(crate) mod fused;
pub(crate) mod geometry;
pub(crate) mod separable;
pub(crate) mod transpose;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Conv1D", conv::build),
    ("Conv2D", conv::build),
    ("Conv3D", conv::build),
    ("Conv1DTranspose", transpose::build),
    ("Conv2DTranspose", transpose::build),
    ("Conv3DTranspose", transpose::build),
    ("DepthwiseConv1D", depthwise::build),
    ("DepthwiseConv2D", depthwise::build),
    ("SeparableConv1D", separable::build),
    ("SeparableConv2D", separable::build),
];
