//! The layers of Keras, by its own families. A new layer is one file, and one line in the list of
//! its family.

mod activation;
mod attention;
mod convolution;
mod core;
mod layout;
mod merging;
mod normalization;
pub(crate) mod pooling;
mod preprocessing;
mod recurrent;
mod regularization;
mod reshaping;
mod window;

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
    recurrent::LAYERS,
];
