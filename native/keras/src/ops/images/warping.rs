//! Images seen through affine and perspective transforms, and through noise.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::noise::stateless_normal;
use super::{on_channels_last, on_images, require_images};
use crate::arguments::Args;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::layers::preprocessing::images::elastic::Displacement;
use crate::layers::preprocessing::images::filter::blurred;
use crate::layers::preprocessing::images::perspective::homography;
use crate::layers::preprocessing::images::warp::{Fill, Warp, bilinear};
use crate::ops::operand::{Checked, checked, device, operands, required};
use crate::ops::single;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::value::Value;

/// By `transform`, `[8]` or `[batch, 8]`.
pub(super) fn affine(scope: &mut Scope<'_>) -> Result<Built> {
    let warp = Warp {
        bilinear: bilinear(scope.options)?,
        fill: Fill::read(scope.options, "constant")?,
        value: scope.options.f64("fill_value", 0.0)?,
    };
    let layout = Layout::read(scope.options)?;
    Ok(single(
        move |args| {
            require(args, 1, "transform", &[8])?;
            images(args, layout)
        },
        move |args| warped(args, layout, &warp, numbers(args, 1, "transform", &[8])?),
    ))
}

/// By four points and what becomes of them, `[4, 2]` or `[batch, 4, 2]`.
pub(super) fn perspective(scope: &mut Scope<'_>) -> Result<Built> {
    let warp = Warp {
        bilinear: bilinear(scope.options)?,
        fill: Fill::Constant,
        value: scope.options.f64("fill_value", 0.0)?,
    };
    let layout = Layout::read(scope.options)?;
    Ok(single(
        move |args| {
            require(args, 1, "start_points", &[4, 2])?;
            require(args, 2, "end_points", &[4, 2])?;
            images(args, layout)
        },
        move |args| {
            let start = numbers(args, 1, "start_points", &[4, 2])?;
            let end = numbers(args, 2, "end_points", &[4, 2])?;
            warped(args, layout, &warp, homography(&end, &start)?)
        },
    ))
}

/// Pixels moved along a diagonal by smooth noise: Keras draws that of both directions from one seed.
pub(super) fn elastic(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let Some(seed) = options.value("seed").and_then(Json::as_i64) else {
        let seed = options.value("seed").unwrap_or(&Json::Null);
        let supported = "an integer: other noise is drawn by Keras's own generator";
        return Err(options.unsupported("seed", seed, supported));
    };
    let alpha = options.number("alpha", 20.0)?;
    let sigma = options.number("sigma", 5.0)?;
    let displacement = Displacement {
        bilinear: bilinear(options)?,
        fill: Fill::read(options, "reflect")?,
        value: options.f64("fill_value", 0.0)?,
    };
    on_images(
        scope,
        |x, layout| {
            x.require_float()?;
            if x.dtype == DType::Tensor(Kind::Double) {
                return Err("takes float32 or half precision, got float64".to_owned());
            }
            require_images(layout, x).map(|_| x.dims.clone())
        },
        move |images| {
            let (rows, height, width, _) = images.size4()?;
            let shape = [rows, height, width, 1];
            let count = usize::try_from(shape.iter().product::<i64>()).unwrap_or(0);
            let noise = Tensor::f_from_slice(&stateless_normal(seed, count))?.f_view(shape)?;
            // In the precision of the images, as all that follows.
            let noise = noise
                .f_to_device(images.device())?
                .f_to_kind(images.kind())?;
            let sigmas = Tensor::f_full([2], sigma, (Kind::Float, images.device()))?;
            #[expect(clippy::cast_possible_truncation, reason = "deviations are small")]
            let length = (6 * sigma as i64) | 1;
            let noise = blurred(&noise.f_mul_scalar(sigma)?, [length, length], &sigmas)?;
            let moves = noise.f_squeeze_dim(-1)?.f_mul_scalar(alpha)?;
            displacement.apply(images, &moves)
        },
    )
}

fn images(args: &Args<Spec>, layout: Layout) -> SpecResult {
    let [x] = operands(args, ["images"])?;
    let x = x.spec()?;
    require_images(layout, &x).map(|_| x)
}

/// Demands an argument whose axes are `last`, or a batch of such.
fn require(args: &Args<Spec>, position: usize, name: &str, last: &[i64]) -> Checked<()> {
    let dims = required(args, position, name)?.dims();
    let own = dims.len().checked_sub(last.len());
    let fits = own.is_some_and(|own| {
        let mut pairs = dims[own..].iter().zip(last);
        own <= 1 && pairs.all(|(dim, &size)| dim.is_none_or(|dim| dim == size))
    });
    if fits {
        return Ok(());
    }
    Err(format!(
        "takes a {name} of {last:?} or a batch of them, got {dims:?}"
    ))
}

/// The argument in float32 as a batch, of which TensorFlow gives no gradient.
fn numbers(args: &Args<Value>, position: usize, name: &str, last: &[i64]) -> Result<Tensor> {
    let operand = checked(required(args, position, name))?;
    let numbers = operand.tensor(Kind::Float, device(args))?.f_detach()?;
    Ok(numbers.f_view([&[-1], last].concat().as_slice())?)
}

fn warped(args: &Args<Value>, layout: Layout, warp: &Warp, transforms: Tensor) -> Result<Tensor> {
    let [x] = checked(operands(args, ["images"]))?;
    let x = x.tensor(checked(x.kind())?, device(args))?;
    on_channels_last(layout, &x, |x| warp.apply(x, &transforms))
}
