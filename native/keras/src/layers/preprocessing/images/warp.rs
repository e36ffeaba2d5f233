//! Images seen through a projective transform, one for each of a batch, as TensorFlow's
//! `ImageProjectiveTransformV3` does it: the rules for what lies outside, the order of operations
//! in float32 and the gradient are its.

use tch::{Kind, Tensor};

use super::sampling::{Step, Tap, grid, sample, scatter};
use crate::config::Options;
use crate::error::Result;

/// What stands for pixels outside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// One value.
    Constant,
    /// `dcba|abcd|dcba`.
    Reflect,
    /// `abcd|abcd|abcd`.
    Wrap,
    /// `aaaa|abcd|dddd`.
    Nearest,
}

impl Fill {
    /// Reads option `fill_mode`, which is `default` if absent.
    ///
    /// # Errors
    /// TensorFlow has no such mode.
    pub(crate) fn read(options: &Options<'_>, default: &'static str) -> Result<Self> {
        let known = ["reflect", "constant", "wrap", "nearest"];
        Ok(match options.choice("fill_mode", default, &known)? {
            "constant" => Self::Constant,
            "wrap" => Self::Wrap,
            "nearest" => Self::Nearest,
            _ => Self::Reflect,
        })
    }

    /// Coordinates along an axis of `length` pixels, brought into the image.
    fn map(self, at: &Tensor, length: i64) -> Result<Tensor> {
        let last = length - 1;
        let mapped = match self {
            Self::Constant => return Ok(at.shallow_clone()),
            Self::Nearest => at.shallow_clone(),
            _ if last < 1 => at.f_zeros_like()?,
            Self::Reflect => {
                let twice = 2 * length;
                let turns = |x: &Tensor| x.f_div_scalar(twice)?.f_trunc()?.f_mul_scalar(twice);
                let below = turns(&at.f_neg()?)?.f_add(at)?;
                let near = below.f_neg()?.f_sub_scalar(1)?;
                let below = below
                    .f_add_scalar(twice)?
                    .f_where_self(&below.f_lt(-length)?, &near)?;
                let above = at.f_sub(&turns(at)?)?;
                let far = above.f_neg()?.f_add_scalar(twice)?.f_sub_scalar(1)?;
                let above = far.f_where_self(&above.f_ge(length)?, &above)?;
                within(at, last, &below, &above)?
            }
            Self::Wrap => {
                let turns = |x: &Tensor| x.f_div_scalar(last)?.f_trunc();
                let below = turns(&at.f_neg()?)?.f_add_scalar(1)?.f_mul_scalar(length)?;
                let above = turns(at)?.f_mul_scalar(length)?;
                within(at, last, &at.f_add(&below)?, &at.f_sub(&above)?)?
            }
        };
        Ok(mapped.f_clamp(0, last)?)
    }
}

/// `at` where it is in `0..=last`, else `below` or `above`.
fn within(at: &Tensor, last: i64, below: &Tensor, above: &Tensor) -> Result<Tensor> {
    let most = above.f_where_self(&at.f_gt(last)?, at)?;
    Ok(below.f_where_self(&at.f_lt(0)?, &most)?)
}

/// How images are transformed.
#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) bilinear: bool,
    pub(crate) fill: Fill,
    /// What stands for pixels outside under [`Fill::Constant`].
    pub(crate) value: f64,
}

/// Reads option `interpolation`: whether it is bilinear, or else nearest.
///
/// # Errors
/// It is neither.
pub(crate) fn bilinear(options: &Options<'_>) -> Result<bool> {
    let found = options.choice("interpolation", "bilinear", &["bilinear", "nearest"])?;
    Ok(found == "bilinear")
}

/// Of the images that are warped together: what they need meanwhile stays in the cache.
const PIXELS_AT_A_TIME: i64 = 1 << 16;

impl Warp {
    /// Reads options `interpolation`, `fill_mode` and `fill_value`.
    ///
    /// # Errors
    /// One of them has a value that Keras does not take.
    pub(super) fn read(options: &Options<'_>) -> Result<Self> {
        Ok(Self {
            bilinear: bilinear(options)?,
            fill: Fill::read(options, "reflect")?,
            value: options.f64("fill_value", 0.0)?,
        })
    }

    /// The images seen through `transforms`, `[batch, 8]` in float32: the pixel of a result in
    /// column x and row y is that of the image at
    ///
    /// ```text
    /// ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k)    k = c0 x + c1 y + 1
    /// ```
    ///
    /// The gradient is TensorFlow's, which is not that of the sums: the result's gradient seen
    /// through the inverse transform, with nothing outside under [`Fill::Constant`].
    pub(crate) fn apply(&self, images: &Tensor, transforms: &Tensor) -> Result<Tensor> {
        let (batch, height, width, _) = images.size4()?;
        let some = (PIXELS_AT_A_TIME / (height * width).max(1)).max(1);
        let parts = images.f_split(some, 0)?.into_iter();
        let transforms = transforms.f_expand([batch, 8], false)?.f_split(some, 0)?;
        let parts = parts.zip(&transforms);
        let parts = parts.map(|(images, transforms)| self.warped(&images, transforms));
        Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
    }

