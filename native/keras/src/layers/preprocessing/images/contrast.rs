//! `RandomContrast` and `AutoContrast`: the distances of pixels from each other, in each channel of
//! each image.

use tch::Tensor;

use super::augmentation::{Augmentation, Images, in_training};
use super::range::{Range, ValueRange};
use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::scope::Scope;

/// Scales the distances from the mean, by `1 - low` to `1 + high` of Keras's factor.
#[derive(Debug)]
pub(super) struct Contrast {
    scale: Range,
    values: ValueRange,
}

/// Stretches what lies between the darkest and the brightest pixel to the whole range.
#[derive(Debug)]
pub(super) struct AutoContrast {
    values: ValueRange,
    /// Along which the extremes are found: of whatever layout, Keras takes the second and third.
    axes: [i64; 2],
}

pub(super) fn build_random(scope: &mut Scope<'_>) -> Result<Built> {
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Contrast::read(scope.options, "factor", values)?)
}

pub(super) fn build_auto(scope: &mut Scope<'_>) -> Result<Built> {
    let values = ValueRange::read(scope.options)?;
    let layout = Layout::read(scope.options)?;
    let contrast = AutoContrast::new(values, layout);
    Ok(Images::read(scope, contrast)?.always().built())
}

impl Contrast {
    pub(super) fn new(factor: Range, values: ValueRange) -> Self {
        let scale = Range {
            low: 1.0 - factor.low,
            high: 1.0 + factor.high,
        };
        Self { scale, values }
    }

    /// Reads the factor that `key` names.
    pub(super) fn read(options: &Options<'_>, key: &str, values: ValueRange) -> Result<Self> {
        let factor = Range::read(options, key, [0.0, 1.0], None)?;
        Ok(Self::new(factor, values))
    }
}

impl Augmentation for Contrast {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let kind = images.f_kind()?;
        let scale = self.scale.draw_each(rng, images)?.f_to_kind(kind)?;
        let mean = images.f_mean_dim(&[1_i64, 2][..], true, kind)?;
        let scaled = images.f_sub(&mean)?.f_mul(&scale)?.f_add(&mean)?;
        self.values.clip(&scaled)
    }
}

impl AutoContrast {
    pub(super) fn new(values: ValueRange, layout: Layout) -> Self {
        let axes = match layout {
            Layout::ChannelsLast => [1, 2],
            Layout::ChannelsFirst => [3, 1],
        };
        Self { values, axes }
    }
}

impl Augmentation for AutoContrast {
    fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
        let bytes = self.values.to(ValueRange::BYTES, images)?;
        let low = bytes.f_amin(self.axes, true)?;
        let high = bytes.f_amax(self.axes, true)?;
        // One division, whose gradient stays small enough for half precision.
        let most = Tensor::f_full([1], 255.0, (bytes.f_kind()?, bytes.device()))?;
        let scale = most.f_div(&high.f_sub(&low)?)?;
        let offset = low.f_neg()?.f_mul(&scale)?;
        let stretched = ValueRange::BYTES.clip(&bytes.f_mul(&scale)?.f_add(&offset)?)?;
        let results = ValueRange::BYTES.to(self.values, &stretched)?;
        // A channel of one value has no contrast: it stays.
        Ok(images.f_where_self(&results.f_isnan()?, &results)?)
    }
}
