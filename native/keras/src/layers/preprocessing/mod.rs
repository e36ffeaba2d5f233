//! `keras.layers`, preprocessing: numbers, categories, text, images and audio. What `adapt` found
//! comes with the model, as variables, in the config or as a vocabulary in its archive.

mod audio;
mod category_encoding;
mod discretization;
mod encoding;
mod fingerprint;
mod hashed_crossing;
mod hashing;
pub(crate) mod images;
mod lookup;
mod normalization;
mod pipeline;
mod rescaling;
mod splitting;
mod text_vectorization;
mod tokens;
mod vocabulary;

pub(super) use self::audio::LAYERS as AUDIO;
pub(super) use self::images::LAYERS as IMAGES;
use super::Family;

pub(super) const LAYERS: Family = &[
    ("CategoryEncoding", category_encoding::build),
    ("Discretization", discretization::build),
    ("HashedCrossing", hashed_crossing::build),
    ("Hashing", hashing::build),
    ("IntegerLookup", lookup::build_integers),
    ("Normalization", normalization::build),
    ("Pipeline", pipeline::build),
    ("Rescaling", rescaling::build),
    ("StringLookup", lookup::build_strings),
    ("TextVectorization", text_vectorization::build),
];
