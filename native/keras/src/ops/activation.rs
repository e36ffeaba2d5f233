//! `keras.ops.nn`, activation functions. Those that layers have too run as a graph's steps, so that
//! losses find the logits of softmax and sigmoid; the others are functions of their own.

use tch::{TchError, Tensor};

use super::{Family, elementwise, same, unary};
use crate::activations::Activation;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

pub(super) const OPS: Family = &[
    ("Relu", |_| Ok(step(Activation::Relu))),
    ("Relu6", |_| Ok(step(Activation::Relu6))),
    ("Sigmoid", |_| Ok(step(Activation::Sigmoid))),
    ("Silu", |_| Ok(step(Activation::Silu))),
    ("Selu", |_| Ok(step(Activation::Selu))),
    ("Softplus", |_| Ok(step(Activation::Softplus))),
    ("Softsign", |_| Ok(step(Activation::Softsign))),
    ("HardSigmoid", |_| Ok(step(Activation::HardSigmoid))),
    ("Elu", |scope| {
        Ok(step(Activation::Elu(scope.options.f64("alpha", 1.0)?)))
    }),
    ("LeakyRelu", |scope| {
        let slope = scope.options.f64("negative_slope", 0.2)?;
        Ok(step(Activation::LeakyRelu(slope)))
    }),
    ("Softmax", |scope| along(scope, Activation::Softmax)),
    ("LogSoftmax", |scope| along(scope, Activation::LogSoftmax)),
    ("Gelu", |scope| {
        let tanh = scope.options.bool("approximate", true)?;
        let name = if tanh { "tanh" } else { "none" };
        Ok(elementwise(same, move |x| x.f_gelu(name)))
    }),
    ("Celu", |scope| {
        let alpha = scope.options.f64("alpha", 1.0)?;
        Ok(elementwise(same, move |x| celu(x, alpha)))
    }),
    ("SoftShrink", |scope| {
        let threshold = scope.options.f64("threshold", 0.5)?;
        Ok(elementwise(same, move |x| soft_shrink(x, threshold)))
    }),
    ("HardShrink", |scope| {
        let threshold = scope.options.f64("threshold", 0.5)?;
        Ok(elementwise(same, move |x| hard_shrink(x, threshold)))
    }),
    ("Squareplus", |scope| {
        let b = scope.options.f64("b", 4.0)?;
        Ok(elementwise(same, move |x| {
            let root = x.f_square()?.f_add_scalar(b)?.f_sqrt()?;
            x.f_add(&root)?.f_mul_scalar(0.5)
        }))
    }),
    ("HardSilu", |_| Ok(elementwise(same, |x| x.f_hardswish()))),
    ("HardTanh", |_| {
        Ok(elementwise(same, |x| x.f_clamp(-1.0, 1.0)))
    }),
    ("LogSigmoid", |_| {
        Ok(elementwise(same, |x| x.f_log_sigmoid()))
    }),
    ("TanhShrink", |_| {
        Ok(elementwise(same, |x| x.f_sub(&x.f_tanh()?)))
    }),
    ("SparsePlus", |_| Ok(elementwise(same, sparse_plus))),
    ("SparseSigmoid", |_| Ok(elementwise(same, sparse_sigmoid))),
    ("Threshold", threshold),
    ("Sparsemax", sparsemax),
    ("Glu", glu),
];

/// The activation alone, as a step of the graph's own.
fn step(activation: Activation) -> Built {
    unary(|x| Ok(x.clone()), |x| Ok(x.shallow_clone())).then(activation)
}

/// An activation along option `axis`.
fn along(scope: &mut Scope<'_>, activation: fn(i64) -> Activation) -> Result<Built> {
    let options = scope.options;
    if options.is_null("axis") {
        let null = serde_json::Value::Null;
        return Err(options.unsupported("axis", &null, "one axis"));
    }
    let axis = options.i64("axis", -1)?;
    let input = scope.input()?;
    input.axis(axis).map_err(|reason| scope.mismatch(reason))?;
    Ok(step(activation(axis)))
}

