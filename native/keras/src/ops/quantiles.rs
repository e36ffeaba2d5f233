//! `keras.ops` that find quantiles, of all numbers or of those that are not NaN.

use tch::{Device, Kind, Tensor};

use super::axes::{Axes, reduced_dims, signed};
use super::operand::{Checked, Operand, checked, device, operands};
use super::promotion::floating;
use super::{Family, kind_of, single};
use crate::arguments::Args;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Median", |scope| quantile(scope, Level::Half, false)),
    // Keras's Quantile reads the option method and does not use it.
    ("Quantile", |scope| {
        scope.options.ignore(&["method"]);
        quantile(scope, Level::Share, false)
    }),
    ("Percentile", |scope| quantile(scope, Level::Percent, false)),
    ("Nanmedian", |scope| quantile(scope, Level::Half, true)),
    ("Nanquantile", |scope| quantile(scope, Level::Share, true)),
    ("Nanpercentile", |scope| {
        quantile(scope, Level::Percent, true)
    }),
];

/// How an operation says which quantile it wants.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    /// The median.
    Half,
    /// By the argument `q`, from 0 to 1.
    Share,
    /// By the argument `q`, from 0 to 100.
    Percent,
}

/// Quantiles along axes, interpolated as `method` says; with `skip_nan` of the numbers that are not
/// NaN. Keras finds the place in float64, of a `q` in float32.
fn quantile(scope: &mut Scope<'_>, level: Level, skip_nan: bool) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::read(options, "axis")?;
    let keepdims = options.bool("keepdims", false)?;
    let methods = ["linear", "lower", "higher", "midpoint", "nearest"];
    let method = match level {
        Level::Percent => options.choice("method", "linear", &methods)?,
        Level::Share if skip_nan => options.choice("method", "linear", &methods)?,
        _ => "linear",
    };
    let of_call = axes.clone();
    Ok(single(
        move |args| {
            let [x] = operands(args, ["x"])?;
            let x = x.spec()?;
            let mut dims = level_dims(args, level)?;
            dims.extend(reduced_dims(&x.dims, &axes.positions(x.rank())?, keepdims));
            Ok(Spec::new(dims, DType::Tensor(floating(kind_of(&x)?))))
        },
        move |args| {
            let [x] = checked(operands(args, ["x"]))?;
            let kind = floating(checked(x.kind())?);
            let x = x.tensor(kind, device(args))?;
            let q = shares(args, level, x.device())?;
            let positions = checked(of_call.positions(x.dim()))?;
            let rows = rows(&x, &positions)?;
            let mut found = quantiles(&rows, &q.f_reshape([-1])?, method, skip_nan)?;
            if keepdims {
                for at in signed(&positions) {
                    found = found.f_unsqueeze(at)?;
                }
            }
            let found = found.f_movedim_int(-1, 0)?;
            Ok(if q.dim() == 0 {
                found.f_squeeze_dim(0)?
            } else {
                found
            })
        },
    ))
}

fn level_dims(args: &Args<Spec>, level: Level) -> Checked<Vec<Option<i64>>> {
    if level == Level::Half {
        return Ok(Vec::new());
    }
    let [_, q] = operands(args, ["x", "q"])?;
    match q.dims() {
        dims if dims.len() < 2 => Ok(dims),
        _ => Err("takes a number or a list of numbers as q".to_owned()),
    }
}

fn shares(args: &Args<Value>, level: Level, device: Device) -> Result<Tensor> {
    if level == Level::Half {
        return Ok(Tensor::f_scalar_tensor(0.5, (Kind::Double, device))?);
    }
    let [_, q]: [Operand<'_, Value>; 2] = checked(operands(args, ["x", "q"]))?;
    let q = q.tensor(Kind::Float, device)?;
    let q = if level == Level::Percent {
        q.f_div_scalar(100.0)?
    } else {
        q
    };
    Ok(q.f_to_kind(Kind::Double)?)
}

/// What lies along the axes at `positions` in one last axis.
fn rows(x: &Tensor, positions: &[usize]) -> Result<Tensor> {
    let kept: Vec<usize> = (0..x.dim()).filter(|at| !positions.contains(at)).collect();
    let order = [kept.as_slice(), positions].concat();
    let size = x.size();
    let shape = kept.iter().map(|&at| size[at]);
    let count = positions.iter().map(|&at| size[at]).product();
    let shape: Vec<i64> = shape.chain([count]).collect();
    Ok(x.f_permute(signed(&order))?.f_reshape(shape)?)
}

/// The quantiles `q` of each row.
fn quantiles(rows: &Tensor, q: &Tensor, method: &str, skip_nan: bool) -> Result<Tensor> {
    // NaN come last.
    let sorted = rows.f_sort_stable(true, -1, false)?.0;
    let invalid = rows.f_isnan()?;
    let counted = if skip_nan {
        invalid.f_logical_not()?
    } else {
        invalid.f_ones_like()?
    };
    let last = counted.f_sum_dim_intlist(-1, true, Kind::Int64)?;
    let last = last.f_sub_scalar(1)?.f_clamp_min(0)?;
    let place = q.f_mul(&last.f_to_kind(Kind::Double)?)?;
    let bounded = |index: Tensor| {
        index
            .f_to_kind(Kind::Int64)?
            .f_clamp_min(0)?
            .f_minimum(&last)
    };
    let at = |index: &Tensor| sorted.f_take_along_dim(index, -1);
    let found = match method {
        "lower" => at(&bounded(place.f_floor()?)?)?,
        "higher" => at(&bounded(place.f_ceil()?)?)?,
        "nearest" => at(&bounded(place.f_round()?)?)?,
        "midpoint" => {
            let below = at(&bounded(place.f_floor()?)?)?;
            let above = at(&bounded(place.f_ceil()?)?)?;
            below.f_add(&above)?.f_mul_scalar(0.5)?
        }
        _ => {
            let below = bounded(place.f_ceil()?)?.f_sub_scalar(1)?.f_clamp_min(0)?;
            let above = below.f_add_scalar(1)?.f_minimum(&last)?;
            let share = above.f_to_kind(Kind::Double)?.f_sub(&place)?;
            let share = share.f_to_kind(rows.kind())?;
            let rest = share.f_neg()?.f_add_scalar(1.0)?;
            at(&above)?
                .f_mul(&rest)?
                .f_add(&at(&below)?.f_mul(&share)?)?
        }
    };
    let none = if skip_nan {
        invalid.f_all_dim(-1, true)?
    } else {
        invalid.f_any_dim(-1, true)?
    };
    Ok(found.f_masked_fill(&none, f64::NAN)?)
}
