//! `AlphaDropout`: in training, a share `rate` of the elements takes SELU's lowest value, and all
//! are scaled and shifted so that mean 0 and variance 1 stay (Klambauer et al., 2017).

use tch::Tensor;

use super::dropout::rate;
use super::noise_shape::NoiseShape;
use crate::arguments::{Args, Tree};
use crate::context::{Context, Rng};
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, first_mask};
use crate::layers::noise::uniform;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// SELU's limit for low inputs: minus its alpha times its scale.
const LOWEST: f64 = -1.673_263_242_354_377_2 * 1.050_700_987_355_480_5;

#[derive(Debug)]
struct AlphaDropout {
    rate: f64,
    noise_shape: NoiseShape,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    // At rate 1 there is no scale that keeps the variance.
    let rate = rate(scope.options, 0.0..1.0)?;
    let noise_shape = NoiseShape::read(scope)?;
    Ok(Built::layer(AlphaDropout { rate, noise_shape }))
}

impl AlphaDropout {
    fn drop(&self, x: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let scale = ((1.0 - self.rate) * (1.0 + self.rate * LOWEST.powi(2))).powf(-0.5);
        let shift = -scale * LOWEST * self.rate;
        let dropped = uniform(rng, &self.noise_shape.of(&x.size()))?.f_lt(self.rate)?;
        let dropped = dropped.f_to_device(x.device())?.f_to_kind(x.f_kind()?)?;
        let factors = dropped.f_mul_scalar(-scale)?.f_add_scalar(scale)?;
        let offsets = dropped.f_mul_scalar(scale * LOWEST)?.f_add_scalar(shift)?;
        Ok(offsets.f_addcmul(x, &factors)?)
    }
}

impl Layer for AlphaDropout {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(args.only()?.clone()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        if !context.training || self.rate == 0.0 {
            return Ok(Tree::Leaf(value.clone()));
        }
        Ok(Tree::Leaf(self.drop(value.y()?, context.rng())?.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::noise::normal;
    use rand_core::SeedableRng;
    use tch::Kind;

    #[test]
    fn mean_and_variance_stay_and_the_share_is_dropped() {
        for rate in [0.1, 0.5, 0.8] {
            let mut rng = Rng::seed_from_u64(3);
            let x = normal(&mut rng, &[300, 1000]).unwrap();
            let layer = AlphaDropout {
                rate,
                noise_shape: NoiseShape::Whole,
            };
            let y = layer.drop(&x, &mut rng).unwrap();
            let mean = y.mean(Kind::Double).double_value(&[]);
            let variance = y.to_kind(Kind::Double).var(false).double_value(&[]);
            assert!(
                mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
                "{mean} {variance}"
            );
            let scale = ((1.0 - rate) * (1.0 + rate * LOWEST * LOWEST)).powf(-0.5);
            let dropped = (&y - scale * LOWEST * (1.0 - rate)).abs().lt(1e-5);
            let share = dropped
                .to_kind(Kind::Double)
                .mean(Kind::Double)
                .double_value(&[]);
            assert!((share - rate).abs() < 0.005, "{share}");
            let again = layer.drop(&x, &mut Rng::seed_from_u64(9)).unwrap();
            assert!(again.equal(&layer.drop(&x, &mut Rng::seed_from_u64(9)).unwrap()));
        }
    }

    #[test]
    fn kept_elements_are_an_affine_function_of_the_input() {
        let mut rng = Rng::seed_from_u64(3);
        let layer = AlphaDropout {
            rate: 0.3,
            noise_shape: NoiseShape::Sizes(vec![None, Some(1)]),
        };
        let x = normal(&mut rng, &[4000, 2]).unwrap();
        let y = layer.drop(&x, &mut rng).unwrap();
        // A row is kept or dropped as a whole: its difference is scaled, or 0.
        let scale = (0.7 * (1.0 + 0.3 * LOWEST * LOWEST)).powf(-0.5);
        let difference = |x: &Tensor| x.select(1, 0) - x.select(1, 1);
        let ratio = difference(&y) / difference(&x);
        let dropped = ratio.abs().lt(1e-3);
        let kept = (&ratio - scale).abs().lt(1e-2);
        assert_eq!(
            dropped.logical_or(&kept).sum(Kind::Int64).int64_value(&[]),
            4000
        );
        let share = dropped
            .to_kind(Kind::Double)
            .mean(Kind::Double)
            .double_value(&[]);
        assert!((share - 0.3).abs() < 0.03, "{share}");
    }
}
