//! `Resize`, and `ScaleAndTranslate` along any axes.

use serde_json::Value as Json;
use tch::Tensor;

use super::{on_images, require_images};
use crate::arguments::{Args, Tree};
use crate::config::Options;
use crate::error::Result;
use crate::layer::Built;
use crate::ops::axes::{positions, required_integers, signed};
use crate::ops::operand::{Checked, checked, converted, device, operands, required};
use crate::ops::{failed, single};
use crate::resize::Resize;
use crate::scope::Scope;
use crate::spec::Spec;

/// To `size`.
pub(super) fn resize(scope: &mut Scope<'_>) -> Result<Built> {
    let resize = Resize::read(scope.options, scope.options.required_pair("size")?)?;
    let size = resize.size;
    on_images(
        scope,
        move |x, layout| {
            let [rows, columns, _] = require_images(layout, x)?;
            let mut dims = x.dims.clone();
            (dims[rows], dims[columns]) = (Some(size[0]), Some(size[1]));
            Ok(dims)
        },
        move |x| resize.resized(x),
    )
}

/// How much elements count by their distance from a place, and how many distances it reaches.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    Triangle,
    /// Keys' cubic with a = -0.5.
    Cubic,
    Lanczos(f64),
}

impl Kernel {
    fn read(options: &Options<'_>) -> Result<Self> {
        let known = [
            "linear",
            "bilinear",
            "trilinear",
            "cubic",
            "bicubic",
            "tricubic",
            "lanczos3",
            "lanczos5",
        ];
        Ok(match options.choice("method", "linear", &known)? {
            "cubic" | "bicubic" | "tricubic" => Self::Cubic,
            "lanczos3" => Self::Lanczos(3.0),
            "lanczos5" => Self::Lanczos(5.0),
            _ => Self::Triangle,
        })
    }

    /// The weights of distances, which are not negative.
    fn weights(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Triangle => Ok(x.f_neg()?.f_add_scalar(1.0)?.f_relu()?),
            Self::Cubic => {
                let near = x.f_mul_scalar(1.5)?.f_sub_scalar(2.5)?.f_mul(x)?.f_mul(x)?;
                let near = near.f_add_scalar(1.0)?;
                let far = x.f_mul_scalar(-0.5)?.f_add_scalar(2.5)?.f_mul(x)?;
                let far = far.f_sub_scalar(4.0)?.f_mul(x)?.f_add_scalar(2.0)?;
                let weights = far.f_where_self(&x.f_ge(1.0)?, &near)?;
                Ok(weights.f_masked_fill(&x.f_ge(2.0)?, 0.0)?)
            }
            Self::Lanczos(lobes) => {
                use std::f64::consts::PI;
                let angle = x.f_mul_scalar(PI)?;
                let wave = angle.f_sin()?.f_mul(&angle.f_div_scalar(lobes)?.f_sin()?)?;
                let square = x.f_square()?.f_mul_scalar(PI * PI)?;
                let square = square.f_masked_fill(&x.f_eq(0.0)?, 1.0)?;
                let weights = wave.f_mul_scalar(lobes)?.f_div(&square)?;
                let weights = weights.f_masked_fill(&x.f_le(1e-3)?, 1.0)?;
                Ok(weights.f_masked_fill(&x.f_gt(lobes)?, 0.0)?)
            }
        }
    }
}

const NAMES: [&str; 4] = ["images", "output_shape", "scale", "translation"];

