//! `MixUp`, `CutMix` and `RandomErasing`: images mixed with others of their batch, or rectangles of
//! them replaced.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::distributions::{beta, permutation};
use super::range::{Range, ValueRange, batch};
use super::sampling::grid;
use crate::config::{Given, Options};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::noise::normal;
use crate::scope::Scope;

/// Each image with another, by a weight of its own.
#[derive(Debug)]
struct MixUp {
    /// Of the weights' beta distribution.
    alpha: f64,
}

/// A rectangle of each image from another.
#[derive(Debug)]
struct CutMix {
    /// What the parameter of the beta distribution is drawn from.
    factor: Range,
}

/// A rectangle of some images filled.
#[derive(Debug)]
struct Erasing {
    factor: Range,
    /// Squares of the rectangle's share of height and width.
    scale: Range,
    /// For each channel or one for all; none for noise.
    fill: Vec<f64>,
    values: ValueRange,
}

pub(super) fn build_mix_up(scope: &mut Scope<'_>) -> Result<Built> {
    let alpha = scope.options.number("alpha", 0.2)?;
    if alpha <= 0.0 {
        let reason = format!("alpha = {alpha} must be positive");
        return Err(scope.options.invalid(reason));
    }
    in_training(scope, MixUp { alpha })
}

pub(super) fn build_cut_mix(scope: &mut Scope<'_>) -> Result<Built> {
    let factor = Range::read(scope.options, "factor", [0.0, 1.0], Some(1.0))?;
    in_training(scope, CutMix { factor })
}

pub(super) fn build_erasing(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let scale = match options.given("scale") {
        Given::Absent => Range {
            low: 0.02,
            high: 0.33,
        },
        _ => Range::read(options, "scale", [0.0, 1.0], None)?,
    };
    let erasing = Erasing {
        factor: Range::read(options, "factor", [0.0, 1.0], Some(1.0))?,
        scale,
        fill: fill(options)?,
        values: ValueRange::read(options)?,
    };
    in_training(scope, erasing)
}

/// Option `fill_value`: a number, three of them, or null for noise.
fn fill(options: &Options<'_>) -> Result<Vec<f64>> {
    let Some(value) = options.value("fill_value") else {
        return Ok(Vec::new());
    };
    let found: Option<Vec<f64>> = match value {
        Json::Array(items) => items.iter().map(Json::as_f64).collect(),
        number => number.as_f64().map(|number| vec![number]),
    };
    let found = found.filter(|fill| matches!(fill.len(), 1 | 3));
    found.ok_or_else(|| {
        options.invalid(format!(
            "fill_value = {value} must be a number, three of them, or null"
        ))
    })
}

/// The images of a batch in another order.
fn shuffled(images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
    let order = Tensor::f_from_slice(&permutation(rng, batch(images)))?;
    Ok(images.f_index_select(0, &order.f_to_device(images.device())?)?)
}

impl Augmentation for MixUp {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let others = shuffled(images, rng)?;
        let weights = beta(rng, self.alpha, batch(images))?.f_view([-1, 1, 1, 1])?;
        let weights = weights.f_to_device(images.device())?;
        let weights = weights.f_to_kind(images.f_kind()?)?;
        let rest = weights.f_neg()?.f_add_scalar(1.0)?;
        Ok(weights.f_mul(images)?.f_add(&rest.f_mul(&others)?)?)
    }
}

impl Augmentation for CutMix {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let alpha = self.factor.draw(rng, &[1])?.f_double_value(&[0])? + 1e-6;
        let kept = beta(rng, alpha, batch(images))?;
        let share = kept.f_neg()?.f_add_scalar(1.0)?.f_sqrt()?;
        let inside = rectangles(images, &share, &share, rng)?;
        Ok(shuffled(images, rng)?.f_where_self(&inside, images)?)
    }
}

impl Augmentation for Erasing {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let shares = self.scale.draw(rng, &[2, batch(images)])?.f_sqrt()?;
        let inside = rectangles(images, &shares.f_get(0)?, &shares.f_get(1)?, rng)?;
        let erased = inside.f_logical_and(&self.factor.happens(rng, images)?)?;
        let fill = if self.fill.is_empty() {
            normal(rng, &images.size())?.f_mul_scalar(self.values.high)?
        } else {
            Tensor::f_from_slice(&self.fill)?
        };
        let fill = fill.f_to_device(images.device())?;
        let fill = self.values.clip(&fill)?.f_to_kind(images.f_kind()?)?;
        Ok(fill.f_where_self(&erased, images)?)
    }
}

