//! `keras.ops` that read or write elements at places that tensors give.

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use super::axes::{elements, list_of_integers, required_integers};
use super::operand::{Checked, Described, checked, device, operands, required};
use super::{Family, failed, kind_of, several, single, unary};
use crate::arguments::{Args, Tree};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast, position};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Take", take),
    ("TakeAlongAxis", take_along_axis),
    ("Slice", slice),
    ("SliceUpdate", |_| Ok(slice_update())),
    ("Scatter", scatter),
    ("ScatterUpdate", scatter_update),
    ("OneHot", |scope| one_hot(scope, false)),
    ("MultiHot", |scope| one_hot(scope, true)),
    ("UnravelIndex", unravel_index),
];

/// Option `axis`, or null.
fn axis_of(scope: &Scope<'_>) -> Result<Option<i64>> {
    let value = scope.options.value("axis");
    let axis = value.map(|axis| axis.as_i64());
    match axis {
        Some(None) => Err(scope.options.invalid("axis must be an integer or null")),
        axis => Ok(axis.flatten()),
    }
}

/// The tensor with the elements in a row, if there is no axis; and the axis.
fn row(x: Tensor, axis: Option<i64>) -> Result<(Tensor, i64)> {
    match axis {
        Some(axis) => Ok((x, axis)),
        None => Ok((x.f_reshape([-1])?, 0)),
    }
}

/// Indices from the end made indices from the start.
fn from_start(indices: &Tensor, size: i64) -> Result<Tensor> {
    let shifted = indices.f_add_scalar(size)?;
    Ok(shifted.f_where_self(&indices.f_lt(0)?, indices)?)
}

/// `Take`: the slices along `axis` at the indices, whose axes take the place of `axis`.
fn take(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = axis_of(scope)?;
    Ok(single(
        move |args| {
            let [x, indices] = operands(args, ["x", "indices"])?;
            let x = x.spec()?;
            let taken = indices.dims();
            let Some(axis) = axis else {
                return Ok(x.with_dims(taken));
            };
            let at = x.axis(axis)?;
            Ok(x.with_dims([&x.dims[..at], &taken, &x.dims[at + 1..]].concat()))
        },
        move |args| {
            let device = device(args);
            let [x, indices] = checked(operands(args, ["x", "indices"]))?;
            let (x, axis) = row(x.tensor(checked(x.kind())?, device)?, axis)?;
            let at =
                position(axis, x.dim()).ok_or_else(|| failed(format!("has no axis {axis}")))?;
            let size = x.size();
            let indices = from_start(&indices.tensor(Kind::Int64, device)?, size[at])?;
            let taken = x.f_index_select(axis, &indices.f_reshape([-1])?)?;
            Ok(taken.f_reshape([&size[..at], &indices.size(), &size[at + 1..]].concat())?)
        },
    ))
}

/// `TakeAlongAxis`: as NumPy's, where the other axes broadcast.
fn take_along_axis(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = axis_of(scope)?;
    Ok(single(
        move |args| {
            let [x, indices] = operands(args, ["x", "indices"])?;
            let mut x = x.spec()?;
            if axis.is_none() {
                x = x.with_dims([elements(&x)]);
            }
            let at = x.axis(axis.unwrap_or(0))?;
            let indices = indices.dims();
            let wrong = || format!("has indices of other axes than {x}");
            let size = *indices.get(at).ok_or_else(wrong)?;
            let mut dims = x.dims.clone();
            dims[at] = size;
            let dims = broadcast(&dims, &indices).filter(|_| dims.len() == indices.len());
            Ok(x.with_dims(dims.ok_or_else(wrong)?))
        },
        move |args| {
            let device = device(args);
            let [x, indices] = checked(operands(args, ["x", "indices"]))?;
            let (x, axis) = row(x.tensor(checked(x.kind())?, device)?, axis)?;
            let at =
                position(axis, x.dim()).ok_or_else(|| failed(format!("has no axis {axis}")))?;
            let indices = from_start(&indices.tensor(Kind::Int64, device)?, x.size()[at])?;
            Ok(x.f_take_along_dim(&indices, axis)?)
        },
    ))
}

