//! `keras.ops.nn`, normalization by statistics or norms. Half precision is computed in float32
//! where Keras does so.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::axes::{Axes, signed};
use super::operand::{checked, device, operands, optional};
use super::promotion::at_least_float32;
use super::{Family, kind_of, single, unary};
use crate::arguments::Args;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, position};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Normalize", normalize),
    ("LayerNorm", layer_norm),
    ("RMSNorm", rms_norm),
    ("BatchNorm", batch_norm),
];

/// Keras's `backend.epsilon()`.
const EPSILON: f64 = 1e-7;

/// The tensor over its norm along `axis`; norms below `epsilon` count as that.
fn normalize(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = if options.value("axis").is_none() && !options.is_null("axis") {
        Axes::Listed(vec![-1])
    } else {
        Axes::read(options, "axis")?
    };
    let order = match options.value("order") {
        None => 2,
        Some(_) => options.count("order")?,
    };
    if order != 2 && !matches!(&axes, Axes::Listed(axes) if axes.len() == 1) {
        let value = Json::from(order);
        return Err(options.unsupported("order", &value, "2, or any order along one axis"));
    }
    let epsilon = options.f64("epsilon", EPSILON)?;
    let of_call = axes.clone();
    Ok(unary(
        move |x| axes.positions(x.rank()).map(|_| x.clone()),
        move |x| {
            let axes = signed(&checked(of_call.positions(x.dim()))?);
            let kind = x.kind();
            if order == 2 {
                let squares = x.f_square()?.f_sum_dim_intlist(axes, true, kind)?;
                return Ok(x.f_mul(&squares.f_rsqrt()?.f_clamp_max(1.0 / epsilon)?)?);
            }
            #[expect(clippy::cast_precision_loss, reason = "an order is small")]
            let order = order as f64;
            let powers = x.f_abs()?.f_pow_tensor_scalar(order)?;
            let norm = powers.f_sum_dim_intlist(axes, true, kind)?;
            let norm = norm.f_pow_tensor_scalar(1.0 / order)?;
            Ok(x.f_div(&norm.f_clamp_min(epsilon)?)?)
        },
    ))
}

/// The first argument's spec, for results that are like it.
fn like_first(args: &Args<Spec>) -> std::result::Result<Spec, String> {
    let [x] = operands(args, ["x"])?;
    let x = x.spec()?;
    kind_of(&x)?;
    Ok(x)
}

/// An optional argument in `kind`.
fn parameter(args: &Args<Value>, at: usize, name: &str, kind: Kind) -> Result<Option<Tensor>> {
    let operand = checked(optional(args, at, name))?;
    operand
        .map(|operand| operand.tensor(kind, device(args)))
        .transpose()
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over `axis`.
fn layer_norm(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::Listed(super::axes::integers(options, "axis")?.unwrap_or_else(|| vec![-1]));
    let epsilon = options.f64("epsilon", EPSILON)?;
    let by_variance = options.bool("rms_scaling", false)?;
    let of_infer = axes.clone();
    Ok(single(
        move |args| {
            let x = like_first(args)?;
            of_infer.positions(x.rank()).map(|_| x)
        },
        move |args| {
            let [given] = checked(operands(args, ["x"]))?;
            let kind = checked(given.kind())?;
            let compute = at_least_float32(kind);
            let x = given.tensor(compute, device(args))?;
            let positions = checked(axes.positions(x.dim()))?;
            // Parameters of the normalized axes alone.
            let size = x.size();
            let shape = (0..x.dim()).map(|at| if positions.contains(&at) { size[at] } else { 1 });
            let shape: Vec<i64> = shape.collect();
            let wide = |parameter: Option<Tensor>| -> Result<Option<Tensor>> {
                let widened = parameter.map(|parameter| match parameter.dim() == size.len() {
                    true => Ok(parameter),
                    false => Ok(parameter.f_reshape(shape.as_slice())?),
                });
                widened.transpose()
            };
            let gamma = wide(parameter(args, 1, "gamma", compute)?)?;
            let beta = wide(parameter(args, 2, "beta", compute)?)?;
            let (variance, mean) = x.f_var_mean_correction(signed(&positions), 0, true)?;
            let mut scale = variance.f_add_scalar(epsilon)?.f_rsqrt()?;
            if let Some(gamma) = gamma {
                scale = scale.f_mul(&gamma)?;
            }
            if by_variance {
                return Ok(x.f_mul(&scale)?.f_to_kind(kind)?);
            }
            let mut shift = mean.f_neg()?.f_mul(&scale)?;
            if let Some(beta) = beta {
                shift = shift.f_add(&beta)?;
            }
            Ok(x.f_mul(&scale)?.f_add(&shift)?.f_to_kind(kind)?)
        },
    ))
}

/// `x / sqrt(mean(x^2) + epsilon) * scale` over `axis`.
fn rms_norm(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::Listed(super::axes::integers(options, "axis")?.unwrap_or_else(|| vec![-1]));
    let epsilon = options.f64("epsilon", EPSILON)?;
    let of_infer = axes.clone();
    Ok(single(
        move |args| {
            let x = like_first(args)?;
            of_infer.positions(x.rank()).map(|_| x)
        },
        move |args| {
            let [given] = checked(operands(args, ["x"]))?;
            let kind = checked(given.kind())?;
            let compute = at_least_float32(kind);
            let x = given.tensor(compute, device(args))?;
            let axes = signed(&checked(axes.positions(x.dim()))?);
            let mean = x.f_square()?.f_mean_dim(axes, true, compute)?;
            let mut y = x.f_mul(&mean.f_add_scalar(epsilon)?.f_rsqrt()?)?;
            if let Some(scale) = parameter(args, 1, "scale", compute)? {
                y = y.f_mul(&scale)?;
            }
            Ok(y.f_to_kind(kind)?)
        },
    ))
}

/// Normalization by given statistics of `axis`.
fn batch_norm(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.i64("axis", -1)?;
    let epsilon = scope.options.f64("epsilon", 1e-3)?;
    Ok(single(
        move |args| {
            let x = like_first(args)?;
            x.axis(axis).map(|_| x)
        },
        move |args| {
            let device = device(args);
            let [x, mean, variance] = checked(operands(args, ["x", "mean", "variance"]))?;
            let kind = checked(x.kind())?;
            let x = x.tensor(kind, device)?;
            let mut shape = vec![1; x.dim()];
            if let Some(at) = position(axis, x.dim()) {
                shape[at] = -1;
            }
            let along = |tensor: Tensor| tensor.f_reshape(shape.as_slice());
            let mean = along(mean.tensor(kind, device)?)?;
            let variance = along(variance.tensor(kind, device)?)?;
            let mut scale = variance.f_add_scalar(epsilon)?.f_rsqrt()?;
            if let Some(factor) = parameter(args, 4, "scale", kind)? {
                scale = scale.f_mul(&along(factor)?)?;
            }
            let mut shift = mean.f_neg()?.f_mul(&scale)?;
            if let Some(offset) = parameter(args, 3, "offset", kind)? {
                shift = shift.f_add(&along(offset)?)?;
            }
            Ok(x.f_mul(&scale)?.f_add(&shift)?)
        },
    ))
}
