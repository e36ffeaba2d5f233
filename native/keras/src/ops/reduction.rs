//! `keras.ops` that reduce axes of one tensor: sums, means, extrema, truth values, positions.

use tch::{Kind, Tensor};

use super::axes::{Axes, reduced_dims, signed};
use super::operand::{checked, converted, device, operands, optional};
use super::promotion::{at_least_float32, floating, summed};
use super::{Family, bool_as_int32, kind_of, same, single, unary};
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::Built;
use crate::literals::number;
use crate::scope::Scope;
use crate::spec::{Spec, position};

pub(super) const OPS: Family = &[
    ("Sum", |scope| reduce(scope, summed, sum)),
    ("Prod", |scope| {
        scope.options.require_null("dtype")?;
        reduce(scope, summed, product)
    }),
    ("Mean", |scope| reduce(scope, floating, mean)),
    ("Var", |scope| reduce(scope, floating, variance)),
    ("Std", |scope| reduce(scope, floating, deviation)),
    ("Max", |scope| extremum(scope, true)),
    ("Min", |scope| extremum(scope, false)),
    ("Amax", |scope| extremum(scope, true)),
    ("Amin", |scope| extremum(scope, false)),
    ("Ptp", |scope| {
        reduce(scope, same, |x, axes, keep| {
            Ok(x.f_amax(axes, keep)?.f_sub(&x.f_amin(axes, keep)?)?)
        })
    }),
    ("All", |scope| {
        reduce(scope, truth, |x, axes, keep| Ok(x.f_all_dims(axes, keep)?))
    }),
    ("Any", |scope| {
        reduce(scope, truth, |x, axes, keep| Ok(x.f_any_dims(axes, keep)?))
    }),
    ("CountNonzero", |scope| {
        reduce(scope, integer, |x, axes, keep| {
            Ok(x.f_ne(0)?.f_sum_dim_intlist(axes, keep, Kind::Int)?)
        })
    }),
    ("Logsumexp", |scope| {
        reduce(scope, same, |x, axes, keep| Ok(x.f_logsumexp(axes, keep)?))
    }),
    ("Nansum", |scope| {
        reduce(scope, summed, |x, axes, keep| {
            sum(&without_nan(x, 0.0)?, axes, keep)
        })
    }),
    ("Nanprod", |scope| {
        reduce(scope, summed, |x, axes, keep| {
            product(&without_nan(x, 1.0)?, axes, keep)
        })
    }),
    ("Nanmean", |scope| reduce(scope, floating, nan_mean)),
    ("Nanvar", |scope| reduce(scope, floating, nan_variance)),
    ("Nanstd", |scope| {
        reduce(scope, floating, |x, axes, keep| {
            Ok(nan_variance(x, axes, keep)?.f_sqrt()?)
        })
    }),
    ("Nanmax", |scope| {
        reduce(scope, same, |x, axes, keep| {
            nan_extremum(x, axes, keep, true)
        })
    }),
    ("Nanmin", |scope| {
        reduce(scope, same, |x, axes, keep| {
            nan_extremum(x, axes, keep, false)
        })
    }),
    ("Argmax", |scope| argument(scope, true, false)),
    ("Argmin", |scope| argument(scope, false, false)),
    ("Nanargmax", |scope| argument(scope, true, true)),
    ("Nanargmin", |scope| argument(scope, false, true)),
    ("Average", average),
];

type Reduction = fn(&Tensor, &[i64], bool) -> Result<Tensor>;

/// A reduction over option `axis` whose result has the dtype of `rule`.
fn reduce(scope: &mut Scope<'_>, rule: fn(Kind) -> Kind, call: Reduction) -> Result<Built> {
    reduction(scope, rule, call)
}

fn reduction(
    scope: &mut Scope<'_>,
    rule: fn(Kind) -> Kind,
    call: impl Fn(&Tensor, &[i64], bool) -> Result<Tensor> + Send + 'static,
) -> Result<Built> {
    let axes = Axes::read(scope.options, "axis")?;
    let keepdims = scope.options.bool("keepdims", false)?;
    let of_call = axes.clone();
    Ok(unary(
        move |x| {
            let dims = reduced_dims(&x.dims, &axes.positions(x.rank())?, keepdims);
            Ok(Spec::new(dims, DType::Tensor(rule(kind_of(x)?))))
        },
        move |x| {
            let positions = checked(of_call.positions(x.dim()))?;
            let result = over(x, &positions, keepdims, &call)?;
            Ok(result.f_to_kind(rule(x.kind()))?)
        },
    ))
}

