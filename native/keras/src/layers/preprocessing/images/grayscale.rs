//! `RandomGrayscale` and `RandomColorDegeneration`: images without their colours, or with less of
//! them.

use tch::Tensor;

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, ValueRange};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// Takes all colour from a share of the images.
#[derive(Debug)]
struct Grayscale {
    share: f64,
}

/// Moves each image towards its shades of gray, or away from them.
#[derive(Debug)]
pub(super) struct Degeneration {
    pub(super) factor: Range,
    pub(super) values: ValueRange,
}

pub(super) fn build_grayscale(scope: &mut Scope<'_>) -> Result<Built> {
    let share = scope.options.number("factor", 0.5)?;
    if !(0.0..=1.0).contains(&share) {
        let reason = format!("factor = {share} must be in 0..=1");
        return Err(scope.options.invalid(reason));
    }
    in_training(scope, Grayscale { share })
}

pub(super) fn build_degeneration(scope: &mut Scope<'_>) -> Result<Built> {
    let factor = Range::read(scope.options, "factor", [-1.0, 1.0], None)?;
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Degeneration { factor, values })
}

/// The shades of images of three channels, in one; TensorFlow's weights.
pub(crate) fn gray(images: &Tensor) -> Result<Tensor> {
    if images.size().last() == Some(&1) {
        return Ok(images.shallow_clone());
    }
    let weights = Tensor::f_from_slice(&[0.2989_f32, 0.5870, 0.1140])?;
    let weights = weights.f_to_kind(images.f_kind()?)?.f_view([3, 1])?;
    Ok(images.f_matmul(&weights.f_to_device(images.device())?)?)
}

impl Augmentation for Grayscale {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let share = Range {
            low: self.share,
            high: self.share,
        };
        let happens = share.happens(rng, images)?;
        Ok(gray(images)?.f_where_self(&happens, images)?)
    }

    fn channels(&self) -> &'static [i64] {
        &[1, 3]
    }
}

impl Augmentation for Degeneration {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let factor = self.factor.draw_each(rng, images)?;
        let factor = factor.f_to_kind(images.f_kind()?)?;
        let moved = images.f_add(&factor.f_mul(&gray(images)?.f_sub(images)?)?)?;
        self.values.clip(&moved)
    }

    fn channels(&self) -> &'static [i64] {
        &[3]
    }
}