    fn warped(&self, images: &Tensor, transforms: &Tensor) -> Result<Tensor> {
        let transforms = transforms.f_to_device(images.device())?;
        let taps = self.taps(images, &transforms)?;
        let warped = sample(&images.f_detach()?, &taps, self.value)?;
        if !images.requires_grad() {
            return Ok(warped);
        }
        let path = scatter(images, &self.taps(images, &inverse(&transforms)?)?)?;
        Ok(warped.f_add(&path.f_sub(&path.f_detach()?)?)?)
    }

    fn taps(&self, images: &Tensor, transforms: &Tensor) -> Result<Vec<Tap>> {
        let (_, height, width, _) = images.size4()?;
        let (x, y) = grid(images, Kind::Float)?;
        let entry = |at| transforms.f_select(1, at)?.f_view([-1, 1, 1]);
        let linear = |first| {
            let sum = entry(first)?.f_mul(&x)?;
            sum.f_add(&entry(first + 1)?.f_mul(&y)?)
        };
        let k = linear(6)?.f_add_scalar(1.0)?;
        // Only what is constant outside is seen in perspective.
        let finite = k.f_ne(0.0)?;
        let coordinate = |first, length| {
            let at = linear(first)?.f_add(&entry(first + 2)?)?.f_div(&k)?;
            // Far outside is as far as two pixels, and fits integers.
            Ok::<_, crate::error::Error>(self.fill.map(&at, length)?.f_clamp(-2, length + 1)?)
        };
        let steps = |first, length| {
            let at = coordinate(first, length)?;
            let steps = if self.bilinear {
                Step::around(&at)?
            } else {
                Step::nearest(&half_away(&at)?)?
            };
            let steps = steps.into_iter().map(|step| match self.fill {
                Fill::Constant => step.or_none(length)?.only(&finite),
                _ => step.clamped(length),
            });
            steps.collect::<Result<Vec<_>>>()
        };
        Tap::grid(images, steps(3, height)?, &steps(0, width)?)
    }
}

/// C's `round`: halves go away from zero.
fn half_away(x: &Tensor) -> Result<Tensor> {
    let whole = x.f_trunc()?;
    let rest = x.f_sub(&whole)?;
    let step = rest.f_abs()?.f_ge(0.5)?.f_to_kind(Kind::Float)?;
    Ok(whole.f_add(&step.f_mul(&x.f_sign()?)?)?)
}

/// The inverse transforms.
fn inverse(transforms: &Tensor) -> Result<Tensor> {
    let rows = transforms.size().first().copied().unwrap_or(0);
    let one = Tensor::f_ones([rows, 1], (Kind::Float, transforms.device()))?;
    let matrices = Tensor::f_cat(&[transforms, &one], 1)?.f_view([rows, 3, 3])?;
    let inverse = Tensor::f_linalg_inv(&matrices)?.f_reshape([rows, 9])?;
    let inverse = inverse.f_div(&inverse.f_narrow(1, 8, 1)?)?;
    Ok(inverse.f_narrow(1, 0, 8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(fill: Fill, at: &[f32], length: i64) -> Vec<f32> {
        let at = Tensor::from_slice(at);
        Vec::try_from(&fill.map(&at, length).unwrap()).unwrap()
    }

    #[test]
    fn what_lies_outside_is_mapped_inside() {
        let at = [-5.0, -4.0, -1.0, 0.0, 3.0, 4.0, 5.0, 8.0];
        let reflected = [3.0, 3.0, 0.0, 0.0, 3.0, 3.0, 2.0, 0.0];
        assert_eq!(mapped(Fill::Reflect, &at, 4), reflected);
        let nearest = [0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0];
        assert_eq!(mapped(Fill::Nearest, &at, 4), nearest);
        assert_eq!(mapped(Fill::Constant, &at, 4), at);
        assert_eq!(mapped(Fill::Wrap, &[-1.0, 4.0, 5.0], 4), [3.0, 0.0, 1.0]);
        for fill in [Fill::Reflect, Fill::Wrap, Fill::Nearest] {
            assert_eq!(mapped(fill, &[-3.0, 0.0, 2.5], 1), [0.0, 0.0, 0.0]);
        }
    }

    #[test]
    fn halves_go_away_from_zero_and_what_is_just_below_does_not() {
        let x = Tensor::from_slice(&[0.5_f32, -0.5, 1.5, 0.5_f32.next_down(), -2.4]);
        let rounded = Vec::<f32>::try_from(&half_away(&x).unwrap()).unwrap();
        assert_eq!(rounded, [1.0, -1.0, 2.0, 0.0, -2.0]);
    }

    #[test]
    fn a_shift_moves_pixels_and_fills_what_is_left() {
        let images = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([1, 1, 4, 1]);
        let transforms = Tensor::from_slice(&[1.0_f32, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        for bilinear in [false, true] {
            let warp = Warp {
                bilinear,
                fill: Fill::Constant,
                value: 9.0,
            };
            let warped = warp.apply(&images, &transforms.view([1, 8])).unwrap();
            let warped = Vec::<f32>::try_from(&warped.flatten(0, -1)).unwrap();
            assert_eq!(warped, [2.0, 3.0, 4.0, 9.0]);
        }
    }
}
