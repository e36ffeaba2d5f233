//! `RandomBrightness`: all pixels of an image moved by a share of their range.

use tch::Tensor;

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, ValueRange};
use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

#[derive(Debug)]
pub(super) struct Brightness {
    pub(super) factor: Range,
    pub(super) values: ValueRange,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Brightness::read(scope.options, "factor", values)?)
}

impl Brightness {
    /// Reads the factor that `key` names.
    pub(super) fn read(options: &Options<'_>, key: &str, values: ValueRange) -> Result<Self> {
        Ok(Self {
            factor: Range::read(options, key, [-1.0, 1.0], None)?,
            values,
        })
    }
}

impl Augmentation for Brightness {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let delta = self.factor.draw_each(rng, images)?;
        let delta = delta.f_mul_scalar(self.values.span())?;
        let moved = images.f_add(&delta.f_to_kind(images.f_kind()?)?)?;
        self.values.clip(&moved)
    }
}
