//! `keras.layers`, preprocessing.

mod images;
mod normalization;
mod rescaling;

pub(super) use self::images::LAYERS as IMAGES;
use super::Family;

pub(super) const LAYERS: Family = &[
    ("Normalization", normalization::build),
    ("Rescaling", rescaling::build),
];
