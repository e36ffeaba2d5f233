//! `keras.layers`, core.

mod contraction;
mod dense;
mod einsum_dense;
mod embedding;
mod equation;
mod identity;
mod lambda;
mod masking;
mod reversible_embedding;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("Dense", dense::build),
    ("EinsumDense", einsum_dense::build),
    ("Embedding", embedding::build),
    ("ReversibleEmbedding", reversible_embedding::build),
    ("Masking", masking::build),
    ("Identity", identity::build),
    ("Lambda", lambda::build),
];
