//! `keras.layers`, preprocessing.

mod normalization;
mod rescaling;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Normalization", normalization::build),
    ("Rescaling", rescaling::build),
];