/// Each of some axes scaled and moved by numbers of its own, which have gradients.
pub(super) fn scale_and_translate(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = required_integers(options, "spatial_dims")?;
    let kernel = Kernel::read(options)?;
    let antialias = options.bool("antialias", true)?;
    let of_infer = axes.clone();
    Ok(single(
        move |args| {
            let [x] = operands(args, ["images"])?;
            let x = x.spec()?;
            // Keras 3.15 fails to hold integers to their range.
            x.require_float()?;
            let shape = output_shape(args)?;
            if shape.len() != x.rank() {
                return Err(format!("takes an output_shape of {} axes", x.rank()));
            }
            let mut dims = x.dims.clone();
            for at in positions(&of_infer, x.rank())? {
                dims[at] = Some(shape[at].ok_or("takes an output_shape that is known")?);
            }
            Ok(Spec::new(dims, x.dtype))
        },
        move |args| {
            let device = device(args);
            let [x] = checked(operands(args, ["images"]))?;
            let kind = checked(x.kind())?;
            let x = x.tensor(kind, device)?;
            let shape = checked(output_shape(args))?;
            let scale = checked(required(args, 2, NAMES[2]))?;
            let translation = checked(required(args, 3, NAMES[3]))?;
            let numbers = checked(converted(&[scale, translation]))?;
            let scale = scale.tensor(numbers, device)?.f_reshape(-1)?;
            let translation = translation.tensor(numbers, device)?.f_reshape(-1)?;
            let mut y = x.shallow_clone();
            let positions = checked(positions(&axes, x.dim()))?;
            for (number, (&at, dim)) in (0..).zip(positions.iter().zip(signed(&positions))) {
                let to = shape[at].ok_or_else(|| failed("takes an output_shape that is known"))?;
                let weights = weights(
                    kernel,
                    antialias,
                    [x.size()[at], to],
                    &scale.f_select(0, number)?,
                    &translation.f_select(0, number)?,
                )?;
                let moved = y.f_movedim_int(dim, -1)?;
                y = moved
                    .f_matmul(&weights.f_to_kind(kind)?)?
                    .f_movedim_int(-1, dim)?;
            }
            Ok(y)
        },
    ))
}

/// The weights `[from, to]` of old elements in new ones.
fn weights(
    kernel: Kernel,
    antialias: bool,
    [from, to]: [i64; 2],
    scale: &Tensor,
    translation: &Tensor,
) -> Result<Tensor> {
    /// 1000 times the epsilon of float32: sums of weights below it are none.
    const NOTHING: f64 = 1000.0 * f32::EPSILON as f64;
    let options = (scale.kind(), scale.device());
    let inverse = scale.f_reciprocal()?;
    let places = Tensor::f_arange(to, options)?
        .f_add_scalar(0.5)?
        .f_mul(&inverse)?;
    let places = places
        .f_sub(&translation.f_mul(&inverse)?)?
        .f_sub_scalar(0.5)?;
    let elements = Tensor::f_arange(from, options)?.f_unsqueeze(1)?;
    let mut distances = places.f_unsqueeze(0)?.f_sub(&elements)?.f_abs()?;
    if antialias {
        distances = distances.f_div(&inverse.f_clamp_min(1.0)?)?;
    }
    let weights = kernel.weights(&distances)?;
    let sums = weights.f_sum_dim_intlist(0_i64, true, weights.kind())?;
    let divisor = sums.f_masked_fill(&sums.f_eq(0.0)?, 1.0)?;
    let weights = weights
        .f_div(&divisor)?
        .f_masked_fill(&sums.f_abs()?.f_le(NOTHING)?, 0.0)?;
    #[expect(clippy::cast_precision_loss, reason = "lengths of axes are small")]
    let end = from as f64 - 0.5;
    let outside = places.f_lt(-0.5)?.f_logical_or(&places.f_gt(end)?)?;
    Ok(weights.f_masked_fill(&outside.f_unsqueeze(0)?, 0.0)?)
}

/// The argument `output_shape`; what is unknown in it is null.
fn output_shape<T>(args: &Args<T>) -> Checked<Vec<Option<i64>>> {
    let wrong = || "takes a list of integers as output_shape".to_owned();
    let size = |value: &Json| match value {
        Json::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or_else(wrong),
    };
    match args.get(1, NAMES[1]) {
        Some(Tree::Constant(Json::Array(items))) => items.iter().map(size).collect(),
        Some(Tree::List(items)) => {
            let items = items.iter().map(|item| item.constant().ok_or_else(wrong));
            items.map(|item| item.and_then(size)).collect()
        }
        _ => Err(wrong()),
    }
}