/// Applies a reduction; to libtorch no axes would be all axes.
pub(super) fn over(
    x: &Tensor,
    positions: &[usize],
    keepdims: bool,
    call: impl Fn(&Tensor, &[i64], bool) -> Result<Tensor>,
) -> Result<Tensor> {
    if positions.is_empty() {
        return call(&x.f_unsqueeze(0)?, &[0], false);
    }
    call(x, &signed(positions), keepdims)
}

fn truth(_: Kind) -> Kind {
    Kind::Bool
}

fn integer(_: Kind) -> Kind {
    Kind::Int
}

fn sum(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    Ok(x.f_sum_dim_intlist(axes, keepdims, summed(x.kind()))?)
}

fn product(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    let mut product = x.f_to_kind(summed(x.kind()))?;
    for &axis in axes.iter().rev() {
        product = product.f_prod_dim_int(axis, keepdims, product.kind())?;
    }
    Ok(product)
}

pub(super) fn mean(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    Ok(x.f_mean_dim(axes, keepdims, at_least_float32(x.kind()))?)
}

/// The biased variance, as the mean of squared deviations.
pub(super) fn variance(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    let x = x.f_to_kind(at_least_float32(x.kind()))?;
    let centred = x.f_sub(&mean(&x, axes, true)?)?;
    mean(&centred.f_square()?, axes, keepdims)
}

fn deviation(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    Ok(variance(x, axes, keepdims)?.f_sqrt()?)
}

/// `Max` and its like; `initial` bounds the result.
fn extremum(scope: &mut Scope<'_>, max: bool) -> Result<Built> {
    let options = scope.options;
    let initial = match options.value("initial") {
        None => None,
        Some(value) => {
            let wrong = || options.invalid(format!("initial = {value} must be a number"));
            Some(number(value).ok_or_else(wrong)?)
        }
    };
    reduction(scope, same, move |x, axes, keepdims| {
        let result = if max {
            x.f_amax(axes, keepdims)?
        } else {
            x.f_amin(axes, keepdims)?
        };
        let Some(initial) = initial else {
            return Ok(result);
        };
        let kind = result.kind();
        let bound = Tensor::f_full([1; 0], initial, (bool_as_int32(kind), x.device()))?;
        let result = result.f_to_kind(bool_as_int32(kind))?;
        let bounded = if max {
            result.f_clamp_min_tensor(&bound)?
        } else {
            result.f_clamp_max_tensor(&bound)?
        };
        Ok(bounded.f_to_kind(kind)?)
    })
}

/// The tensor with `value` for NaN.
fn without_nan(x: &Tensor, value: f64) -> Result<Tensor> {
    if !is_float(x.kind()) {
        return Ok(x.shallow_clone());
    }
    Ok(x.f_masked_fill(&x.f_isnan()?, value)?)
}

fn nan_mean(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    let kind = floating(x.kind());
    let x = x.f_to_kind(kind)?;
    let count = x.f_isnan()?.f_logical_not()?;
    let count = count
        .f_to_kind(kind)?
        .f_sum_dim_intlist(axes, keepdims, kind)?;
    Ok(sum(&without_nan(&x, 0.0)?, axes, keepdims)?.f_div(&count)?)
}

fn nan_variance(x: &Tensor, axes: &[i64], keepdims: bool) -> Result<Tensor> {
    let x = x.f_to_kind(floating(x.kind()))?;
    let centred = x.f_sub(&nan_mean(&x, axes, true)?)?;
    nan_mean(&centred.f_square()?, axes, keepdims)
}

fn nan_extremum(x: &Tensor, axes: &[i64], keepdims: bool, max: bool) -> Result<Tensor> {
    let limit = if max {
        f64::NEG_INFINITY
    } else {
        f64::INFINITY
    };
    let clean = without_nan(x, limit)?;
    let result = if max {
        clean.f_amax(axes, keepdims)?
    } else {
        clean.f_amin(axes, keepdims)?
    };
    if !is_float(x.kind()) {
        return Ok(result);
    }
    let none = x.f_isnan()?.f_all_dims(axes, keepdims)?;
    Ok(result.f_masked_fill(&none, f64::NAN)?)
}

