//! The layers of Keras, by its own families. A new layer is one file, and one line in the list of
//! its family.

pub(crate) mod activation;
mod applications;
mod attention;
pub(crate) mod convolution;
mod core;
pub(crate) mod layout;
pub(crate) mod merging;
mod noise;
pub(crate) mod normalization;
pub(crate) mod pooling;
pub(crate) mod preprocessing;
mod recurrent;
mod regularization;
mod reshaping;
pub(crate) mod window;

use crate::registry::Builder;

/// The classes of one family of layers.
type Family = &'static [(&'static str, Builder)];

/// Every layer that there is.
pub(crate) const FAMILIES: &[Family] = &[
    core::LAYERS,
    activation::LAYERS,
    convolution::LAYERS,
    pooling::LAYERS,
    normalization::LAYERS,
    regularization::LAYERS,
    reshaping::LAYERS,
    attention::LAYERS,
    merging::LAYERS,
    preprocessing::LAYERS,
    preprocessing::IMAGES,
    preprocessing::AUDIO,
    recurrent::LAYERS,
    applications::LAYERS,
];

/// Names under which Keras exports a class beside its own, and the class's own.
const ALIASES: &[(&str, &str)] = &[
    ("Convolution1D", "Conv1D"),
    ("Convolution2D", "Conv2D"),
    ("Convolution3D", "Conv3D"),
    ("Convolution1DTranspose", "Conv1DTranspose"),
    ("Convolution2DTranspose", "Conv2DTranspose"),
    ("Convolution3DTranspose", "Conv3DTranspose"),
    ("SeparableConvolution1D", "SeparableConv1D"),
    ("SeparableConvolution2D", "SeparableConv2D"),
    ("MaxPool1D", "MaxPooling1D"),
    ("MaxPool2D", "MaxPooling2D"),
    ("MaxPool3D", "MaxPooling3D"),
    ("GroupQueryAttention", "GroupedQueryAttention"),
    ("AvgPool1D", "AveragePooling1D"),
    ("AvgPool2D", "AveragePooling2D"),
    ("AvgPool3D", "AveragePooling3D"),
    ("GlobalMaxPool1D", "GlobalMaxPooling1D"),
    ("GlobalMaxPool2D", "GlobalMaxPooling2D"),
    ("GlobalMaxPool3D", "GlobalMaxPooling3D"),
    ("GlobalAvgPool1D", "GlobalAveragePooling1D"),
    ("GlobalAvgPool2D", "GlobalAveragePooling2D"),
    ("GlobalAvgPool3D", "GlobalAveragePooling3D"),
];

/// A class's own name, by which Keras also names its group in weights files.
pub(crate) fn canonical(class: &str) -> &str {
    let known = ALIASES.iter().find(|(alias, _)| *alias == class);
    known.map_or(class, |(_, class)| class)
}
