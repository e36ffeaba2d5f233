//! Images in other sizes, as `tf.image.resize` makes them: pixels are squares whose centres lie at
//! halves, nothing is smoothed before. Each method is a matrix of weights for either axis
//! (TensorFlow's `resize_bicubic_op.cc`, `scale_and_translate_op.cc`, `resize_area_op.cc`); its
//! rounding in float32 is kept.

use tch::{Kind, Tensor};

use crate::config::Options;
use crate::dtype::is_float;
use crate::error::Result;

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interpolation {
    Nearest,
    Bilinear,
    /// Keys' cubic with a = -0.5.
    Bicubic,
    /// Lanczos' windowed sinc with this many lobes.
    Lanczos(u8),
    /// The mean over the square that a new pixel is.
    Area,
}

impl Interpolation {
    /// Reads option `interpolation`.
    ///
    /// # Errors
    /// Keras has no such method.
    pub(crate) fn read(options: &Options<'_>, default: &'static str) -> Result<Self> {
        let known = [
            "nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area",
        ];
        Ok(match options.choice("interpolation", default, &known)? {
            "nearest" => Self::Nearest,
            "bilinear" => Self::Bilinear,
            "bicubic" => Self::Bicubic,
            "lanczos3" => Self::Lanczos(3),
            "lanczos5" => Self::Lanczos(5),
            _ => Self::Area,
        })
    }

    /// The weights `[to, from]` of `from` pixels in each of `to`.
    fn weights(self, from: i64, to: i64) -> Vec<Vec<(i64, f32)>> {
        (0..to)
            .map(|at| match self {
                Self::Nearest => nearest(from, to, at),
                Self::Bilinear => bilinear(from, to, at),
                Self::Bicubic => bicubic(from, to, at),
                Self::Lanczos(lobes) => lanczos(f32::from(lobes), from, to, at),
                Self::Area => area(from, to, at),
            })
            .collect()
    }
}

/// Images `[batch, height, width, channels]` in the size `[height, width]`. Everything but the
/// nearest pixel is computed in float32, and rounded if the images are integers.
///
/// # Errors
/// Memory runs out.
pub(crate) fn resize(
    images: &Tensor,
    size: [i64; 2],
    interpolation: Interpolation,
) -> Result<Tensor> {
    let kind = images.f_kind()?;
    let (_, height, width, _) = images.size4()?;
    if interpolation == Interpolation::Nearest {
        let rows = chosen(images, 1, &interpolation.weights(height, size[0]))?;
        return chosen(&rows, 2, &interpolation.weights(width, size[1]));
    }
    let images = images.f_to_kind(Kind::Float)?;
    let resized = if interpolation == Interpolation::Bilinear {
        let second = images.f_permute([0, 3, 1, 2])?;
        let resized = second.f_upsample_bilinear2d(size, false, None, None)?;
        resized.f_permute([0, 2, 3, 1])?
    } else {
        let rows = mixed(&images, 1, &interpolation.weights(height, size[0]))?;
        mixed(&rows, 2, &interpolation.weights(width, size[1]))?
    };
    if is_float(kind) {
        return Ok(resized.f_to_kind(kind)?);
    }
    saturated(&resized.f_round()?, kind)
}

/// Whole numbers as integers of `kind`, those out of its range as its ends.
fn saturated(x: &Tensor, kind: Kind) -> Result<Tensor> {
    let (low, high) = match kind {
        Kind::Uint8 => (0.0, 255.0),
        Kind::Int8 => (-128.0, 127.0),
        Kind::Int16 => (-32_768.0, 32_767.0),
        Kind::Int => (-2_147_483_648.0, 2_147_483_520.0),
        _ => return Ok(x.f_to_kind(kind)?),
    };
    Ok(x.f_clamp(low, high)?.f_to_kind(kind)?)
}