/// `Argmax` and its like: the first position of the extremum along one axis, or of all elements.
fn argument(scope: &mut Scope<'_>, max: bool, skip_nan: bool) -> Result<Built> {
    let options = scope.options;
    let axis = options.value("axis").map(serde_json::Value::as_i64);
    if axis == Some(None) {
        return Err(options.invalid("axis must be an integer or null"));
    }
    let axis = axis.flatten();
    let keepdims = options.bool("keepdims", false)?;
    Ok(unary(
        move |x| {
            let positions = match axis {
                None => (0..x.rank()).collect(),
                Some(axis) => vec![x.axis(axis)?],
            };
            let dims = reduced_dims(&x.dims, &positions, keepdims);
            Ok(Spec::new(dims, DType::Tensor(Kind::Int)))
        },
        move |x| {
            let x = x.f_detach()?;
            let found = extreme_position(&x, axis, keepdims, max)?;
            if !(skip_nan && is_float(x.kind())) {
                return Ok(found);
            }
            let axes = axis.map_or_else(
                || (0..x.dim()).collect(),
                |axis| position(axis, x.dim()).into_iter().collect::<Vec<_>>(),
            );
            let none = x.f_isnan()?.f_all_dims(signed(&axes), keepdims)?;
            Ok(found.f_masked_fill(&none, -1)?)
        },
    ))
}

/// Keras's `argmax` along an axis.
pub(crate) fn argmax(x: &Tensor, axis: i64) -> Result<Tensor> {
    extreme_position(x, Some(axis), false, true)
}

/// Where the first of the greatest or least is. TensorFlow never takes NaN, unless there is nothing
/// else; then it is the first.
fn extreme_position(x: &Tensor, axis: Option<i64>, keepdims: bool, max: bool) -> Result<Tensor> {
    let x = match x.kind() {
        Kind::Bool => x.f_to_kind(Kind::Uint8)?,
        kind if is_float(kind) && max => without_nan(&ordered_zeros(x)?, f64::NEG_INFINITY)?,
        kind if is_float(kind) => without_nan(&ordered_zeros(x)?, f64::INFINITY)?,
        _ => x.shallow_clone(),
    };
    let found = if max {
        x.f_argmax(axis, keepdims)?
    } else {
        x.f_argmin(axis, keepdims)?
    };
    Ok(found.f_to_kind(Kind::Int)?)
}

/// Keras lets `argmax` put -0.0 before 0.0: it takes the least negative number for -0.0.
fn ordered_zeros(x: &Tensor) -> Result<Tensor> {
    let x = x.f_to_kind(at_least_float32(x.kind()))?;
    let tiny = if x.kind() == Kind::Double {
        f64::MIN_POSITIVE
    } else {
        f64::from(f32::MIN_POSITIVE)
    };
    let negative = x.f_eq(0.0)?.f_logical_and(&x.f_signbit()?)?;
    Ok(x.f_masked_fill(&negative, -tiny)?)
}

/// `Average`: with weights of the input's shape, or one for each position of `axis`.
fn average(scope: &mut Scope<'_>) -> Result<Built> {
    let axes = Axes::read(scope.options, "axis")?;
    let of_call = axes.clone();
    Ok(single(
        move |args| {
            let [x] = operands(args, ["x"])?;
            let mut all = vec![x];
            all.extend(optional(args, 1, "weights")?);
            let kind = floating(converted(&all)?);
            let dims = x.dims();
            let positions = axes.positions(dims.len())?;
            Ok(Spec::new(
                reduced_dims(&dims, &positions, false),
                DType::Tensor(kind),
            ))
        },
        move |args| {
            let [x] = checked(operands(args, ["x"]))?;
            let weights = checked(optional(args, 1, "weights"))?;
            let mut all = vec![x];
            all.extend(weights);
            let kind = floating(checked(converted(&all))?);
            let device = device(args);
            let x = x.tensor(kind, device)?;
            let positions = checked(of_call.positions(x.dim()))?;
            let Some(weights) = weights else {
                return over(&x, &positions, false, mean);
            };
            let weights = weights.tensor(kind, device)?;
            if weights.dim() == x.dim() {
                let total = over(&x.f_mul(&weights)?, &positions, false, sum)?;
                return Ok(total.f_div(&over(&weights, &positions, false, sum)?)?);
            }
            let total = x.f_tensordot(&weights, signed(&positions), [0])?;
            Ok(total.f_div(&weights.f_sum(kind)?)?)
        },
    ))
}
