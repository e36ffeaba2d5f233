//! `keras.layers`, merging.

mod concatenate;
mod elementwise;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Add", elementwise::build),
    ("Concatenate", concatenate::build),
];
