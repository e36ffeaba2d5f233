//! `keras.layers`, core.

mod dense;

use super::Family;

pub(super) const LAYERS: Family = &[("Dense", dense::build)];
