//! `keras.layers`, reshaping.

mod cropping;
mod flatten;
mod permute;
mod repeat_vector;
mod reshape;
mod up_sampling;
mod zero_padding;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Flatten", flatten::build),
    ("Reshape", reshape::build),
    ("Permute", permute::build),
    ("RepeatVector", repeat_vector::build),
    ("Cropping1D", cropping::build),
    ("Cropping2D", cropping::build),
    ("Cropping3D", cropping::build),
    ("ZeroPadding1D", zero_padding::build),
    ("ZeroPadding2D", zero_padding::build),
    ("ZeroPadding3D", zero_padding::build),
    ("UpSampling1D", up_sampling::build),
    ("UpSampling2D", up_sampling::build),
    ("UpSampling3D", up_sampling::build),
];