/// Whether pixels lie in a rectangle of these shares of the width and the height of each image,
/// anywhere in it, `[batch, height, width, 1]`.
fn rectangles(images: &Tensor, wide: &Tensor, high: &Tensor, rng: &mut Rng) -> Result<Tensor> {
    let (rows, height, width, _) = images.size4()?;
    let unit = Range {
        low: 0.0,
        high: 1.0,
    };
    let mut within = |share: &Tensor, length: i64, at: Tensor| {
        let cut = share.f_mul_scalar(length)?;
        let space = cut.f_neg()?.f_add_scalar(length)?;
        let start = unit.draw(rng, &[rows])?.f_mul(&space)?;
        let end = start.f_add(&cut)?;
        let bound = |bound: Tensor| bound.f_view([rows, 1, 1])?.f_to_device(images.device());
        let after = at.f_ge_tensor(&bound(start)?)?;
        Ok::<_, crate::error::Error>(after.f_logical_and(&at.f_lt_tensor(&bound(end)?)?)?)
    };
    let (x, y) = grid(images, Kind::Float)?;
    let columns = within(wide, width, x)?;
    let inside = columns.f_logical_and(&within(high, height, y)?)?;
    Ok(inside.f_unsqueeze(-1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::Device;

    fn rows(count: i64, height: i64, width: i64) -> Tensor {
        let rows = Tensor::arange(count, (Kind::Float, Device::Cpu)).view([count, 1, 1, 1]);
        rows.repeat([1, height, width, 1])
    }

    fn range(low: f64, high: f64) -> Range {
        Range { low, high }
    }

    #[test]
    fn rectangles_have_their_shares_and_lie_everywhere() {
        let images = rows(4000, 10, 20);
        let shares = Tensor::full([4000], 0.5, (Kind::Float, Device::Cpu));
        let rng = &mut Rng::seed_from_u64(6);
        let inside = rectangles(&images, &shares, &shares, rng).unwrap();
        let area = inside.mean(Kind::Double).double_value(&[]);
        assert!((area - 0.25).abs() < 0.01, "{area}");
        for axis in [1, 2] {
            let line = inside.any_dim(3 - axis, true);
            let length = line.size()[usize::try_from(axis).unwrap()];
            // The first pixel is inside only of what begins exactly there.
            let ends = [line.narrow(axis, 1, 1), line.narrow(axis, length - 1, 1)];
            for end in ends {
                assert!(end.mean(Kind::Double).double_value(&[]) > 0.02);
            }
        }
    }

    #[test]
    fn mixed_images_lie_between_two_and_keep_the_mean() {
        let images = rows(1000, 2, 2);
        let mix = MixUp { alpha: 0.5 };
        let mixed = mix.apply(&images, &mut Rng::seed_from_u64(6)).unwrap();
        assert!(mixed.min().double_value(&[]) >= 0.0 && mixed.max().double_value(&[]) <= 999.0);
        let mean = mixed.mean(Kind::Double).double_value(&[]);
        assert!((mean - 499.5).abs() < 25.0, "{mean}");
        assert_eq!(mixed.select(1, 0), mixed.select(1, 1));
        assert_eq!(
            mixed,
            mix.apply(&images, &mut Rng::seed_from_u64(6)).unwrap()
        );
    }

    #[test]
    fn cut_images_hold_whole_pixels_of_two() {
        let images = rows(500, 8, 8);
        let cut = CutMix {
            factor: range(0.9, 1.0),
        };
        let mixed = cut.apply(&images, &mut Rng::seed_from_u64(6)).unwrap();
        let changed = mixed
            .ne_tensor(&images)
            .mean(Kind::Double)
            .double_value(&[]);
        assert!((changed - 0.5).abs() < 0.05, "{changed}");
        for row in 0..500 {
            let pixels = Vec::<f32>::try_from(mixed.get(row).flatten(0, -1)).unwrap();
            let kinds = pixels.iter().map(|pixel| pixel.to_bits());
            assert!(kinds.collect::<std::collections::BTreeSet<_>>().len() <= 2);
        }
    }

    #[test]
    fn erased_rectangles_hold_the_fill_or_noise() {
        let images = Tensor::full([2000, 10, 10, 1], 7.0, (Kind::Float, Device::Cpu));
        let erased = |factor, fill: &[f64]| {
            let erasing = Erasing {
                factor,
                scale: range(0.25, 0.25),
                fill: fill.to_vec(),
                values: ValueRange::BYTES,
            };
            erasing.apply(&images, &mut Rng::seed_from_u64(6)).unwrap()
        };
        let share = |x: &Tensor| x.mean(Kind::Double).double_value(&[]);
        let filled = erased(range(0.5, 0.5), &[3.0]);
        assert!((share(&filled.eq(3.0)) - 0.125).abs() < 0.01);
        assert!((share(&filled.eq(7.0)) - 0.875).abs() < 0.01);
        let noisy = erased(range(1.0, 1.0), &[]);
        // Half of the noise is below zero, a part of 0.16 above 255.
        assert!((share(&noisy.eq(0.0)) - 0.125).abs() < 0.01);
        assert!((share(&noisy.eq(255.0)) - 0.25 * 0.159).abs() < 0.01);
    }
}
