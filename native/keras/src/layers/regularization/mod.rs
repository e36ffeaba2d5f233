//! `keras.layers`, regularization.

mod dropout;

use super::Family;

pub(super) const LAYERS: Family = &[("Dropout", dropout::build)];
