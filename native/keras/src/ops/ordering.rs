//! `keras.ops` that sort, rank and search.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::axes::{Axes, elements, reduced_dims, signed};
use super::operand::{Operand, checked, converted, device, operands};
use super::promotion::floating;
use super::{Family, kind_of, several, shaped, single, unary};
use crate::arguments::Args;
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::{Built, Scope};
use crate::spec::Spec;
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Sort", sort),
    ("Argsort", argsort),
    ("TopK", top_k),
    ("InTopK", in_top_k),
    ("SearchSorted", search_sorted),
    ("Digitize", |_| Ok(digitize())),
    ("Bincount", bincount),
    ("Nonzero", |_| {
        Ok(several(
            |x| Ok(vec![Spec::new([None], DType::Tensor(Kind::Int)); x.rank()]),
            |x| {
                let found = x.f_nonzero_numpy()?.into_iter();
                found.map(|index| Ok(index.f_to_kind(Kind::Int)?)).collect()
            },
        ))
    }),
    ("Median", |scope| quantile(scope, &Level::Half)),
    // Keras's Quantile reads the option method and does not use it.
    ("Quantile", |scope| {
        scope.options.ignore(&["method"]);
        quantile(scope, &Level::Share)
    }),
    ("Percentile", |scope| quantile(scope, &Level::Percent)),
];

/// The axis to sort along; without one, all elements in a row.
fn axis_of(scope: &Scope<'_>) -> Result<Option<i64>> {
    if scope.options.is_null("axis") {
        return Ok(None);
    }
    scope.options.i64("axis", -1).map(Some)
}

fn row(x: &Tensor, axis: Option<i64>) -> Result<(Tensor, i64)> {
    let x = if x.kind() == Kind::Bool {
        x.f_to_kind(Kind::Uint8)?
    } else {
        x.shallow_clone()
    };
    match axis {
        Some(axis) => Ok((x, axis)),
        None => Ok((x.f_reshape([-1])?, 0)),
    }
}

fn sorted_dims(x: &Spec, axis: Option<i64>) -> std::result::Result<Vec<Option<i64>>, String> {
    match axis {
        Some(axis) => x.axis(axis).map(|_| x.dims.clone()),
        None => Ok(vec![elements(x)]),
    }
}

fn sort(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = axis_of(scope)?;
    Ok(shaped(
        move |x| sorted_dims(x, axis),
        move |x| {
            let kind = x.kind();
            let (x, axis) = row(x, axis)?;
            Ok(x.f_sort_stable(true, axis, false)?.0.f_to_kind(kind)?)
        },
    ))
}

fn argsort(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = axis_of(scope)?;
    let dtype = DType::Tensor(Kind::Int);
    Ok(unary(
        move |x| match x.rank() {
            0 => Ok(Spec::new([Some(1)], dtype)),
            _ => Ok(Spec::new(sorted_dims(x, axis)?, dtype)),
        },
        move |x| {
            let x = x.f_detach()?;
            let x = if x.dim() == 0 { x.f_reshape([1])? } else { x };
            let (x, axis) = row(&x, axis)?;
            Ok(x.f_argsort_stable(true, axis, false)?
                .f_to_kind(Kind::Int)?)
        },
    ))
}

/// `TopK`: the largest of the last axis, of equal ones the first, and their indices. They are
/// sorted in any case.
fn top_k(scope: &mut Scope<'_>) -> Result<Built> {
    let k = scope.options.count("k")?;
    scope.options.ignore(&["sorted"]);
    Ok(several(
        move |x| {
            let last = x.axis(-1)?;
            if x.dims[last].is_some_and(|size| size < k) {
                return Err(format!(
                    "cannot take the {k} largest of the last axis of {x}"
                ));
            }
            let mut dims = x.dims.clone();
            dims[last] = Some(k);
            let indices = Spec::new(dims.clone(), DType::Tensor(Kind::Int));
            Ok(vec![x.with_dims(dims), indices])
        },
        move |x| {
            let (values, indices) = x.f_sort_stable(true, -1, true)?;
            let indices = indices.f_narrow(-1, 0, k)?.f_to_kind(Kind::Int)?;
            Ok(vec![values.f_narrow(-1, 0, k)?, indices])
        },
    ))
}

