//! `RandomInvert` and `Solarization`: bright for dark.

use tch::Tensor;

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, ValueRange};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// Some images as their negatives.
#[derive(Debug)]
struct Invert {
    factor: Range,
    values: ValueRange,
}

/// Pixels made brighter, and those from a threshold on replaced by their negatives.
#[derive(Debug)]
pub(super) struct Solarization {
    additions: Range,
    thresholds: Range,
    values: ValueRange,
}

pub(super) fn build_invert(scope: &mut Scope<'_>) -> Result<Built> {
    let factor = Range::read(scope.options, "factor", [0.0, 1.0], Some(1.0))?;
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Invert { factor, values })
}

pub(super) fn build_solarization(scope: &mut Scope<'_>) -> Result<Built> {
    let factor = |key| Range::read(scope.options, key, [0.0, 1.0], Some(0.0));
    let (addition, threshold) = (factor("addition_factor")?, factor("threshold_factor")?);
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Solarization::new(addition, threshold, values))
}

impl Augmentation for Invert {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let inverted = images.f_neg()?.f_add_scalar(self.values.high)?;
        Ok(inverted.f_where_self(&self.factor.happens(rng, images)?, images)?)
    }
}

impl Solarization {
    /// Keras takes the upper factors of 255, the lower ones as they are.
    pub(super) fn new(addition: Range, threshold: Range, values: ValueRange) -> Self {
        let of_bytes = |factor: Range| Range {
            low: factor.low,
            high: factor.high * 255.0,
        };
        Self {
            additions: of_bytes(addition),
            thresholds: of_bytes(threshold),
            values,
        }
    }
}

impl Augmentation for Solarization {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let kind = images.f_kind()?;
        let additions = self.additions.draw_each(rng, images)?.f_to_kind(kind)?;
        let thresholds = self.thresholds.draw_each(rng, images)?.f_to_kind(kind)?;
        let bytes = self.values.to(ValueRange::BYTES, images)?;
        let bytes = ValueRange::BYTES.clip(&bytes.f_add(&additions)?)?;
        let negative = bytes.f_neg()?.f_add_scalar(255.0)?;
        let results = bytes.f_where_self(&bytes.f_lt_tensor(&thresholds)?, &negative)?;
        ValueRange::BYTES.to(self.values, &results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::{Device, Kind};

    #[test]
    fn thresholds_and_additions_are_drawn_for_each_image() {
        let images = Tensor::full([4000, 1, 2, 1], 100.0, (Kind::Float, Device::Cpu));
        let range = |high| Range { low: 0.0, high };
        let apply = |addition, threshold| {
            let change = Solarization::new(range(addition), range(threshold), ValueRange::BYTES);
            change.apply(&images, &mut Rng::seed_from_u64(4)).unwrap()
        };
        let negatives = apply(0.0, 1.0)
            .eq(155.0)
            .mean(Kind::Double)
            .double_value(&[]);
        assert!((negatives - 100.0 / 255.0).abs() < 0.03, "{negatives}");
        let brighter = apply(0.2, 0.0).mean(Kind::Double).double_value(&[]);
        assert!((brighter - (155.0 - 25.5)).abs() < 1.0, "{brighter}");
        let results = apply(0.2, 0.0);
        assert_ne!(results.get(0), results.get(1));
        assert_eq!(results.select(2, 0), results.select(2, 1));
    }
}
