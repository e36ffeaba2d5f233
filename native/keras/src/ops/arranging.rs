//! `keras.ops` that put elements in other places: flipped, rolled, repeated, padded, triangles and
//! diagonals.

use serde_json::Value as Json;
use tch::Tensor;

use super::axes::{Axes, elements, integers, positions, required_integers, signed};
use super::operand::{Checked, checked};
use super::promotion::summed;
use super::reshaping::moved_order;
use super::{Family, kind_of, shaped, single, unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::literals;
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) const OPS: Family = &[
    ("Flip", |scope| {
        let axes = Axes::read(scope.options, "axis")?;
        flip(axes)
    }),
    ("Fliplr", |_| flip(Axes::Listed(vec![1]))),
    ("Flipud", |_| flip(Axes::Listed(vec![0]))),
    ("Roll", roll),
    ("Rot90", rotate),
    ("Tile", tile),
    ("Repeat", repeat),
    ("Pad", pad),
    ("Tril", |scope| triangle(scope, |x, k| Ok(x.f_tril(k)?))),
    ("Triu", |scope| triangle(scope, |x, k| Ok(x.f_triu(k)?))),
    ("Diag", |scope| {
        let k = scope.options.i64("k", 0)?;
        Ok(shaped(
            move |x| diagonal_of(x, k),
            move |x| Ok(x.f_diag(k)?),
        ))
    }),
    ("Diagflat", |scope| {
        let k = scope.options.i64("k", 0)?;
        let size = move |x: &Spec| elements(x).map(|count| count + k.abs());
        Ok(shaped(
            move |x| Ok(vec![size(x); 2]),
            move |x| Ok(x.f_diagflat(k)?),
        ))
    }),
    ("Diagonal", diagonal),
    ("Trace", trace),
];

fn flip(axes: Axes) -> Result<Built> {
    let of_call = axes.clone();
    Ok(shaped(
        move |x| axes.positions(x.rank()).map(|_| x.dims.clone()),
        move |x| Ok(x.f_flip(signed(&checked(of_call.positions(x.dim()))?))?),
    ))
}

/// `Roll`: along `axis`, or of all elements in a row.
fn roll(scope: &mut Scope<'_>) -> Result<Built> {
    let shift = required_integers(scope.options, "shift")?;
    let axes = integers(scope.options, "axis")?;
    let of_call = axes.clone();
    Ok(shaped(
        move |x| {
            if let Some(axes) = &axes {
                for &axis in axes {
                    x.axis(axis)?;
                }
            }
            Ok(x.dims.clone())
        },
        move |x| {
            let axes = of_call.as_deref().unwrap_or_default();
            Ok(x.f_roll(shift.as_slice(), axes)?)
        },
    ))
}

/// `Rot90`: `k` quarters from the first of `axes` to the second.
fn rotate(scope: &mut Scope<'_>) -> Result<Built> {
    let k = scope.options.i64("k", 1)?;
    let axes = integers(scope.options, "axes")?.unwrap_or_else(|| vec![0, 1]);
    let of_call = axes.clone();
    Ok(shaped(
        move |x| {
            let at = positions(&axes, x.rank())?;
            let mut dims = x.dims.clone();
            if let ([first, second], true) = (at.as_slice(), k % 2 != 0) {
                dims.swap(*first, *second);
            }
            Ok(dims)
        },
        move |x| match (k.rem_euclid(4), of_call.as_slice()) {
            (2, axes) => half_turn(x, axes),
            (_, axes) => Ok(x.f_rot90(k, axes)?),
        },
    ))
}

/// Two quarters as Keras turns them on TensorFlow: after each it lays the elements out in the shape
/// that the result will have, so that only squares are turned by a half.
fn half_turn(x: &Tensor, axes: &[i64]) -> Result<Tensor> {
    let last = [-2, -1];
    let mut x = x.f_movedim(axes, last)?;
    let shape = x.size();
    for _ in 0..2 {
        x = x.f_rot90(1, last)?.f_reshape(shape.as_slice())?;
    }
    Ok(x.f_movedim(last, axes)?)
}