fn celu(x: &Tensor, alpha: f64) -> Result<Tensor, TchError> {
    let negative = x.f_clamp_max(0.0)?.f_div_scalar(alpha)?.f_expm1()?;
    x.f_clamp_min(0.0)?.f_add(&negative.f_mul_scalar(alpha)?)
}

fn soft_shrink(x: &Tensor, threshold: f64) -> Result<Tensor, TchError> {
    let above = x.f_sub_scalar(threshold)?;
    let below = x.f_add_scalar(threshold)?;
    let inner = below.f_where_self(&x.f_lt(-threshold)?, &x.f_zeros_like()?)?;
    above.f_where_self(&x.f_gt(threshold)?, &inner)
}

fn hard_shrink(x: &Tensor, threshold: f64) -> Result<Tensor, TchError> {
    x.f_where_self(&x.f_abs()?.f_gt(threshold)?, &x.f_zeros_like()?)
}

fn sparse_plus(x: &Tensor) -> Result<Tensor, TchError> {
    let curve = x.f_add_scalar(1.0)?.f_square()?.f_mul_scalar(0.25)?;
    let upper = curve.f_where_self(&x.f_lt(1.0)?, x)?;
    x.f_zeros_like()?.f_where_self(&x.f_le(-1.0)?, &upper)
}

fn sparse_sigmoid(x: &Tensor) -> Result<Tensor, TchError> {
    let middle = x.f_add_scalar(1.0)?.f_mul_scalar(0.5)?;
    let upper = x.f_ones_like()?.f_where_self(&x.f_ge(1.0)?, &middle)?;
    x.f_zeros_like()?.f_where_self(&x.f_le(-1.0)?, &upper)
}

/// `Threshold`: `default_value` where `x` is not above `threshold`.
fn threshold(scope: &mut Scope<'_>) -> Result<Built> {
    let threshold = scope.options.f64("threshold", 0.0)?;
    let default = scope.options.f64("default_value", 0.0)?;
    Ok(elementwise(same, move |x| {
        let other = x.f_full_like(default)?;
        x.f_where_self(&x.f_gt(threshold)?, &other)
    }))
}

/// `Sparsemax`: the projection on the simplex (Martins and Astudillo, 2016), along `axis`.
fn sparsemax(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.i64("axis", -1)?;
    let input = scope.input()?;
    input.axis(axis).map_err(|reason| scope.mismatch(reason))?;
    Ok(elementwise(same, move |x| {
        let (sorted, _) = x.f_sort(axis, true)?;
        let sums = sorted.f_cumsum(axis, x.kind())?;
        let ranks = x.f_ones_like()?.f_cumsum(axis, x.kind())?;
        let support = sorted.f_gt_tensor(&sums.f_sub_scalar(1.0)?.f_div(&ranks)?)?;
        let count = support.f_sum_dim_intlist(axis, true, x.kind())?;
        let zeros = x.f_zeros_like()?;
        let kept = sums.f_where_self(&support, &zeros)?;
        let total = kept.f_sum_dim_intlist(axis, true, x.kind())?;
        let tau = total.f_sub_scalar(1.0)?.f_div(&count)?;
        x.f_sub(&tau)?.f_relu()
    }))
}

/// `Glu`: the first half of `axis` times the sigmoid of the second.
fn glu(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.i64("axis", -1)?;
    Ok(unary(
        move |x| {
            let at = x.axis(axis)?;
            let size = x.size(axis)?;
            if size % 2 != 0 {
                return Err(format!("needs an even size of axis {axis}, got {x}"));
            }
            let mut dims = x.dims.clone();
            dims[at] = Some(size / 2);
            Ok(x.with_dims(dims))
        },
        move |x| Ok(x.f_glu(axis)?),
    ))
}
