//! `RandomPosterization`: only the highest bits of pixels.

use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, ValueRange};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

#[derive(Debug)]
pub(super) struct Posterization {
    /// Fewest and most bits; the most are drawn only if they are the fewest too.
    pub(super) bits: Range,
    pub(super) values: ValueRange,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let bits = Range::read(scope.options, "factor", [1.0, 8.0], None)?;
    if bits.low.fract() != 0.0 || bits.high.fract() != 0.0 {
        let reason = format!("factor = {bits:?} must be whole numbers of bits");
        return Err(scope.options.invalid(reason));
    }
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Posterization { bits, values })
}

impl Augmentation for Posterization {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let kind = images.f_kind()?;
        // Whole numbers have no gradient.
        let bytes = self.values.to(ValueRange::BYTES, &images.f_detach()?)?;
        let bytes = bytes.f_to_kind(Kind::Float)?.f_trunc()?;
        let bits = self.bits.draw_each(rng, images)?.f_floor()?;
        let step = bits.f_neg()?.f_add_scalar(8.0)?.f_exp2()?;
        let kept = bytes.f_div(&step)?.f_floor()?.f_mul(&step)?;
        ValueRange::BYTES.to(self.values, &kept.f_to_kind(kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::Device;

    #[test]
    fn the_number_of_bits_is_drawn_below_the_most() {
        let images = Tensor::full([3000, 1, 1, 1], 255.0, (Kind::Float, Device::Cpu));
        let change = Posterization {
            bits: Range {
                low: 1.0,
                high: 4.0,
            },
            values: ValueRange::BYTES,
        };
        let results = change.apply(&images, &mut Rng::seed_from_u64(4)).unwrap();
        for value in [128.0, 192.0, 224.0] {
            let share = results.eq(value).mean(Kind::Double).double_value(&[]);
            assert!((share - 1.0 / 3.0).abs() < 0.03, "{value} {share}");
        }
    }
}
