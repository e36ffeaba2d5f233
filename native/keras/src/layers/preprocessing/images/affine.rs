//! `RandomRotation`, `RandomZoom`, `RandomTranslation` and `RandomShear`: each image through an
//! affine transform of its own.

use std::f64::consts::PI;

use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::range::Range;
use super::warp::Warp;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// The transform that is drawn for an image, by its parameters' ranges.
#[derive(Debug)]
pub(super) enum Affine {
    /// Around the middle, by a share of a full turn.
    Rotation(Range),
    /// Around the middle; `None` for the same as the height's.
    Zoom { height: Range, width: Option<Range> },
    /// By shares of height and width.
    Translation { height: Range, width: Range },
    /// Around the first pixel; both have the same sign, drawn too.
    Shear { x: Range, y: Range },
}

/// An [`Affine`] transform with its way of reading pixels.
#[derive(Debug)]
pub(super) struct Transformed {
    pub(super) affine: Affine,
    pub(super) warp: Warp,
}

const SIGNED: [f64; 2] = [-1.0, 1.0];

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let range = |key: &str| Range::read(options, key, SIGNED, None);
    let shear = |key: &str| Range::read(options, key, SIGNED, Some(0.0));
    let affine = match scope.class {
        "RandomRotation" => Affine::Rotation(range("factor")?),
        "RandomZoom" => Affine::Zoom {
            height: range("height_factor")?,
            width: match options.value("width_factor") {
                None => None,
                Some(_) => Some(range("width_factor")?),
            },
        },
        "RandomTranslation" => Affine::Translation {
            height: range("height_factor")?,
            width: range("width_factor")?,
        },
        // Keras takes no negative factor but writes a number as a range around zero.
        _ => Affine::Shear {
            x: shear("x_factor")?,
            y: shear("y_factor")?,
        },
    };
    let warp = Warp::read(options)?;
    in_training(scope, Transformed { affine, warp })
}

impl Augmentation for Transformed {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        self.warp.apply(images, &self.affine.draw(images, rng)?)
    }
}

impl Affine {
    /// A transform for each image, as [`Warp::apply`] takes them.
    fn draw(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (rows, height, width, _) = images.size4()?;
        let draw = |range: &Range, rng: &mut Rng| range.draw(rng, &[rows]);
        let zeros = Tensor::f_zeros([rows], (Kind::Float, tch::Device::Cpu))?;
        let ones = zeros.f_ones_like()?;
        let [a, b] = match self {
            Self::Rotation(turns) => {
                let degrees = turns.map(|turn| turn * 360.0);
                let angle = draw(&degrees, rng)?.f_mul_scalar(PI / 180.0)?;
                let (cos, sin) = (angle.f_cos()?, angle.f_sin()?);
                let (x, y) = (middle(width), middle(height));
                // What brings the middle to where it was.
                let back = |to: f64, by_x: &Tensor, by_y: &Tensor| {
                    let back = by_x.f_mul_scalar(-x)?.f_add_scalar(to)?;
                    back.f_sub(&by_y.f_mul_scalar(y)?)
                };
                let minus = sin.f_neg()?;
                let (a2, b2) = (back(x, &cos, &minus)?, back(y, &sin, &cos)?);
                [[cos.shallow_clone(), minus, a2], [sin, cos, b2]]
            }
            Self::Zoom {
                height: by,
                width: other,
            } => {
                let y = draw(&by.map(|by| 1.0 + by), rng)?;
                let x = match other {
                    Some(other) => draw(&other.map(|by| 1.0 + by), rng)?,
                    None => y.shallow_clone(),
                };
                let offset = |zoom: &Tensor, length| {
                    let rest = zoom.f_neg()?.f_add_scalar(1.0)?;
                    rest.f_mul_scalar(middle(length))
                };
                let (a2, b2) = (offset(&x, width)?, offset(&y, height)?);
                [
                    [x, zeros.shallow_clone(), a2],
                    [zeros.shallow_clone(), y, b2],
                ]
            }
            Self::Translation {
                height: down,
                width: right,
            } => {
                let dy = draw(down, rng)?.f_mul_scalar(-height)?;
                let dx = draw(right, rng)?.f_mul_scalar(-width)?;
                [
                    [ones.shallow_clone(), zeros.shallow_clone(), dx],
                    [zeros.shallow_clone(), ones, dy],
                ]
            }
            Self::Shear { x, y } => {
                let unit = Range {
                    low: 0.0,
                    high: 1.0,
                };
                let negative = draw(&unit, rng)?.f_gt(0.5)?;
                let sign = ones.f_neg()?.f_where_self(&negative, &ones)?;
                let y = draw(y, rng)?.f_mul(&sign)?;
                let x = draw(x, rng)?.f_mul(&sign)?;
                [
                    [ones.shallow_clone(), x, zeros.shallow_clone()],
                    [y, ones, zeros.shallow_clone()],
                ]
            }
        };
        let columns = [&a[0], &a[1], &a[2], &b[0], &b[1], &b[2], &zeros, &zeros];
        Ok(Tensor::f_stack(&columns, 1)?)
    }
}

