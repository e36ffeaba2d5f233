//! `Dropout`: in training, zeroes a share `rate` of the elements and scales the others by
//! `1 / (1 - rate)`. Masks come from the pass's generator, never from libtorch's global one.

use rand_core::Rng as _;
use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, single};
use crate::config::Options;
use crate::error::Result;
use crate::pass::{Pass, Rng};

#[derive(Debug)]
struct Dropout {
    rate: f64,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    // Masks depend on the run's seed: a layer's own seed would repeat them on every worker.
    options.ignore(&["seed"]);
    let rate = options.f64("rate", 0.5)?;
    if !(0.0..=1.0).contains(&rate) {
        return Err(options.invalid(format!("rate = {rate} must be between 0 and 1")));
    }
    Ok(Box::new(Dropout { rate }))
}

impl Layer for Dropout {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        single(inputs).cloned()
    }

    fn forward(
        &self,
        inputs: &[&Tensor],
        _: &LayerVariables<'_>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let x = inputs[0];
        if self.is_identity(pass.training) {
            return Ok(x.shallow_clone());
        }
        let mask = Tensor::f_from_slice(&mask(&mut pass.rng, self.rate, x.numel()))?;
        Ok(x.f_mul(&mask.f_view(x.size().as_slice())?.f_to_device(x.device())?)?)
    }

    fn is_identity(&self, training: bool) -> bool {
        !training || self.rate == 0.0
    }
}

/// `len` factors: 0 with probability `rate`, else `1 / (1 - rate)`.
fn mask(rng: &mut Rng, rate: f64, len: usize) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "factors are f32")]
    let kept = if rate < 1.0 {
        (1.0 / (1.0 - rate)) as f32
    } else {
        0.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rate is in 0..=1, so the limit is in 0..=2^32"
    )]
    let limit = (rate * 4_294_967_296.0) as u64;
    (0..len)
        .map(|_| {
            if u64::from(rng.next_u32()) < limit {
                0.0
            } else {
                kept
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn masks_keep_the_mean_and_repeat_with_the_seed() {
        let first = mask(&mut Rng::seed_from_u64(5), 0.25, 100_000);
        let dropped = first.iter().filter(|&&factor| factor == 0.0).count();
        assert!((24_500..25_500).contains(&dropped), "{dropped}");
        assert!(
            first
                .iter()
                .all(|&factor| factor == 0.0 || factor == 1.0 / 0.75)
        );
        assert_eq!(first, mask(&mut Rng::seed_from_u64(5), 0.25, 100_000));
    }

    #[test]
    fn rate_one_drops_everything() {
        assert!(
            mask(&mut Rng::seed_from_u64(5), 1.0, 1000)
                .iter()
                .all(|&factor| factor == 0.0)
        );
    }
}
