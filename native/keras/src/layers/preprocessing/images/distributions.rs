//! What is drawn besides uniform and normal numbers: gamma and beta variates, integers, orders.

use rand_core::Rng as _;
use tch::Tensor;

use crate::context::Rng;
use crate::error::Result;

/// A number from 0 to below `count`, which is small: no number is noticeably more likely.
pub(super) fn below(rng: &mut Rng, count: i64) -> i64 {
    let scaled = i128::from(rng.next_u32()) * i128::from(count);
    i64::try_from(scaled >> 32).unwrap_or(0)
}

/// The numbers from 0 to below `count` in an order, all orders equally likely.
pub(super) fn permutation(rng: &mut Rng, count: i64) -> Vec<i64> {
    let mut order: Vec<i64> = (0..count).collect();
    for last in (1..order.len()).rev() {
        let bound = i64::try_from(last + 1).unwrap_or(1);
        order.swap(last, usize::try_from(below(rng, bound)).unwrap_or(0));
    }
    order
}

/// In (0, 1).
fn open_unit(rng: &mut Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

/// The logarithm of a gamma variate of scale 1, which itself may be too small for any float
/// (Marsaglia and Tsang, 2000).
pub(super) fn log_gamma(rng: &mut Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let more = log_gamma(rng, shape + 1.0);
        return more + open_unit(rng).ln() / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let radius = (-2.0 * open_unit(rng).ln()).sqrt();
        let x = radius * (std::f64::consts::TAU * open_unit(rng)).cos();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && open_unit(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// A variate of the beta distribution whose parameters are both `alpha`.
pub(super) fn beta_one(rng: &mut Rng, alpha: f64) -> f64 {
    let (a, b) = (log_gamma(rng, alpha), log_gamma(rng, alpha));
    1.0 / (1.0 + (b - a).exp())
}

/// As [`beta_one`], `count` of them in float32.
pub(super) fn beta(rng: &mut Rng, alpha: f64, count: i64) -> Result<Tensor> {
    #[expect(clippy::cast_possible_truncation, reason = "shares are f32")]
    let shares: Vec<f32> = (0..count).map(|_| beta_one(rng, alpha) as f32).collect();
    Ok(Tensor::f_from_slice(&shares)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn gamma_variates_have_their_moments() {
        for shape in [0.3, 1.0, 2.5] {
            let rng = &mut Rng::seed_from_u64(8);
            let drawn: Vec<f64> = (0..40_000).map(|_| log_gamma(rng, shape).exp()).collect();
            let mean = drawn.iter().sum::<f64>() / 40_000.0;
            let squares = drawn.iter().map(|x| (x - mean) * (x - mean));
            let variance = squares.sum::<f64>() / 40_000.0;
            assert!(
                (mean - shape).abs() < 0.03 * shape.max(0.5),
                "{shape} {mean}"
            );
            assert!(
                (variance - shape).abs() < 0.1 * shape.max(0.5),
                "{shape} {variance}"
            );
        }
    }

    #[test]
    fn beta_variates_have_their_moments() {
        for alpha in [1e-6, 0.2, 1.0] {
            let drawn = beta(&mut Rng::seed_from_u64(8), alpha, 40_000).unwrap();
            let mean = drawn.mean(tch::Kind::Double).double_value(&[]);
            let variance = drawn.var(true).double_value(&[]);
            assert!((mean - 0.5).abs() < 0.01, "{alpha} {mean}");
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((variance - expected).abs() < 0.01, "{alpha} {variance}");
        }
    }

    #[test]
    fn orders_hold_every_number_and_differ() {
        let rng = &mut Rng::seed_from_u64(8);
        let mut firsts = [0; 5];
        for _ in 0..5000 {
            let mut order = permutation(rng, 5);
            firsts[usize::try_from(order[0]).unwrap()] += 1;
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4]);
        }
        assert!(
            firsts.iter().all(|count| (900..1100).contains(count)),
            "{firsts:?}"
        );
    }
}
