//! `keras.ops` along one axis that keep it or shorten it: running sums, differences, integrals.

use tch::{Kind, Tensor};

use super::axes::elements;
use super::promotion::floating;
use super::{Family, bool_as_int32, kind_of, shaped, unary};
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::Built;
use crate::literals::number;
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) const OPS: Family = &[
    ("Cumsum", |scope| {
        running(scope, |x, axis| Ok(x.f_cumsum(axis, x.kind())?))
    }),
    ("Cumprod", |scope| {
        running(scope, |x, axis| Ok(x.f_cumprod(axis, x.kind())?))
    }),
    ("Nancumsum", |scope| {
        running(scope, |x, axis| {
            Ok(finite(x, 0.0)?.f_cumsum(axis, x.kind())?)
        })
    }),
    ("Nancumprod", |scope| {
        running(scope, |x, axis| {
            Ok(finite(x, 1.0)?.f_cumprod(axis, x.kind())?)
        })
    }),
    ("Diff", diff),
    ("Trapezoid", trapezoid),
];

/// The tensor with `nan` for NaN and the largest numbers for the infinities.
fn finite(x: &Tensor, nan: f64) -> Result<Tensor> {
    if !is_float(x.kind()) {
        return Ok(x.shallow_clone());
    }
    Ok(x.f_nan_to_num(nan, None, None)?)
}

/// A running total along `axis`, or of all elements in a row, in the input's dtype or option
/// `dtype`.
fn running(scope: &mut Scope<'_>, call: fn(&Tensor, i64) -> Result<Tensor>) -> Result<Built> {
    let options = scope.options;
    let axis = options.value("axis").and_then(serde_json::Value::as_i64);
    let dtype = super::casting::dtype(options)?;
    let rule = move |kind: Kind| bool_as_int32(dtype.unwrap_or(kind));
    Ok(unary(
        move |x| {
            let dims = match axis {
                Some(axis) => x.axis(axis).map(|_| x.dims.clone())?,
                None => vec![elements(x)],
            };
            Ok(Spec::new(dims, DType::Tensor(rule(kind_of(x)?))))
        },
        move |x| {
            let x = x.f_to_kind(rule(x.kind()))?;
            match axis {
                Some(axis) => call(&x, axis),
                None => call(&x.f_reshape([-1])?, 0),
            }
        },
    ))
}

/// `Diff`: the differences of neighbours, `n` times over.
fn diff(scope: &mut Scope<'_>) -> Result<Built> {
    let n = scope.options.i64("n", 1)?;
    let axis = scope.options.i64("axis", -1)?;
    Ok(shaped(
        move |x| {
            let at = x.axis(axis)?;
            let mut dims = x.dims.clone();
            dims[at] = dims[at].map(|size| (size - n).max(0));
            Ok(dims)
        },
        move |x| Ok(x.f_diff(n, axis, None::<Tensor>, None::<Tensor>)?),
    ))
}

/// `Trapezoid`: the integral over `axis` of points `dx` apart.
fn trapezoid(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axis = options.i64("axis", -1)?;
    let dx = options.value("dx").map_or(Some(1.0), number);
    let dx = dx.ok_or_else(|| options.invalid("dx must be a number"))?;
    options.require_null("x")?;
    Ok(unary(
        move |y| {
            let mut dims = y.dims.clone();
            dims.remove(y.axis(axis)?);
            Ok(Spec::new(dims, DType::Tensor(floating(kind_of(y)?))))
        },
        move |y| {
            let kind = floating(y.kind());
            let y = y.f_to_kind(kind)?.f_movedim_int(axis, -1)?;
            let steps = y.size().last().copied().unwrap_or(0) - 1;
            let heights = y
                .f_narrow(-1, 1, steps)?
                .f_add(&y.f_narrow(-1, 0, steps)?)?;
            let areas = heights.f_mul_scalar(0.5 * dx)?;
            Ok(areas.f_sum_dim_intlist(-1, false, kind)?)
        },
    ))
}
