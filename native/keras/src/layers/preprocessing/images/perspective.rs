//! `RandomPerspective`: the corners of images moved, each by itself.

use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, batch};
use super::warp::{Fill, Warp, bilinear};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

#[derive(Debug)]
struct Perspective {
    factor: Range,
    /// How far corners move, as a share of their coordinates.
    moves: Range,
    warp: Warp,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let scale = options.number("scale", 1.0)?;
    if !(0.0..=1.0).contains(&scale) {
        return Err(options.invalid(format!("scale = {scale} must be in 0..=1")));
    }
    let perspective = Perspective {
        factor: Range::read(options, "factor", [0.0, 1.0], Some(1.0))?,
        moves: Range {
            low: -0.5 * scale,
            high: 0.5 * scale,
        },
        warp: Warp {
            bilinear: bilinear(options)?,
            fill: Fill::Constant,
            value: options.f64("fill_value", 0.0)?,
        },
    };
    in_training(scope, perspective)
}

impl Augmentation for Perspective {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (rows, height, width, _) = images.size4()?;
        let happens = self.factor.happens(rng, images)?;
        #[expect(clippy::cast_precision_loss, reason = "sizes of images are small")]
        let (x, y) = ((width - 1) as f32, (height - 1) as f32);
        let corners = Tensor::f_from_slice(&[0.0, 0.0, x, 0.0, 0.0, y, x, y])?;
        let corners = corners.f_view([1, 4, 2])?.f_expand([rows, 4, 2], false)?;
        let moves = self.moves.draw(rng, &[rows, 4, 2])?;
        let moved = corners.f_add(&corners.f_mul(&moves)?)?;
        let warped = self.warp.apply(images, &homography(&moved, &corners)?)?;
        Ok(warped.f_where_self(&happens, images)?)
    }
}

/// The transforms, as [`Warp::apply`] takes them, that lead from four points to four others, both
/// `[batch, 4, 2]`.
pub(crate) fn homography(from: &Tensor, to: &Tensor) -> Result<Tensor> {
    let rows = batch(from);
    let one = Tensor::f_ones([rows, 4], (Kind::Float, from.device()))?;
    let zero = one.f_zeros_like()?;
    let (x, y) = (from.f_select(2, 0)?, from.f_select(2, 1)?);
    // to = (a0 x + a1 y + a2) / (c0 x + c1 y + 1), and so for b.
    let equations = |to: &Tensor, for_x: bool| {
        let minus = to.f_neg()?;
        let (by_x, by_y) = (minus.f_mul(&x)?, minus.f_mul(&y)?);
        if for_x {
            Tensor::f_stack(&[&x, &y, &one, &zero, &zero, &zero, &by_x, &by_y], 2)
        } else {
            Tensor::f_stack(&[&zero, &zero, &zero, &x, &y, &one, &by_x, &by_y], 2)
        }
    };
    let first = equations(&to.f_select(2, 0)?, true)?;
    let second = equations(&to.f_select(2, 1)?, false)?;
    let equations = Tensor::f_stack(&[first, second], 2)?.f_view([rows, 8, 8])?;
    let solved = Tensor::f_linalg_solve(&equations, &to.f_reshape([rows, 8, 1])?, true)?;
    Ok(solved.f_view([rows, 8])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: [f32; 8] = [0.0, 0.0, 2.5, 0.0, 0.0, 1.5, 3.5, 2.25];
    const TO: [f32; 8] = [0.0, 0.0, 3.0, 0.0, 0.0, 2.0, 3.0, 2.0];

    fn transform() -> Tensor {
        let points = |points: &[f32]| Tensor::from_slice(points).view([1, 4, 2]);
        homography(&points(&FROM), &points(&TO)).unwrap()
    }

    fn assert_close(found: &Tensor, expected: &[f32]) {
        let found = found.flatten(0, -1);
        let expected = Tensor::from_slice(expected);
        assert!(found.allclose(&expected, 1e-5, 1e-5, false), "{found}");
    }

    #[test]
    fn a_homography_leads_each_point_to_its_other() {
        let t = Vec::<f32>::try_from(transform().flatten(0, -1)).unwrap();
        for (from, to) in FROM.chunks(2).zip(TO.chunks(2)) {
            let k = t[6] * from[0] + t[7] * from[1] + 1.0;
            let x = (t[0] * from[0] + t[1] * from[1] + t[2]) / k;
            let y = (t[3] * from[0] + t[4] * from[1] + t[5]) / k;
            assert!((x - to[0]).abs() < 1e-4 && (y - to[1]).abs() < 1e-4);
        }
    }

    /// What Keras's `ops.image.perspective_transform` gives for these points, and its gradient.
    #[test]
    fn images_and_gradients_are_those_of_tensorflow() {
        let numbers = Tensor::arange(12, (Kind::Float, tch::Device::Cpu)) + 1.0;
        let numbers = numbers.view([1, 3, 4, 1]);
        for (bilinear, expected, gradient) in [
            (
                true,
                [
                    1.0,
                    2.425,
                    3.533_333_5,
                    1.900_001,
                    6.735_849_4,
                    7.348_557_5,
                    7.841_648_6,
                    7.823_488,
                    4.081_966_4,
                    7.268_171_3,
                    10.289_099,
                    11.311_388,
                ],
                [
                    1.0,
                    1.673_077,
                    2.489_361_5,
                    3.5,
                    3.647_059,
                    4.695_652_5,
                    6.0,
                    7.666_667,
                    7.0,
                    8.625,
                    10.714_286,
                    4.499_994_3,
                ],
            ),
            (
                false,
                [
                    1.0, 2.0, 4.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0,
                ],
                [1.0, 2.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 0.0],
            ),
        ] {
            let warp = Warp {
                bilinear,
                fill: Fill::Constant,
                value: -1.0,
            };
            let images = numbers.copy().set_requires_grad(true);
            let warped = warp.apply(&images, &transform()).unwrap();
            assert_close(&warped.detach(), &expected);
            (&warped * &numbers).sum(Kind::Float).backward();
            assert_close(&images.grad(), &gradient);
        }
    }
}
