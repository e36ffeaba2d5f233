//! `RandomElasticTransform`: pixels moved by smooth noise, of each image its own. In `fit` Keras 3.15
//! replaces all images of a batch by the first one's transform; that is not followed.

use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::filter::blurred;
use super::range::{Range, ValueRange};
use super::sampling::{Step, Tap, grid, sample};
use super::warp::{Fill, bilinear};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::noise::normal;
use crate::scope::Scope;

#[derive(Debug)]
struct Elastic {
    factor: Range,
    scale: Range,
    bilinear: bool,
    fill: Fill,
    fill_value: f64,
    values: ValueRange,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let elastic = Elastic {
        factor: Range::read(options, "factor", [0.0, 1.0], Some(1.0))?,
        scale: Range::read(options, "scale", [0.0, 1.0], Some(1.0))?,
        bilinear: bilinear(options)?,
        fill: Fill::read(options, "reflect")?,
        fill_value: options.f64("fill_value", 0.0)?,
        values: ValueRange::read(options)?,
    };
    in_training(scope, elastic)
}

impl Augmentation for Elastic {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        if self.scale.high == 0.0 || self.factor.high == 0.0 {
            return Ok(images.shallow_clone());
        }
        let (rows, height, width, _) = images.size4()?;
        let happens = self.factor.happens(rng, images)?;
        let scale = self.scale.draw(rng, &[1])?.f_double_value(&[0])?;
        #[expect(clippy::cast_precision_loss, reason = "sizes of images are small")]
        let (least, most) = (height.min(width) as f64, height.max(width) as f64);
        // Of the noise, and of its smoothing; above zero, for what is drawn may be zero.
        let sigma = (0.05 * scale * least).max(f64::from(f32::MIN_POSITIVE));
        #[expect(clippy::cast_possible_truncation, reason = "sizes of images are small")]
        let length = (6 * sigma as i64) | 1;
        let sigmas = Tensor::f_full([2], sigma, (Kind::Float, tch::Device::Cpu))?;
        let noise = normal(rng, &[rows, height, width, 1])?.f_mul_scalar(sigma)?;
        let noise = blurred(&noise, [length, length], &sigmas)?.f_squeeze_dim(-1)?;
        // Keras draws both directions from one seed: pixels move along a diagonal.
        let moves = noise.f_mul_scalar(0.1 * scale * most)?;
        let moves = moves.f_to_device(images.device())?;
        let moved = self.displacement().apply(images, &moves)?;
        self.values.clip(&moved.f_where_self(&happens, images)?)
    }
}

impl Elastic {
    fn displacement(&self) -> Displacement {
        Displacement {
            bilinear: self.bilinear,
            fill: self.fill,
            value: self.fill_value,
        }
    }
}

/// How pixels are read that are moved each by itself.
#[derive(Debug)]
pub(crate) struct Displacement {
    pub(crate) bilinear: bool,
    pub(crate) fill: Fill,
    /// What stands for pixels outside under [`Fill::Constant`].
    pub(crate) value: f64,
}

impl Displacement {
    /// The images with each pixel read as far to the right and down as `moves`
    /// `[batch, height, width]` say.
    pub(crate) fn apply(&self, images: &Tensor, moves: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = images.size4()?;
        let (x, y) = grid(images, Kind::Float)?;
        let columns = self.steps(&x.f_add(moves)?, width)?;
        let rows = self.steps(&y.f_add(moves)?, height)?;
        sample(images, &Tap::grid(images, rows, &columns)?, self.value)
    }

    fn steps(&self, coordinates: &Tensor, length: i64) -> Result<Vec<Step>> {
        let steps = if self.bilinear {
            Step::around(coordinates)?
        } else {
            Step::nearest(&coordinates.f_round()?)?
        };
        let steps = steps.into_iter().map(|step| match self.fill {
            Fill::Constant => step.or_none(length),
            fill => step.moved(|at| folded(fill, at, length)),
        });
        steps.collect()
    }
}