fn tile(scope: &mut Scope<'_>) -> Result<Built> {
    let repeats = required_integers(scope.options, "repeats")?;
    let of_call = repeats.clone();
    Ok(shaped(
        move |x| {
            let rank = x.rank().max(repeats.len());
            let size = |at: usize| match (at + x.rank()).checked_sub(rank) {
                Some(at) => x.dims[at],
                None => Some(1),
            };
            let times = |at: usize| match (at + repeats.len()).checked_sub(rank) {
                Some(at) => repeats[at],
                None => 1,
            };
            Ok((0..rank)
                .map(|at| size(at).map(|size| size * times(at)))
                .collect())
        },
        move |x| Ok(x.f_tile(of_call.as_slice())?),
    ))
}

/// `Repeat`: each element along `axis` (of all elements in a row without one), all as often or each
/// as its entry of `repeats` says.
fn repeat(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let repeats = required_integers(options, "repeats")?;
    let axis = options.value("axis").and_then(Json::as_i64);
    let of_call = repeats.clone();
    Ok(shaped(
        move |x| {
            let (mut dims, at) = match axis {
                Some(axis) => (x.dims.clone(), x.axis(axis)?),
                None => (vec![elements(x)], 0),
            };
            dims[at] = match (repeats.as_slice(), dims[at]) {
                ([times], Some(size)) => Some(size * times),
                ([_], None) => None,
                (each, Some(size)) if i64::try_from(each.len()) != Ok(size) => {
                    return Err(format!("has {} repeats for {size} elements", each.len()));
                }
                (each, _) => Some(each.iter().sum()),
            };
            Ok(dims)
        },
        move |x| {
            if let [times] = of_call.as_slice() {
                return Ok(x.f_repeat_interleave_self_int(*times, axis, None)?);
            }
            let repeats = Tensor::f_from_slice(&of_call)?.f_to_device(x.device())?;
            Ok(x.f_repeat_interleave_self_tensor(&repeats, axis, None)?)
        },
    ))
}

/// Keras's modes of `Pad`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Padding {
    Constant,
    /// The axis mirrored at its end elements.
    Reflect,
    /// The axis mirrored behind its end elements.
    Symmetric,
}

fn pad(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let mode = match options.choice("mode", "constant", &["constant", "reflect", "symmetric"])? {
        "reflect" => Padding::Reflect,
        "symmetric" => Padding::Symmetric,
        _ => Padding::Constant,
    };
    let width = options.value("pad_width").unwrap_or(&Json::Null);
    let pairs = pairs(width);
    let pairs = pairs.ok_or_else(|| {
        options.invalid(format!(
            "pad_width = {width} must be numbers, or a pair for each axis"
        ))
    })?;
    let of_call = pairs.clone();
    Ok(single(
        move |args| {
            let x = args.only()?;
            let amounts = amounts(&pairs, x.rank())?;
            let dims = x.dims.iter().zip(amounts);
            let dims = dims.map(|(dim, (before, after))| dim.map(|size| size + before + after));
            Ok(x.with_dims(dims.collect::<Vec<_>>()))
        },
        move |args| {
            let x = checked(args.only())?.y()?;
            let value = args.constant(1, "constant_values");
            let value = value.and_then(literals::number).unwrap_or(0.0);
            let amounts = checked(amounts(&of_call, x.dim()))?;
            if mode == Padding::Constant {
                // libtorch takes the amounts of the last axis first.
                let reversed = amounts.iter().rev();
                let flat: Vec<i64> = reversed
                    .flat_map(|(before, after)| [*before, *after])
                    .collect();
                return Ok(x.f_pad(flat, "constant", value)?);
            }
            mirrored(x, &amounts, mode)
        },
    ))
}

/// The amounts before and after: one pair for all axes, or one for each.
fn pairs(width: &Json) -> Option<Vec<(i64, i64)>> {
    let pair = |value: &Json| match value {
        Json::Array(items) => match items.as_slice() {
            [both] => Some((both.as_i64()?, both.as_i64()?)),
            [before, after] => Some((before.as_i64()?, after.as_i64()?)),
            _ => None,
        },
        both => both.as_i64().map(|both| (both, both)),
    };
    match width {
        Json::Array(items) if items.first().is_some_and(Json::is_array) => {
            items.iter().map(pair).collect()
        }
        other => pair(other).map(|pair| vec![pair]),
    }
}

