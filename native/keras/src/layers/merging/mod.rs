//! `keras.layers`, merging.

mod concatenate;
mod dot;
mod elementwise;
mod promotion;

pub(crate) use self::elementwise::is_sum;
use super::Family;

pub(super) const LAYERS: Family = &[
    ("Add", elementwise::build),
    ("Subtract", elementwise::build),
    ("Multiply", elementwise::build),
    ("Average", elementwise::build),
    ("Maximum", elementwise::build),
    ("Minimum", elementwise::build),
    ("Concatenate", concatenate::build),
    ("Dot", dot::build),
];
