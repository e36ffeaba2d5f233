//! What lookups find: byte strings and integers.

use std::borrow::{Borrow, Cow};
use std::fmt::Debug;
use std::hash::Hash;

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use crate::error::Result;

/// A word of a vocabulary.
pub(super) trait Token:
    Borrow<Self::Key> + Clone + Debug + Eq + Hash + Send + 'static
{
    /// What it is found by.
    type Key: Eq + Hash + ?Sized;

    /// What configs call such words.
    const KIND: &'static str;

    /// As it stands in a config.
    fn from_json(value: &Json) -> Option<Self>;

    /// As it stands in a line of a vocabulary file.
    fn from_line(line: &str) -> Option<Self>;

    /// The text that TensorFlow hashes for it.
    fn text(key: &Self::Key) -> Cow<'_, [u8]>;

    /// Its remainder by `count`, which is above 0, if it is a number.
    fn remainder(key: &Self::Key, count: i64) -> Option<i64>;
}

impl Token for Box<[u8]> {
    type Key = [u8];
    const KIND: &'static str = "strings";

    fn from_json(value: &Json) -> Option<Self> {
        value.as_str().map(|text| text.as_bytes().into())
    }

    fn from_line(line: &str) -> Option<Self> {
        Some(line.as_bytes().into())
    }

    fn text(key: &[u8]) -> Cow<'_, [u8]> {
        Cow::Borrowed(key)
    }

    fn remainder(_: &[u8], _: i64) -> Option<i64> {
        None
    }
}

impl Token for i64 {
    type Key = Self;
    const KIND: &'static str = "integers";

    fn from_json(value: &Json) -> Option<Self> {
        value.as_i64()
    }

    fn from_line(line: &str) -> Option<Self> {
        line.trim().parse().ok()
    }

    fn text(key: &Self) -> Cow<'_, [u8]> {
        Cow::Owned(key.to_string().into_bytes())
    }

    fn remainder(key: &Self, count: i64) -> Option<i64> {
        Some(key.rem_euclid(count))
    }
}

/// The elements of a tensor as integers, in row-major order; numbers lose their fraction.
pub(super) fn integers(x: &Tensor) -> Result<Vec<i64>> {
    let flat = x.f_detach()?.f_to_kind(Kind::Int64)?.f_flatten(0, -1)?;
    Ok(Vec::try_from(flat)?)
}
