//! `keras.ops.nn`, pooling: the layers themselves, for as many axes as inputs have.

use super::Family;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::spatial_rank;
use crate::layers::pooling::{adaptive, windowed};
use crate::registry::Builder;
use crate::scope::Scope;

pub(super) const OPS: Family = &[
    ("MaxPool", |scope| pooling(scope, windowed::build_max)),
    ("AveragePool", |scope| {
        pooling(scope, windowed::build_average)
    }),
    ("AdaptiveMaxPool", |scope| {
        pooling(scope, adaptive::build_max)
    }),
    ("AdaptiveAveragePool", |scope| {
        pooling(scope, adaptive::build_average)
    }),
];

fn pooling(scope: &mut Scope<'_>, build: Builder) -> Result<Built> {
    if (1..=3).contains(&spatial_rank(scope)) {
        return build(scope);
    }
    let input = scope.input()?;
    Err(scope.mismatch(format!(
        "takes inputs with 1 to 3 axes between batch and channels, got shape {input}"
    )))
}