fn amounts(pairs: &[(i64, i64)], rank: usize) -> Checked<Vec<(i64, i64)>> {
    match pairs {
        [pair] => Ok(vec![*pair; rank]),
        pairs if pairs.len() == rank => Ok(pairs.to_vec()),
        pairs => Err(format!(
            "has {} pairs of pad_width for {rank} axes",
            pairs.len()
        )),
    }
}

fn mirrored(x: &Tensor, amounts: &[(i64, i64)], mode: Padding) -> Result<Tensor> {
    let mut y = x.shallow_clone();
    for (axis, (&(before, after), size)) in (0..).zip(amounts.iter().zip(x.size())) {
        if before == 0 && after == 0 {
            continue;
        }
        let available = if mode == Padding::Reflect {
            size - 1
        } else {
            size
        };
        if before > available || after > available {
            return Err(super::failed(format!(
                "cannot mirror more than the {available} elements that axis {axis} has for it"
            )));
        }
        let offset = i64::from(mode == Padding::Symmetric);
        let source = |at: i64| match at {
            at if at < 0 => -at - offset,
            at if at >= size => 2 * size - 2 - at + offset,
            at => at,
        };
        let index: Vec<i64> = (-before..size + after).map(source).collect();
        let index = Tensor::f_from_slice(&index)?.f_to_device(x.device())?;
        y = y.f_index_select(axis, &index)?;
    }
    Ok(y)
}

fn triangle(scope: &mut Scope<'_>, call: fn(&Tensor, i64) -> Result<Tensor>) -> Result<Built> {
    let k = scope.options.i64("k", 0)?;
    Ok(shaped(
        |x| {
            if x.rank() < 2 {
                return Err(format!("needs at least two axes, got {x}"));
            }
            Ok(x.dims.clone())
        },
        move |x| call(x, k),
    ))
}

/// The matrix of a diagonal, or the diagonal of a matrix.
fn diagonal_of(x: &Spec, k: i64) -> Checked<Vec<Option<i64>>> {
    match x.dims.as_slice() {
        [size] => Ok(vec![size.map(|size| size + k.abs()); 2]),
        [rows, columns] => Ok(vec![diagonal_size(*rows, *columns, k)]),
        _ => Err(format!("needs one or two axes, got {x}")),
    }
}

/// Elements of the `k`-th diagonal of a matrix.
fn diagonal_size(rows: Option<i64>, columns: Option<i64>, k: i64) -> Option<i64> {
    let (rows, columns) = (rows?, columns?);
    let size = if k >= 0 {
        rows.min(columns - k)
    } else {
        columns.min(rows + k)
    };
    Some(size.max(0))
}

/// The axes of `axis1` and `axis2`, and the order that puts them last.
fn plane(scope: &Scope<'_>) -> Result<(i64, i64, i64)> {
    let options = scope.options;
    let offset = options.i64("offset", 0)?;
    Ok((offset, options.i64("axis1", 0)?, options.i64("axis2", 1)?))
}

fn diagonal(scope: &mut Scope<'_>) -> Result<Built> {
    let (offset, axis1, axis2) = plane(scope)?;
    Ok(shaped(
        move |x| diagonal_dims(x, offset, axis1, axis2),
        move |x| Ok(x.f_diagonal(offset, axis1, axis2)?),
    ))
}

fn diagonal_dims(x: &Spec, offset: i64, axis1: i64, axis2: i64) -> Checked<Vec<Option<i64>>> {
    let order = moved_order(&[axis1, axis2], &[-2, -1], x.rank())?;
    let mut dims: Vec<_> = order.into_iter().map(|at| x.dims[at]).collect();
    let (columns, rows) = (dims.pop().flatten(), dims.pop().flatten());
    dims.push(diagonal_size(rows, columns, offset));
    Ok(dims)
}

fn trace(scope: &mut Scope<'_>) -> Result<Built> {
    let (offset, axis1, axis2) = plane(scope)?;
    Ok(unary(
        move |x| {
            let mut dims = diagonal_dims(x, offset, axis1, axis2)?;
            dims.pop();
            Ok(Spec::new(dims, DType::Tensor(summed(kind_of(x)?))))
        },
        move |x| {
            let diagonal = x.f_diagonal(offset, axis1, axis2)?;
            Ok(diagonal.f_sum_dim_intlist(-1, false, summed(x.kind()))?)
        },
    ))
}
