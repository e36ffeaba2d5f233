//! `keras.ops` that see the same elements under other axes.

use tch::Tensor;

use super::axes::{elements, integers, positions, required_integers, signed};
use super::operand::{Checked, checked};
use super::{Family, failed, shaped};
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};

pub(super) const OPS: Family = &[
    ("Reshape", reshape),
    ("Ravel", |_| {
        let flat = |x: &Spec| Ok(vec![elements(x)]);
        Ok(shaped(flat, |x| Ok(x.f_reshape([-1])?)))
    }),
    ("Transpose", transpose),
    ("Swapaxes", swap_axes),
    ("Moveaxis", move_axes),
    ("ExpandDims", expand_dims),
    ("Squeeze", squeeze),
    ("BroadcastTo", broadcast_to),
];

/// `Reshape`: one axis of `newshape` may be -1.
fn reshape(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let target = required_integers(options, "newshape")?;
    let open = target.iter().filter(|&&axis| axis == -1).count();
    if open > 1 || target.iter().any(|&axis| axis < -1) {
        return Err(options.invalid(format!("newshape {target:?} may hold one -1 at most")));
    }
    let of_call = target.clone();
    Ok(shaped(
        move |x| {
            let known: i64 = target.iter().filter(|&&axis| axis != -1).product();
            let rest = match elements(x) {
                None => None,
                Some(count) if open == 0 && count == known => Some(1),
                Some(count) if open == 1 && known > 0 && count % known == 0 => Some(count / known),
                Some(count) => {
                    return Err(format!("{count} elements do not fit newshape {target:?}"));
                }
            };
            let axes = target.iter();
            Ok(axes
                .map(|&axis| if axis == -1 { rest } else { Some(axis) })
                .collect())
        },
        move |x| {
            if x.numel() > 0 {
                return Ok(x.f_reshape(of_call.as_slice())?);
            }
            // Of no elements libtorch cannot tell what -1 is; TensorFlow takes 0.
            let axes = of_call.iter();
            let shape: Vec<i64> = axes.map(|&axis| axis.max(0)).collect();
            Ok(x.f_reshape(shape)?)
        },
    ))
}

/// Axes in another order: `order` gives it for a rank.
fn permuted(
    order: impl Fn(usize) -> Checked<Vec<usize>> + Clone + Send + 'static,
) -> Result<Built> {
    let of_call = order.clone();
    Ok(shaped(
        move |x| {
            let order = order(x.rank())?;
            Ok(order.into_iter().map(|at| x.dims[at]).collect())
        },
        move |x| Ok(x.f_permute(signed(&checked(of_call(x.dim()))?))?),
    ))
}

fn transpose(scope: &mut Scope<'_>) -> Result<Built> {
    let axes = integers(scope.options, "axes")?.filter(|axes| !axes.is_empty());
    permuted(move |rank| match &axes {
        None => Ok((0..rank).rev().collect()),
        Some(axes) if axes.len() == rank => positions(axes, rank),
        Some(axes) => Err(format!("has axes {axes:?} for an input of {rank} axes")),
    })
}

fn swap_axes(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axis = |key: &str| {
        let value = options.value(key).and_then(serde_json::Value::as_i64);
        value.ok_or_else(|| options.invalid(format!("{key} must be an integer")))
    };
    let (first, second) = (axis("axis1")?, axis("axis2")?);
    permuted(move |rank| {
        let first = positions(&[first], rank)?[0];
        let second = positions(&[second], rank)?[0];
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(first, second);
        Ok(order)
    })
}

fn move_axes(scope: &mut Scope<'_>) -> Result<Built> {
    let source = required_integers(scope.options, "source")?;
    let destination = required_integers(scope.options, "destination")?;
    permuted(move |rank| moved_order(&source, &destination, rank))
}

/// The order of `rank` axes after those of `source` came to `destination`.
pub(super) fn moved_order(source: &[i64], destination: &[i64], rank: usize) -> Checked<Vec<usize>> {
    let source = positions(source, rank)?;
    let destination = positions(destination, rank)?;
    if source.len() != destination.len() {
        return Err("needs as many destinations as sources".to_owned());
    }
    let mut order: Vec<usize> = (0..rank).filter(|at| !source.contains(at)).collect();
    let mut moves: Vec<(usize, usize)> = destination.into_iter().zip(source).collect();
    moves.sort_unstable();
    for (to, from) in moves {
        order.insert(to, from);
    }
    Ok(order)
}

/// `ExpandDims`: `axis` counts the new axes too.
fn expand_dims(scope: &mut Scope<'_>) -> Result<Built> {
    let axes = required_integers(scope.options, "axis")?;
    let sorted = move |rank: usize| -> Checked<Vec<usize>> {
        let mut at = positions(&axes, rank + axes.len())?;
        at.sort_unstable();
        Ok(at)
    };
    let of_call = sorted.clone();
    Ok(shaped(
        move |x| {
            let mut dims = x.dims.clone();
            for at in sorted(x.rank())? {
                dims.insert(at, Some(1));
            }
            Ok(dims)
        },
        move |x| {
            let mut y = x.shallow_clone();
            for at in signed(&checked(of_call(x.dim()))?) {
                y = y.f_unsqueeze(at)?;
            }
            Ok(y)
        },
    ))
}

/// `Squeeze`: without `axis`, the axes known to be 1 when the model is built; a batch that happens
/// to have one row keeps its axis.
fn squeeze(scope: &mut Scope<'_>) -> Result<Built> {
    let input = scope.input()?;
    let axes = match integers(scope.options, "axis")? {
        Some(axes) => axes,
        None => {
            let ones = input.dims.iter().enumerate();
            let ones = ones.filter(|(_, dim)| **dim == Some(1));
            signed(&ones.map(|(at, _)| at).collect::<Vec<_>>())
        }
    };
    let of_call = axes.clone();
    Ok(shaped(
        move |x| {
            let at = positions(&axes, x.rank())?;
            if let Some(at) = at
                .iter()
                .find(|&&at| x.dims[at].is_some_and(|dim| dim != 1))
            {
                return Err(format!("cannot drop axis {at} of {x}: it is not 1"));
            }
            let dims = x.dims.iter().enumerate();
            let dims = dims.filter(|(axis, _)| !at.contains(axis));
            Ok(dims.map(|(_, dim)| *dim).collect())
        },
        move |x| {
            if of_call.is_empty() {
                return Ok(x.shallow_clone());
            }
            let size = x.size();
            let at = checked(positions(&of_call, size.len()))?;
            if at.iter().any(|&at| size[at] != 1) {
                return Err(failed(format!(
                    "cannot drop axes {of_call:?} of {size:?}: not all are 1"
                )));
            }
            Ok(x.f_squeeze_dims(of_call.as_slice())?)
        },
    ))
}

fn broadcast_to(scope: &mut Scope<'_>) -> Result<Built> {
    let target = required_integers(scope.options, "shape")?;
    let of_call = target.clone();
    Ok(shaped(
        move |x| {
            let dims: Vec<_> = target.iter().copied().map(Some).collect();
            let fits = broadcast(&x.dims, &dims).is_some_and(|joined| joined == dims);
            if !fits {
                return Err(format!("cannot broadcast {x} to {target:?}"));
            }
            Ok(dims)
        },
        move |x: &Tensor| Ok(x.f_broadcast_to(of_call.as_slice())?),
    ))
}
