//! `keras.ops` that sort, rank and search.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::axes::elements;
use super::operand::{checked, converted, device, operands};
use super::{Family, several, shaped, single, unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) const OPS: Family = &[
    ("Sort", sort),
    ("Argsort", argsort),
    ("Argpartition", argpartition),
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

/// `Argpartition`: indices of the `kth + 1` smallest, then of the others, largest first. As Keras
/// on TensorFlow does, it compares integers, and sorts the others with zeros in place of the
/// smallest. Of several axes TensorFlow would mix up the rows.
fn argpartition(scope: &mut Scope<'_>) -> Result<Built> {
    let kth = scope.options.i64("kth", 0)?;
    let axis = axis_of(scope)?;
    Ok(unary(
        move |x| {
            if x.rank() != 1 && axis.is_some() {
                return Err(format!(
                    "takes one axis, or all elements in a row with axis = null, got {x}"
                ));
            }
            Ok(Spec::new(sorted_dims(x, axis)?, DType::Tensor(Kind::Int)))
        },
        move |x| {
            let x = x.f_detach()?.f_to_kind(Kind::Int)?.f_reshape([-1])?;
            let count = x.size()[0];
            let kth = kth.clamp(0, (count - 1).max(0));
            let smallest = x
                .f_argsort_stable(true, 0, false)?
                .f_narrow(0, 0, kth + 1)?;
            let rest = x.f_index_fill(0, &smallest, 0)?;
            let largest = rest.f_argsort_stable(true, 0, true)?;
            let largest = largest.f_narrow(0, 0, count - kth - 1)?;
            Ok(Tensor::f_cat(&[smallest, largest], 0)?.f_to_kind(Kind::Int)?)
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