/// The single pixels that `weights` name along `axis`.
fn chosen(x: &Tensor, axis: i64, weights: &[Vec<(i64, f32)>]) -> Result<Tensor> {
    let places: Vec<i64> = weights.iter().flatten().map(|(place, _)| *place).collect();
    let places = Tensor::f_from_slice(&places)?.f_to_device(x.device())?;
    Ok(x.f_index_select(axis, &places)?)
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

/// Old pixels per new one.
fn scale(from: i64, to: i64) -> f32 {
    from as f32 / to as f32
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of images are small")]
fn floor(x: f32) -> i64 {
    x.floor() as i64
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of images are small")]
fn ceil(x: f32) -> i64 {
    x.ceil() as i64
}

fn nearest(from: i64, to: i64, at: i64) -> Vec<(i64, f32)> {
    let place = floor((at as f32 + 0.5) * scale(from, to));
    vec![(place.min(from - 1), 1.0)]
}

fn bilinear(from: i64, to: i64, at: i64) -> Vec<(i64, f32)> {
    let place = (at as f32 + 0.5) * scale(from, to) - 0.5;
    let share = place - place.floor();
    let (before, after) = (floor(place).max(0), ceil(place).min(from - 1));
    vec![(before, 1.0 - share), (after, share)]
}

/// The four pixels around; those outside do not count, and the weights of the others sum to 1.
fn bicubic(from: i64, to: i64, at: i64) -> Vec<(i64, f32)> {
    /// TensorFlow looks the weights up in a table of this many steps.
    const STEPS: f32 = 1024.0;
    let place = (at as f32 + 0.5) * scale(from, to) - 0.5;
    let first = floor(place);
    let share = ((place - place.floor()) * STEPS).round_ties_even() / STEPS;
    let inner = |x: f32| (1.5 * x - 2.5) * x * x + 1.0;
    let outer = |x: f32| ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    let weights = [
        (first - 1, outer(share + 1.0)),
        (first, inner(share)),
        (first + 1, inner(1.0 - share)),
        (first + 2, outer(2.0 - share)),
    ];
    normalized(
        weights
            .into_iter()
            .filter(|(place, _)| (0..from).contains(place)),
    )
}

fn lanczos(lobes: f32, from: i64, to: i64, at: i64) -> Vec<(i64, f32)> {
    use std::f32::consts::PI;
    let centre = (at as f32 + 0.5) * (1.0 / scale(to, from));
    let kernel = |x: f32| match x.abs() {
        x if x > lobes => 0.0,
        x if x <= 1e-3 => 1.0,
        x => lobes * (PI * x).sin() * (PI * x / lobes).sin() / (PI * PI * x * x),
    };
    let start = ceil(centre - lobes - 0.5).clamp(0, from - 1);
    let end = floor(centre + lobes - 0.5).clamp(0, from - 1);
    normalized((start..=end).map(|place| (place, kernel(place as f32 + 0.5 - centre))))
}

fn area(from: i64, to: i64, at: i64) -> Vec<(i64, f32)> {
    let scale = scale(from, to);
    let (start, end) = (at as f32 * scale, (at + 1) as f32 * scale);
    let covered = |place: i64| (place as f32 + 1.0).min(end) - (place as f32).max(start);
    let places = floor(start)..ceil(end);
    places
        .map(|place| (place.min(from - 1), covered(place) / scale))
        .collect()
}

fn normalized(weights: impl Iterator<Item = (i64, f32)>) -> Vec<(i64, f32)> {
    let weights: Vec<(i64, f32)> = weights.collect();
    let sum: f32 = weights.iter().map(|(_, weight)| weight).sum();
    let weights = weights.into_iter();
    weights
        .map(|(place, weight)| (place, weight / sum))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Interpolation; 6] = [
        Interpolation::Nearest,
        Interpolation::Bilinear,
        Interpolation::Bicubic,
        Interpolation::Lanczos(3),
        Interpolation::Lanczos(5),
        Interpolation::Area,
    ];

    #[test]
    fn weights_sum_to_one_and_lie_in_the_image() {
        for interpolation in ALL {
            for (from, to) in [(1, 3), (5, 10), (7, 21), (4, 6), (9, 4), (300, 900)] {
                for row in interpolation.weights(from, to) {
                    let sum: f32 = row.iter().map(|(_, weight)| weight).sum();
                    assert!(
                        (sum - 1.0).abs() < 1e-3,
                        "{interpolation:?} {from} {to} {sum}"
                    );
                    assert!(row.iter().all(|(place, _)| (0..from).contains(place)));
                }
            }
        }
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = Tensor::f_arange(24, (Kind::Float, tch::Device::Cpu)).unwrap();
        let image = image.f_view([1, 4, 3, 2]).unwrap();
        for interpolation in ALL {
            let resized = resize(&image, [4, 3], interpolation).unwrap();
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
        let resized = resize(&image, [1, 16], Interpolation::Bicubic).unwrap();
        assert_eq!(resized.f_kind().unwrap(), Kind::Uint8);
        let (low, high) = (resized.f_min().unwrap(), resized.f_max().unwrap());
        assert_eq!((low.int64_value(&[]), high.int64_value(&[])), (0, 255));
    }
}
