//! Images in other sizes, as `tf.image.resize` makes them, and what Keras does to those of another
//! aspect ratio before.

mod interpolation;

use tch::{Kind, Tensor};

pub(crate) use self::interpolation::Interpolation;
use crate::config::Options;
use crate::dtype::is_float;
use crate::error::Result;
use crate::saturation::{Limits, saturated};

/// Keras's `ops.image.resize`.
#[derive(Debug)]
pub(crate) struct Resize {
    /// Height and width of the results.
    pub(crate) size: [i64; 2],
    pub(crate) interpolation: Interpolation,
    /// Whether images are smoothed before they shrink.
    pub(crate) antialias: bool,
    pub(crate) aspect: Aspect,
}

/// What becomes of images whose aspect ratio is not that of the results.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aspect {
    Stretched,
    /// Cut to the largest rectangle in the middle that has the ratio.
    Cropped,
    /// Set in the smallest rectangle that has the ratio, filled with this value.
    Padded(f64),
}

impl Resize {
    /// To `size`, by the options of Keras's operation and layer.
    ///
    /// # Errors
    /// An option has a value that Keras does not take.
    pub(crate) fn read(options: &Options<'_>, size: [i64; 2]) -> Result<Self> {
        options.choice("fill_mode", "constant", &["constant"])?;
        let fill = options.f64("fill_value", 0.0)?;
        let crop = options.bool("crop_to_aspect_ratio", false)?;
        let aspect = match (crop, options.bool("pad_to_aspect_ratio", false)?) {
            (false, false) => Aspect::Stretched,
            (true, false) => Aspect::Cropped,
            (false, true) => Aspect::Padded(fill),
            (true, true) => {
                return Err(options.invalid(
                    "only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be true",
                ));
            }
        };
        Ok(Self {
            size,
            interpolation: Interpolation::read(options, "bilinear")?,
            antialias: options.bool("antialias", false)?,
            aspect,
        })
    }

    /// To `size`, each axis by itself.
    pub(crate) fn stretched(size: [i64; 2], interpolation: Interpolation) -> Self {
        Self {
            size,
            interpolation,
            antialias: false,
            aspect: Aspect::Stretched,
        }
    }

    /// The images `[batch, height, width, channels]` resized. Everything but the nearest pixel is
    /// computed in float32, and rounded if the images are integers.
    ///
    /// # Errors
    /// Memory runs out.
    pub(crate) fn resized(&self, images: &Tensor) -> Result<Tensor> {
        match self.aspect {
            Aspect::Stretched => self.stretch(images),
            Aspect::Cropped => {
                let (_, height, width, _) = images.size4()?;
                let [fit_height, fit_width] = self.fitting(height, width);
                let (rows, columns) = (height.min(fit_height).max(1), width.min(fit_width).max(1));
                let cut = images.f_narrow(1, (height - rows) / 2, rows)?;
                self.stretch(&cut.f_narrow(2, (width - columns) / 2, columns)?)
            }
            Aspect::Padded(fill) => {
                let (_, height, width, _) = images.size4()?;
                let [fit_height, fit_width] = self.fitting(height, width);
                // As many on both sides, so that one row or column may be missing.
                let above = (fit_height - height).max(0) / 2;
                let before = (fit_width - width).max(0) / 2;
                let amounts = [0, 0, before, before, above, above];
                self.stretch(&images.f_pad(amounts, "constant", fill)?)
            }
        }
    }

    /// The height that fits a width in the ratio of the results and the width that fits a height,
    /// in Keras's float32.
    #[expect(clippy::cast_possible_truncation, reason = "sizes of images are small")]
    fn fitting(&self, height: i64, width: i64) -> [i64; 2] {
        let [to_height, to_width] = self.size;
        let ratio = |product: i64, divisor: i64| (product as f32 / divisor as f32) as i64;
        [
            ratio(width * to_height, to_width),
            ratio(height * to_width, to_height),
        ]
    }

    fn stretch(&self, images: &Tensor) -> Result<Tensor> {
        let kind = images.f_kind()?;
        let (_, height, width, _) = images.size4()?;
        let [rows, columns] = self.size;
        let weights = |from, to| self.interpolation.weights(self.antialias, from, to);
        if self.interpolation == Interpolation::Nearest {
            let images = chosen(images, 1, &weights(height, rows))?;
            return chosen(&images, 2, &weights(width, columns));
        }
        let images = images.f_to_kind(Kind::Float)?;
        let bilinear = self.interpolation == Interpolation::Bilinear && !self.antialias;
        let resized = if bilinear && !is_float(kind) {
            let images = between(&images, 2, &weights(width, columns))?;
            between(&images, 1, &weights(height, rows))?
        } else if bilinear {
            let second = images.f_permute([0, 3, 1, 2])?;
            let resized = second.f_upsample_bilinear2d(self.size, false, None, None)?;
            resized.f_permute([0, 2, 3, 1])?
        } else {
            let images = mixed(&images, 1, &weights(height, rows))?;
            mixed(&images, 2, &weights(width, columns))?
        };
        if is_float(kind) {
            saturated(&resized, kind, Limits::of(kind))
        } else {
            saturated(&resized.f_round()?, kind, Limits::of(kind))
        }
    }
}