/// Where a slice starts: integers, or tensors of them; `None` where only data tell.
fn starts<T: Described>(
    tree: Option<&Tree<T>>,
    rank: usize,
    read: &dyn Fn(&T) -> Checked<Vec<Option<i64>>>,
) -> Checked<Vec<Option<i64>>> {
    let found: Vec<Option<i64>> = match tree {
        Some(Tree::Leaf(value)) => read(value)?,
        Some(Tree::Constant(list)) => {
            let list = list_of_integers(list);
            let list = list.ok_or("takes integers as start_indices")?;
            list.into_iter().map(Some).collect()
        }
        Some(Tree::List(items)) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(starts(Some(item), 1, read)?);
            }
            all
        }
        _ => return Err("lacks the argument start_indices".to_owned()),
    };
    if found.len() != rank {
        return Err(format!("has {} start_indices for {rank} axes", found.len()));
    }
    Ok(found)
}

/// The entries of a tensor of indices for `rank` axes, none of which is known. If it is not known
/// how many there are, they are as many as they must be.
fn unknown_starts(spec: &Spec, rank: usize) -> Checked<Vec<Option<i64>>> {
    let Some(count) = elements(spec) else {
        return Ok(vec![None; rank]);
    };
    match usize::try_from(count) {
        Ok(count) if count <= rank => Ok(vec![None; count]),
        _ => Err(format!("has {count} start_indices for {rank} axes")),
    }
}