/// The coordinate of the middle of `length` pixels.
#[expect(clippy::cast_precision_loss, reason = "sizes of images are small")]
fn middle(length: i64) -> f64 {
    (length - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::Device;

    /// Entry `at` of the transforms that are drawn for many images of 10 by 20 pixels.
    fn drawn(affine: &Affine, at: i64) -> Tensor {
        let images = Tensor::zeros([20_000, 10, 20, 1], (Kind::Float, Device::Cpu));
        let draw = || affine.draw(&images, &mut Rng::seed_from_u64(9)).unwrap();
        assert_eq!(draw(), draw());
        draw().select(1, at)
    }

    fn assert_spread(found: &Tensor, low: f64, high: f64) {
        let (least, most) = (found.min().double_value(&[]), found.max().double_value(&[]));
        assert!(least >= low - 1e-4 && most <= high + 1e-4, "{least} {most}");
        let mean = found.mean(Kind::Double).double_value(&[]);
        assert!(
            (mean - (low + high) / 2.0).abs() < 0.02 * (high - low),
            "{mean}"
        );
        let spread = found.std(true).double_value(&[]) * 12.0_f64.sqrt();
        assert!(
            (spread - (high - low)).abs() < 0.02 * (high - low),
            "{spread}"
        );
    }

    #[test]
    fn each_image_has_its_own_transform_of_the_range() {
        let range = |low, high| Range { low, high };
        let turned = drawn(&Affine::Rotation(range(0.0, 0.25)), 3).asin();
        assert_spread(&turned, 0.0, PI / 2.0);
        let zoom = Affine::Zoom {
            height: range(-0.2, 0.4),
            width: None,
        };
        assert_spread(&drawn(&zoom, 4), 0.8, 1.4);
        assert_eq!(drawn(&zoom, 0), drawn(&zoom, 4));
        let translation = Affine::Translation {
            height: range(0.0, 0.5),
            width: range(-0.1, 0.1),
        };
        assert_spread(&drawn(&translation, 5), -5.0, 0.0);
        assert_spread(&drawn(&translation, 2), -2.0, 2.0);
    }

    #[test]
    fn shears_have_either_sign_but_the_same_both_ways() {
        let range = |low, high| Range { low, high };
        let shear = Affine::Shear {
            x: range(0.0, 0.5),
            y: range(0.2, 0.2),
        };
        let (x, y) = (drawn(&shear, 1), drawn(&shear, 3));
        assert_spread(&x, -0.5, 0.5);
        assert!(y.abs().allclose(&y.full_like(0.2), 1e-6, 1e-6, false));
        assert!((&x * &y).min().double_value(&[]) >= 0.0);
    }
}
