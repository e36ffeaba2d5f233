//! `keras.layers`, attention.

mod dense;
mod dot_product;
mod grouped_query;
mod masks;
mod multi_head;
mod projection;
mod score;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("MultiHeadAttention", multi_head::build),
    ("GroupedQueryAttention", grouped_query::build),
    ("Attention", dense::build),
    ("AdditiveAttention", dense::build),
];