/// `InTopK`: whether fewer than `k` predictions are above that of the target.
fn in_top_k(scope: &mut Scope<'_>) -> Result<Built> {
    let k = scope.options.count("k")?;
    Ok(single(
        |args| {
            let [targets, predictions] = operands(args, ["targets", "predictions"])?;
            if (targets.dims().len(), predictions.dims().len()) != (1, 2) {
                return Err("needs targets of one axis and predictions of two".to_owned());
            }
            Ok(Spec::new(targets.dims(), DType::BOOL))
        },
        move |args| {
            let device = device(args);
            let [targets, predictions] = checked(operands(args, ["targets", "predictions"]))?;
            let predictions = predictions.tensor(Kind::Float, device)?.f_detach()?;
            let targets = targets.tensor(Kind::Int64, device)?.f_unsqueeze(1)?;
            let own = predictions.f_gather(1, &targets, false)?;
            let above = predictions.f_gt_tensor(&own)?;
            let above = above.f_sum_dim_intlist(1, false, Kind::Int64)?;
            let finite = predictions.f_isfinite()?.f_all_dim(1, false)?;
            Ok(above.f_lt(k)?.f_logical_and(&finite)?)
        },
    ))
}

fn search_sorted(scope: &mut Scope<'_>) -> Result<Built> {
    let side = scope.options.choice("side", "left", &["left", "right"])?;
    Ok(single(
        |args| {
            let [sequence, values] = operands(args, ["sorted_sequence", "values"])?;
            if sequence.dims().len() != 1 {
                return Err("needs a sequence of one axis".to_owned());
            }
            Ok(Spec::new(values.dims(), DType::Tensor(Kind::Int)))
        },
        move |args| {
            let device = device(args);
            let [sequence, values] = checked(operands(args, ["sorted_sequence", "values"]))?;
            let kind = checked(converted(&[sequence, values]))?;
            let sequence = sequence.tensor(kind, device)?.f_detach()?;
            let values = values.tensor(kind, device)?.f_detach()?;
            let right = side == "right";
            Ok(values.f_searchsorted(&sequence, true, right, side, None::<Tensor>)?)
        },
    ))
}

/// `Digitize`: how many `bins` (float32, rising) are at most each element.
fn digitize() -> Built {
    single(
        |args| {
            let [x, bins] = operands(args, ["x", "bins"])?;
            if bins.dims().len() != 1 {
                return Err("needs bins of one axis".to_owned());
            }
            Ok(Spec::new(x.dims(), DType::Tensor(Kind::Int)))
        },
        |args| {
            let device = device(args);
            let [x, bins] = checked(operands(args, ["x", "bins"]))?;
            let bins = bins.tensor(Kind::Float, device)?.f_to_kind(Kind::Double)?;
            let x = x.tensor(Kind::Double, device)?.f_detach()?;
            Ok(x.f_bucketize(&bins, true, true)?)
        },
    )
}

/// `Bincount`: how often each integer from 0 stands in the last axis.
fn bincount(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    options.require_null("weights")?;
    options.require("sparse", &Json::Bool(false))?;
    let least = options.i64("minlength", 0)?;
    Ok(unary(
        |x| {
            if !matches!(x.rank(), 1 | 2) {
                return Err(format!("needs one or two axes, got {x}"));
            }
            let mut dims = x.dims.clone();
            dims[x.rank() - 1] = None;
            Ok(Spec::new(dims, DType::Tensor(Kind::Int)))
        },
        move |x| {
            let x = x.f_to_kind(Kind::Int64)?;
            let largest = if x.numel() > 0 {
                x.f_max()?.f_int64_value(&[])?
            } else {
                -1
            };
            let size = (largest + 1).max(least);
            let mut shape = x.size();
            if let Some(last) = shape.last_mut() {
                *last = size;
            }
            let counts = Tensor::f_zeros(shape, (Kind::Int, x.device()))?;
            let ones = Tensor::f_ones(x.size(), (Kind::Int, x.device()))?;
            Ok(counts.f_scatter_add(-1, &x, &ones)?)
        },
    ))
}

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

