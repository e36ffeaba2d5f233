//! `Dropout` and `SpatialDropout1D` to `3D`: in training, a share `rate` of the elements or of the
//! channels becomes 0 and the others are scaled by `1 / (1 - rate)`. Masks come from the pass's
//! generator, never from libtorch's global one.

use rand_core::Rng as _;
use tch::Tensor;

use super::noise_shape::NoiseShape;
use crate::arguments::{Args, Tree};
use crate::config::Options;
use crate::context::{Context, Rng};
use crate::error::{Error, Result};
use crate::graph::Split;
use crate::layer::{Built, Inferred, Layer, first_mask};
use crate::layers::layout::{Layout, spatial_rank};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::tensor_group::TensorPart;
use crate::value::Value;

#[derive(Debug)]
struct Dropout {
    rate: f64,
    noise_shape: NoiseShape,
    /// Which part of the last axis it sees.
    part: TensorPart,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::layer(Dropout {
        rate: rate(scope.options, 0.0..=1.0)?,
        noise_shape: NoiseShape::read(scope)?,
        part: match scope.place.split {
            Split::Between => scope.place.tensor,
            _ => TensorPart::WHOLE,
        },
    }))
}

/// `SpatialDropout1D` to `3D`: drops whole channels.
pub(super) fn build_spatial(scope: &mut Scope<'_>) -> Result<Built> {
    let spatial = spatial_rank(scope);
    // SpatialDropout1D has no such option: its channels are last.
    let layout = Layout::read(scope.options)?;
    let input = scope.input()?;
    let ranked = input.require_rank(spatial + 2);
    ranked.map_err(|reason| scope.mismatch(reason))?;
    // Keras 2 wrote it, always null.
    scope.options.require_null("noise_shape")?;
    let sizes = layout.join(None, &vec![Some(1); spatial], None);
    Ok(Built::layer(Dropout {
        rate: rate(scope.options, 0.0..=1.0)?,
        noise_shape: NoiseShape::Sizes(sizes),
        part: TensorPart::WHOLE,
    }))
}

/// Option `rate`, and the one named `seed`, which is not followed: masks depend on the run's seed,
/// a layer's own would repeat them on every worker.
pub(super) fn rate(
    options: &Options<'_>,
    allowed: impl std::ops::RangeBounds<f64> + std::fmt::Debug,
) -> Result<f64> {
    options.ignore(&["seed"]);
    let rate = options.f64("rate", 0.5)?;
    if !allowed.contains(&rate) {
        return Err(options.invalid(format!("rate = {rate} must be in {allowed:?}")));
    }
    Ok(rate)
}

impl Layer for Dropout {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(args.only()?.clone()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        if !context.training || self.rate == 0.0 {
            // The input itself, with the logits behind it, as in Keras.
            return Ok(Tree::Leaf(value.clone()));
        }
        let x = value.y()?;
        if self.rate == 1.0 {
            // Nothing is left that could carry a gradient, in Keras either.
            return Ok(Tree::Leaf(x.f_detach()?.f_zeros_like()?.into()));
        }
        let shape = self.noise_shape.of(&x.size());
        let last = shape.len().saturating_sub(1);
        let mask = dropout_mask_of_part(context.rng(), self.rate, &shape, last, self.part)?;
        let mask = mask.f_to_device(x.device())?.f_to_kind(x.f_kind()?)?;
        Ok(Tree::Leaf(x.f_mul(&mask)?.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}

/// Factors of the given shape: 0 with probability `rate`, else `1 / (1 - rate)`.
pub(crate) fn dropout_mask(rng: &mut Rng, rate: f64, shape: &[i64]) -> Result<Tensor> {
    let len = usize::try_from(shape.iter().product::<i64>()).unwrap_or(0);
    Ok(Tensor::f_from_slice(&factors(rng, rate, len))?.f_view(shape)?)
}

/// As [`dropout_mask`], for the part of a value along `axis`: that of the whole value's mask, which all
/// ranks of a tensor group draw alike.
pub(crate) fn dropout_mask_of_part(
    rng: &mut Rng,
    rate: f64,
    shape: &[i64],
    axis: usize,
    part: TensorPart,
) -> Result<Tensor> {
    if part == TensorPart::WHOLE {
        return dropout_mask(rng, rate, shape);
    }
    let mut whole = shape.to_vec();
    whole[axis] *= part.ranks();
    part.narrow(&dropout_mask(rng, rate, &whole)?, axis)
}

fn factors(rng: &mut Rng, rate: f64, len: usize) -> Vec<f32> {
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
    let mut factor = || {
        if u64::from(rng.next_u32()) < limit {
            0.0
        } else {
            kept
        }
    };
    (0..len).map(|_| factor()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn masks_keep_the_mean_and_repeat_with_the_seed() {
        let first = factors(&mut Rng::seed_from_u64(5), 0.25, 100_000);
        let dropped = first.iter().filter(|&&factor| factor == 0.0).count();
        assert!((24_500..25_500).contains(&dropped), "{dropped}");
        let known = |factor: &f32| *factor == 0.0 || *factor == 1.0 / 0.75;
        assert!(first.iter().all(known));
        assert_eq!(first, factors(&mut Rng::seed_from_u64(5), 0.25, 100_000));
    }

    #[test]
    fn rate_one_drops_everything() {
        let factors = factors(&mut Rng::seed_from_u64(5), 1.0, 1000);
        assert!(factors.iter().all(|&factor| factor == 0.0));
    }
}