fn read_starts(args: &Args<Value>, rank: usize) -> Result<Vec<i64>> {
    let read = |value: &Value| {
        let flat = value
            .y()
            .and_then(|tensor| Ok(tensor.f_to_kind(Kind::Int64)?.f_reshape([-1])?));
        let indices = flat.map_err(|error| error.to_string())?;
        let indices = Vec::<i64>::try_from(indices).map_err(|error| error.to_string())?;
        Ok(indices.into_iter().map(Some).collect())
    };
    let found = checked(starts(args.get(1, "start_indices"), rank, &read))?;
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// `Slice`: `shape` elements from `start_indices` on, -1 for all that follow.
fn slice(scope: &mut Scope<'_>) -> Result<Built> {
    let shape = required_integers(scope.options, "shape")?;
    let of_call = shape.clone();
    Ok(single(
        move |args| {
            let [x] = operands(args, ["inputs"])?;
            let x = x.spec()?;
            if shape.len() != x.rank() {
                return Err(format!("has a shape of {} axes for {x}", shape.len()));
            }
            let unknown = |spec: &Spec| unknown_starts(spec, x.rank());
            let starts = starts(args.get(1, "start_indices"), x.rank(), &unknown)?;
            let sizes = shape.iter().zip(&x.dims).zip(starts);
            let dims = sizes.map(|((&size, dim), start)| match size {
                -1 => dim.zip(start).map(|(dim, start)| dim - start),
                size => Some(size),
            });
            Ok(x.with_dims(dims.collect::<Vec<_>>()))
        },
        move |args| {
            let [x] = checked(operands(args, ["inputs"]))?;
            let mut y = x.tensor(checked(x.kind())?, device(args))?;
            let starts = read_starts(args, y.dim())?;
            for (axis, (start, &size)) in (0..).zip(starts.into_iter().zip(&of_call)) {
                let all = y.size()[usize::try_from(axis).unwrap_or(0)];
                y = y.f_narrow(axis, start, if size == -1 { all - start } else { size })?;
            }
            Ok(y)
        },
    ))
}

/// `SliceUpdate`: the input with `updates` in place of the slice at `start_indices`, which moves
/// so far that it fits.
fn slice_update() -> Built {
    single(
        |args| {
            let [x] = operands(args, ["inputs"])?;
            let x = x.spec()?;
            let unknown = |spec: &Spec| unknown_starts(spec, x.rank());
            starts(args.get(1, "start_indices"), x.rank(), &unknown)?;
            let updates = required(args, 2, "updates")?.dims();
            if updates.len() != x.rank() {
                return Err(format!("has updates of {} axes for {x}", updates.len()));
            }
            Ok(x)
        },
        |args| {
            let device = device(args);
            let [x] = checked(operands(args, ["inputs"]))?;
            let kind = checked(x.kind())?;
            let x = x.tensor(kind, device)?;
            let updates = checked(required(args, 2, "updates"))?.tensor(kind, device)?;
            let starts = read_starts(args, x.dim())?;
            let room = x.size().into_iter().zip(updates.size());
            let starts = starts.into_iter().zip(room);
            let starts: Vec<i64> = starts
                .map(|(start, (size, part))| start.clamp(0, (size - part).max(0)))
                .collect();
            replaced(&x, &updates, &starts, 0)
        },
    )
}

/// `x` with `updates` at `starts`, from `axis` on.
fn replaced(x: &Tensor, updates: &Tensor, starts: &[i64], axis: usize) -> Result<Tensor> {
    let Some(&start) = starts.get(axis) else {
        return Ok(updates.shallow_clone());
    };
    let dim = i64::try_from(axis).unwrap_or(0);
    let size = updates.size()[axis];
    let inner = replaced(&x.f_narrow(dim, start, size)?, updates, starts, axis + 1)?;
    Ok(x.f_slice_scatter(&inner, dim, start, start + size, 1)?)
}

/// The indices of the first axes, each as a tensor of its own.
fn unzipped(indices: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let parts = indices.f_unbind(-1)?;
    Ok(parts.into_iter().map(Some).collect())
}

/// `Scatter`: zeros of `shape` with `values` added at the indices.
fn scatter(scope: &mut Scope<'_>) -> Result<Built> {
    let shape = required_integers(scope.options, "shape")?;
    let of_call = shape.clone();
    Ok(single(
        move |args| {
            let [indices, values] = operands(args, ["indices", "values"])?;
            index_width(&indices.spec()?, shape.len())?;
            let dims: Vec<_> = shape.iter().copied().map(Some).collect();
            Ok(values.spec()?.with_dims(dims))
        },
        move |args| {
            let device = device(args);
            let [indices, values] = checked(operands(args, ["indices", "values"]))?;
            let values = values.tensor(checked(values.kind())?, device)?;
            let indices = indices.tensor(Kind::Int64, device)?;
            let zeros = Tensor::f_zeros(of_call.as_slice(), (values.kind(), device))?;
            Ok(zeros.f_index_put(&unzipped(&indices)?, &values, true)?)
        },
    ))
}

/// How many of `rank` axes the indices in the last axis address.
fn index_width(indices: &Spec, rank: usize) -> Checked<usize> {
    let width = indices.size(-1)?;
    let width = usize::try_from(width).ok().filter(|&width| width <= rank);
    width.ok_or_else(|| format!("has indices {indices} for {rank} axes"))
}

/// `ScatterUpdate`: the input with `updates` put at the indices, or merged by `reduction`.
fn scatter_update(scope: &mut Scope<'_>) -> Result<Built> {
    let known = ["add", "max", "min", "mul"];
    let reduction = scope.options.choice("reduction", "put", &known)?;
    Ok(single(
        |args| {
            let [x, indices, _] = operands(args, ["inputs", "indices", "updates"])?;
            let x = x.spec()?;
            index_width(&indices.spec()?, x.rank())?;
            Ok(x)
        },
        move |args| {
            let device = device(args);
            let [x, indices, updates] = checked(operands(args, ["inputs", "indices", "updates"]))?;
            let x = x.tensor(checked(x.kind())?, device)?;
            let indices = indices.tensor(Kind::Int64, device)?;
            let updates = updates.tensor(x.kind(), device)?;
            match reduction {
                "put" => Ok(x.f_index_put(&unzipped(&indices)?, &updates, false)?),
                "add" => Ok(x.f_index_put(&unzipped(&indices)?, &updates, true)?),
                "max" => merged(&x, &indices, &updates, "amax"),
                "min" => merged(&x, &indices, &updates, "amin"),
                _ => merged(&x, &indices, &updates, "prod"),
            }
        },
    ))
}

/// Rows of `x`, addressed by its first axes, merged with `updates`.
fn merged(x: &Tensor, indices: &Tensor, updates: &Tensor, merge: &str) -> Result<Tensor> {
    let size = x.size();
    let width = indices.size().last().copied().unwrap_or(0);
    let (head, tail) = size.split_at(usize::try_from(width).unwrap_or(0).min(size.len()));
    let strides = (0..head.len()).map(|at| head[at + 1..].iter().product::<i64>());
    let strides = Tensor::f_from_slice(&strides.collect::<Vec<_>>())?.f_to_device(x.device())?;
    let places = indices
        .f_mul(&strides)?
        .f_sum_dim_intlist(-1, false, Kind::Int64)?;
    let rows = x.f_reshape([&[head.iter().product::<i64>()], tail].concat())?;
    let updates = updates.f_reshape([&[-1], tail].concat())?;
    let result = rows.f_index_reduce(0, &places.f_reshape([-1])?, &updates, merge, true)?;
    Ok(result.f_reshape(size)?)
}

/// `OneHot`: 1 at the index along a new axis; `MultiHot`: the largest of these along an axis of the
/// input. An index outside gives zeros.
fn one_hot(scope: &mut Scope<'_>, multi: bool) -> Result<Built> {
    let options = scope.options;
    let classes = options.count("num_classes")?;
    let axis = options.i64("axis", -1)?;
    let kind = super::casting::dtype(options)?.unwrap_or(Kind::Float);
    options.require("sparse", &Json::Bool(false))?;
    let merged_axis = |rank: usize| usize::from(rank > 1);
    Ok(unary(
        move |x| {
            kind_of(x)?;
            let at = position(axis, x.rank() + 1);
            let at = at.ok_or_else(|| format!("has no axis {axis} beside those of {x}"))?;
            let mut dims = x.dims.clone();
            dims.insert(at, Some(classes));
            if multi {
                dims.remove(merged_axis(x.rank()));
            }
            Ok(Spec::new(dims, DType::Tensor(kind)))
        },
        move |x| {
            let rank = x.dim();
            let hot = hot(x, classes, axis, x.device())?;
            if multi {
                let merged = i64::from(rank > 1);
                return Ok(hot.f_any_dim(merged, false)?.f_to_kind(kind)?);
            }
            Ok(hot.f_to_kind(kind)?)
        },
    ))
}

fn hot(x: &Tensor, classes: i64, axis: i64, device: Device) -> Result<Tensor> {
    let at = position(axis, x.dim() + 1).ok_or_else(|| failed(format!("has no axis {axis}")))?;
    let mut shape = vec![1; x.dim() + 1];
    shape[at] = classes;
    let numbers = Tensor::f_arange(classes, (Kind::Int64, device))?.f_reshape(shape)?;
    let x = x.f_to_kind(Kind::Int64)?.f_unsqueeze(axis)?;
    Ok(x.f_eq_tensor(&numbers)?)
}

/// `UnravelIndex`: for each axis of `shape` the indices along it of elements that are numbered.
/// Keras on TensorFlow takes the axes from the last for a vector, and from the first for others.
fn unravel_index(scope: &mut Scope<'_>) -> Result<Built> {
    let shape = required_integers(scope.options, "shape")?;
    let axes = shape.len();
    Ok(several(
        move |x| Ok(vec![x.clone(); axes]),
        move |x| {
            let mut sizes = shape.clone();
            if x.dim() == 1 {
                sizes.reverse();
            }
            let mut rest = x.shallow_clone();
            let mut indices = Vec::with_capacity(axes);
            for size in sizes {
                indices.push(rest.f_remainder(size)?);
                rest = rest.f_div_scalar_mode(size, "floor")?;
            }
            indices.reverse();
            Ok(indices)
        },
    ))
}
