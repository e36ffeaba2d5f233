//! `keras.layers`, regularization.

mod dropout;

pub(in crate::layers) use self::dropout::dropout_mask;

use super::Family;

pub(super) const LAYERS: Family = &[("Dropout", dropout::build)];
