//! How pixels of another grid are found, one axis at a time: pixels are squares whose centres lie
//! at halves, and each method is a matrix of weights (TensorFlow's `resize_bicubic_op.cc`,
//! `scale_and_translate_op.cc`, `resize_area_op.cc`); its rounding in float32 is kept.

use crate::config::Options;
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

    /// The weights `[to, from]` of `from` pixels in each of `to`. With `antialias` a method that
    /// looks at few pixels looks at as many more as there are old ones for a new one.
    pub(super) fn weights(self, antialias: bool, from: i64, to: i64) -> Vec<Vec<(i64, f32)>> {
        let row = |at| match (self, antialias) {
            (Self::Nearest, _) => nearest(from, to, at),
            (Self::Area, _) => area(from, to, at),
            (Self::Bilinear, false) => bilinear(from, to, at),
            (Self::Bicubic, false) => bicubic(from, to, at),
            (Self::Bilinear, true) => sampled(triangle, 1.0, true, [from, to, at]),
            (Self::Bicubic, true) => sampled(cubic, 2.0, true, [from, to, at]),
            (Self::Lanczos(lobes), _) => {
                let lobes = f32::from(lobes);
                sampled(|x| lanczos(lobes, x), lobes, antialias, [from, to, at])
            }
        };
        (0..to).map(row).collect()
    }
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
    let weights = [
        (first - 1, cubic(share + 1.0)),
        (first, cubic(share)),
        (first + 1, cubic(1.0 - share)),
        (first + 2, cubic(2.0 - share)),
    ];
    normalized(
        weights
            .into_iter()
            .filter(|(place, _)| (0..from).contains(place)),
    )
}

/// Pixels weighted by `kernel`, which is 0 beyond `radius`.
fn sampled(
    kernel: impl Fn(f32) -> f32,
    radius: f32,
    antialias: bool,
    [from, to, at]: [i64; 3],
) -> Vec<(i64, f32)> {
    let step = 1.0 / scale(to, from);
    let width = if antialias { step.max(1.0) } else { 1.0 };
    let centre = (at as f32 + 0.5) * step;
    let start = ceil(centre - radius * width - 0.5).clamp(0, from - 1);
    let end = floor(centre + radius * width - 0.5).clamp(0, from - 1);
    let narrow = 1.0 / width;
    normalized((start..=end).map(|place| (place, kernel((place as f32 + 0.5 - centre) * narrow))))
}

fn triangle(x: f32) -> f32 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f32) -> f32 {
    match x.abs() {
        x if x >= 2.0 => 0.0,
        x if x >= 1.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        x => (1.5 * x - 2.5) * x * x + 1.0,
    }
}

fn lanczos(lobes: f32, x: f32) -> f32 {
    use std::f32::consts::PI;
    match x.abs() {
        x if x > lobes => 0.0,
        x if x <= 1e-3 => 1.0,
        x => lobes * (PI * x).sin() * (PI * x / lobes).sin() / (PI * PI * x * x),
    }
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
pub(super) mod tests {
    use super::*;

    pub(in crate::resize) const ALL: [Interpolation; 6] = [
        Interpolation::Nearest,
        Interpolation::Bilinear,
        Interpolation::Bicubic,
        Interpolation::Lanczos(3),
        Interpolation::Lanczos(5),
        Interpolation::Area,
    ];

    fn sizes() -> impl Iterator<Item = (bool, i64, i64)> {
        let sizes = [(1, 3), (5, 10), (7, 21), (4, 6), (9, 4), (300, 900)];
        let both = [false, true].into_iter();
        both.flat_map(move |antialias| sizes.map(|(from, to)| (antialias, from, to)))
    }

    #[test]
    fn weights_sum_to_one_and_lie_in_the_image() {
        for interpolation in ALL {
            for (antialias, from, to) in sizes() {
                for row in interpolation.weights(antialias, from, to) {
                    let sum: f32 = row.iter().map(|(_, weight)| weight).sum();
                    assert!(
                        (sum - 1.0).abs() < 1e-3,
                        "{interpolation:?} {antialias} {from} {to} {sum}"
                    );
                    assert!(row.iter().all(|(place, _)| (0..from).contains(place)));
                }
            }
        }
    }
}