/// Quantiles along axes, interpolated as `method` says. Keras finds the place in float64, of a `q`
/// in float32.
fn quantile(scope: &mut Scope<'_>, level: &Level) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::read(options, "axis")?;
    let keepdims = options.bool("keepdims", false)?;
    let methods = ["linear", "lower", "higher", "midpoint", "nearest"];
    let method = match level {
        Level::Percent => options.choice("method", "linear", &methods)?,
        _ => "linear",
    };
    let (level, of_call) = (*level, axes.clone());
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
            let found = quantiles(&x, &positions, &q.f_reshape([-1])?, method)?;
            let mut found = found;
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

fn level_dims(args: &Args<Spec>, level: Level) -> std::result::Result<Vec<Option<i64>>, String> {
    if level == Level::Half {
        return Ok(Vec::new());
    }
    let [_, q] = operands(args, ["x", "q"])?;
    match q.dims() {
        dims if dims.len() < 2 => Ok(dims),
        _ => Err("takes a number or a list of numbers as q".to_owned()),
    }
}

fn shares(args: &Args<Value>, level: Level, device: tch::Device) -> Result<Tensor> {
    if level == Level::Half {
        return Ok(Tensor::f_scalar_tensor(0.5, (Kind::Double, device))?);
    }
    let [_, q]: [Operand<'_, Value>; 2] = checked(operands(args, ["x", "q"]))?;
    let q = q.tensor(Kind::Float, device)?.f_detach()?;
    let q = if level == Level::Percent {
        q.f_div_scalar(100.0)?
    } else {
        q
    };
    Ok(q.f_to_kind(Kind::Double)?)
}

/// The quantiles `q` over the axes at `positions`, along a new last axis.
fn quantiles(x: &Tensor, positions: &[usize], q: &Tensor, method: &str) -> Result<Tensor> {
    let kept: Vec<usize> = (0..x.dim()).filter(|at| !positions.contains(at)).collect();
    let order = [kept.as_slice(), positions].concat();
    let size = x.size();
    let shape = kept.iter().map(|&at| size[at]);
    let count: i64 = positions.iter().map(|&at| size[at]).product();
    let shape: Vec<i64> = shape.chain([count]).collect();
    let rows = x.f_permute(signed(&order))?.f_reshape(shape)?;
    let sorted = rows.f_sort_stable(true, -1, false)?.0;
    let last = count - 1;
    #[expect(clippy::cast_precision_loss, reason = "as in TensorFlow")]
    let place = q.f_mul_scalar(last as f64)?;
    let bounded = |index: Tensor| index.f_to_kind(Kind::Int64)?.f_clamp(0, last);
    let at = |index: &Tensor| sorted.f_index_select(-1, index);
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
            let above = below.f_add_scalar(1)?.f_clamp_max(last)?;
            let share = above.f_to_kind(Kind::Double)?.f_sub(&place)?;
            let share = share.f_to_kind(x.kind())?;
            let rest = share.f_neg()?.f_add_scalar(1.0)?;
            at(&above)?
                .f_mul(&rest)?
                .f_add(&at(&below)?.f_mul(&share)?)?
        }
    };
    if !is_float(x.kind()) {
        return Ok(found);
    }
    let invalid = rows.f_isnan()?.f_any_dim(-1, true)?;
    Ok(found.f_masked_fill(&invalid, f64::NAN)?)
}