/// Rows or columns brought into an axis of `length`, as Keras's `map_coordinates` does it.
pub(crate) fn folded(fill: Fill, at: &Tensor, length: i64) -> Result<Tensor> {
    Ok(match fill {
        Fill::Constant => at.shallow_clone(),
        Fill::Nearest => at.f_clamp(0, length - 1)?,
        Fill::Wrap => at.f_remainder(length)?,
        Fill::Reflect => {
            let turned = at.f_abs()?.f_remainder(2 * length)?;
            turned.f_minimum(&turned.f_neg()?.f_add_scalar(2 * length - 1)?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::Device;

    fn elastic(bilinear: bool, fill: Fill) -> Elastic {
        Elastic {
            factor: Range {
                low: 1.0,
                high: 1.0,
            },
            scale: Range {
                low: 1.0,
                high: 1.0,
            },
            bilinear,
            fill,
            fill_value: 0.0,
            values: ValueRange::BYTES,
        }
    }

    #[test]
    fn rows_outside_are_folded_as_by_keras() {
        let at = Tensor::from_slice(&[-5_i64, -1, 0, 3, 4, 9]);
        let folded = |fill| {
            let folded = super::folded(fill, &at, 4).unwrap();
            Vec::<i64>::try_from(folded).unwrap()
        };
        assert_eq!(folded(Fill::Reflect), [2, 1, 0, 3, 3, 1]);
        assert_eq!(folded(Fill::Wrap), [3, 3, 0, 3, 0, 1]);
        assert_eq!(folded(Fill::Nearest), [0, 0, 0, 3, 3, 3]);
        assert_eq!(folded(Fill::Constant), [-5, -1, 0, 3, 4, 9]);
    }

    /// What Keras's `ops.image.map_coordinates` gives.
    #[test]
    fn pixels_are_those_of_map_coordinates() {
        let images = (Tensor::arange(12, (Kind::Float, Device::Cpu)) + 1.0).view([1, 3, 4, 1]);
        let at = |at: &[f32]| Tensor::from_slice(at).expand([1, 3, 4], false);
        let y = at(&[-1.25, 0.5, 2.75, 3.5]);
        let x = at(&[0.25, -0.75, 4.25, 1.5]);
        for (fill, nearest, linear) in [
            (
                Fill::Reflect,
                [5.0, 2.0, 12.0, 7.0],
                [6.25, 3.75, 11.75, 8.5],
            ),
            (Fill::Wrap, [9.0, 4.0, 1.0, 7.0], [8.25, 5.25, 3.25, 4.5]),
            (
                Fill::Nearest,
                [1.0, 1.0, 12.0, 11.0],
                [1.25, 3.0, 12.0, 10.5],
            ),
            (Fill::Constant, [-1.0; 4], [-1.0, 0.0, -1.0, -1.0]),
        ] {
            for (bilinear, expected) in [(false, nearest), (true, linear)] {
                let displacement = elastic(bilinear, fill).displacement();
                let (rows, columns) = (displacement.steps(&y, 3), displacement.steps(&x, 4));
                let taps = Tap::grid(&images, rows.unwrap(), &columns.unwrap()).unwrap();
                let found = sample(&images, &taps, -1.0).unwrap();
                let found = Vec::<f32>::try_from(found.get(0).get(0).flatten(0, -1)).unwrap();
                assert_eq!(found, expected, "{fill:?} {bilinear}");
            }
        }
    }

    #[test]
    fn pixels_move_along_a_diagonal_and_repeat_with_the_seed() {
        // What is constant along the diagonals of the moves stays, apart from the edges.
        let options = (Kind::Float, Device::Cpu);
        let x = Tensor::arange(32, options).view([1, 1, 32, 1]);
        let y = Tensor::arange(32, options).view([1, 32, 1, 1]);
        let images = (&x - &y + 100.0).repeat([3, 1, 1, 1]);
        let apply = |images: &Tensor| {
            let rng = &mut Rng::seed_from_u64(2);
            elastic(true, Fill::Nearest).apply(images, rng).unwrap()
        };
        let middle = |x: &Tensor| x.narrow(1, 12, 8).narrow(2, 12, 8);
        assert!(middle(&apply(&images)).allclose(&middle(&images), 1e-4, 1e-4, false));
        let images = (&x + &y).repeat([3, 1, 1, 1]);
        let moved = apply(&images);
        assert_eq!(moved, apply(&images));
        assert!(!moved.allclose(&images, 1e-2, 1e-2, false));
        assert_ne!(moved.get(0), moved.get(1));
    }
}
