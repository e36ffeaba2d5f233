//! Random tensors from the pass's own generator, never from libtorch's global one.

use rand_core::Rng as _;
use std::f64::consts::TAU;
use tch::Tensor;

use crate::context::Rng;
use crate::error::Result;

/// Numbers in `[0, 1)`, all multiples of 2^-24 equally likely.
pub(in crate::layers) fn uniform(rng: &mut Rng, shape: &[i64]) -> Result<Tensor> {
    let len = usize::try_from(shape.iter().product::<i64>()).unwrap_or(0);
    Ok(Tensor::f_from_slice(&unit(rng, len))?.f_view(shape)?)
}

fn unit(rng: &mut Rng, len: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "24 bits are exact in f32")]
    let mut next = || (rng.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0);
    (0..len).map(|_| next()).collect()
}

/// Standard normal numbers, by Box and Muller's transform of pairs.
pub(in crate::layers) fn normal(rng: &mut Rng, shape: &[i64]) -> Result<Tensor> {
    let len = shape.iter().product::<i64>();
    let half = (len + 1) / 2;
    // In (0, 1], for the logarithm.
    let radius = uniform(rng, &[half])?.f_neg()?.f_add_scalar(1.0)?;
    let radius = radius.f_log()?.f_mul_scalar(-2.0)?.f_sqrt()?;
    let angle = uniform(rng, &[half])?.f_mul_scalar(TAU)?;
    let pair = [
        radius.f_mul(&angle.f_cos()?)?,
        radius.f_mul(&angle.f_sin()?)?,
    ];
    Ok(Tensor::f_cat(&pair, 0)?
        .f_narrow(0, 0, len)?
        .f_view(shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::Kind;

    fn rng() -> Rng {
        Rng::seed_from_u64(5)
    }

    fn moment(x: &Tensor, power: f64) -> f64 {
        let mean = x.pow_tensor_scalar(power).mean(Kind::Double);
        mean.double_value(&[])
    }

    #[test]
    fn uniform_numbers_fill_the_unit_interval() {
        let x = uniform(&mut rng(), &[400, 500]).unwrap();
        assert!(x.min().double_value(&[]) >= 0.0 && x.max().double_value(&[]) < 1.0);
        for power in [1.0, 2.0, 3.0] {
            let expected = 1.0 / (power + 1.0);
            assert!((moment(&x, power) - expected).abs() < 0.003, "{power}");
        }
    }

    #[test]
    fn normal_numbers_have_the_moments_of_a_standard_normal() {
        for len in [200_000, 200_001] {
            let x = normal(&mut rng(), &[len]).unwrap();
            assert_eq!(x.size(), [len]);
            for (power, expected, error) in [
                (1.0, 0.0, 0.01),
                (2.0, 1.0, 0.02),
                (3.0, 0.0, 0.05),
                (4.0, 3.0, 0.1),
            ] {
                let found = moment(&x, power);
                assert!((found - expected).abs() < error, "moment {power}: {found}");
            }
            // Neighbours, and the two of a pair, are independent.
            let half = len / 2;
            for (a, b) in [(0, 1), (0, half)] {
                let product = x.narrow(0, a, half) * x.narrow(0, b, half);
                assert!(product.mean(Kind::Double).double_value(&[]).abs() < 0.01);
            }
        }
    }

    #[test]
    fn the_seed_repeats_them() {
        let draw = || normal(&mut rng(), &[3, 5]).unwrap();
        assert!(draw().equal(&draw()));
        let mut rng = rng();
        let (a, b) = (
            normal(&mut rng, &[9]).unwrap(),
            normal(&mut rng, &[9]).unwrap(),
        );
        assert!(!a.equal(&b));
    }

    #[test]
    fn an_empty_batch_draws_nothing() {
        assert_eq!(normal(&mut rng(), &[0, 4]).unwrap().size(), [0, 4]);
    }
}