/// The single pixels that `weights` name along `axis`.
fn chosen(x: &Tensor, axis: i64, weights: &[Vec<(i64, f32)>]) -> Result<Tensor> {
    let places: Vec<i64> = weights.iter().flatten().map(|(place, _)| *place).collect();
    let places = Tensor::f_from_slice(&places)?.f_to_device(x.device())?;
    Ok(x.f_index_select(axis, &places)?)
}

/// What lies between the two pixels along `axis` that `weights` name, in the order of TensorFlow's
/// operations: their rounding decides ties of integers.
fn between(x: &Tensor, axis: i64, weights: &[Vec<(i64, f32)>]) -> Result<Tensor> {
    let side = |at: usize| -> Result<Tensor> {
        let places = weights.iter().filter_map(|pair| pair.get(at));
        let places: Vec<i64> = places.map(|(place, _)| *place).collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(x.device())?;
        Ok(x.f_index_select(axis, &places)?)
    };
    let shares = weights.iter().filter_map(|pair| pair.get(1));
    let shares: Vec<f32> = shares.map(|(_, share)| *share).collect();
    let shape = if axis == 1 {
        [1, -1, 1, 1]
    } else {
        [1, 1, -1, 1]
    };
    let shares = Tensor::f_from_slice(&shares)?.f_view(shape)?;
    let (before, after) = (side(0)?, side(1)?);
    let step = after
        .f_sub(&before)?
        .f_mul(&shares.f_to_device(x.device())?)?;
    Ok(before.f_add(&step)?)
}

/// The weighted sums along `axis`, 1 or 2 of 4.
fn mixed(x: &Tensor, axis: i64, weights: &[Vec<(i64, f32)>]) -> Result<Tensor> {
    let mut shape = x.size();
    let at = usize::try_from(axis).unwrap_or(1);
    let from = shape[at];
    let to = i64::try_from(weights.len()).unwrap_or(0);
    let columns = usize::try_from(from).unwrap_or(0);
    let mut dense = vec![0.0_f32; weights.len() * columns];
    for (row, sparse) in dense.chunks_mut(columns.max(1)).zip(weights) {
        for &(place, weight) in sparse {
            row[usize::try_from(place).unwrap_or(0)] += weight;
        }
    }
    let matrix = Tensor::f_from_slice(&dense)?.f_view([to, from])?;
    let matrix = matrix.f_to_device(x.device())?;
    let outer: i64 = shape[..at].iter().product();
    let inner: i64 = shape[at + 1..].iter().product();
    shape[at] = to;
    let mixed = matrix.f_matmul(&x.f_reshape([outer, from, inner])?)?;
    Ok(mixed.f_reshape(shape)?)
}

#[cfg(test)]
mod tests {
    use super::interpolation::tests::ALL;
    use super::*;

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = Tensor::f_arange(24, (Kind::Float, tch::Device::Cpu)).unwrap();
        let image = image.f_view([1, 4, 3, 2]).unwrap();
        for interpolation in ALL {
            let resized = Resize::stretched([4, 3], interpolation);
            let resized = resized.resized(&image).unwrap();
            assert!(
                resized.f_allclose(&image, 1e-5, 1e-5, false).unwrap(),
                "{interpolation:?}"
            );
        }
    }

    #[test]
    fn integers_are_rounded_and_kept_in_range() {
        let image = Tensor::f_from_slice(&[0_u8, 255, 255, 0]).unwrap();
        let image = image.f_view([1, 1, 4, 1]).unwrap();
        let resized = Resize::stretched([1, 16], Interpolation::Bicubic);
        let resized = resized.resized(&image).unwrap();
        assert_eq!(resized.f_kind().unwrap(), Kind::Uint8);
        let (low, high) = (resized.f_min().unwrap(), resized.f_max().unwrap());
        assert_eq!((low.int64_value(&[]), high.int64_value(&[])), (0, 255));
    }

    #[test]
    fn aspect_ratios_are_kept_by_cropping_or_padding() {
        let image = Tensor::f_arange(12, (Kind::Float, tch::Device::Cpu)).unwrap();
        let image = image.f_view([1, 2, 6, 1]).unwrap();
        let resized = |aspect| {
            let resize = Resize {
                aspect,
                ..Resize::stretched([2, 2], Interpolation::Nearest)
            };
            let flat = resize.resized(&image).unwrap().f_flatten(0, -1).unwrap();
            Vec::<f32>::try_from(&flat).unwrap()
        };
        assert_eq!(resized(Aspect::Cropped), [2.0, 3.0, 8.0, 9.0]);
        assert_eq!(resized(Aspect::Padded(-1.0)), [-1.0, -1.0, -1.0, -1.0]);
        assert_eq!(resized(Aspect::Stretched), [1.0, 4.0, 7.0, 10.0]);
    }
}
