//! `keras.ops` that put tensors beside each other.

use tch::{Kind, Tensor};

use super::operand::{Checked, Operand, checked, converted, device, listed, operands, promoted};
use super::{Family, operation, single};
use crate::arguments::Args;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, alike, position};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Concatenate", |scope| {
        let axis = scope.options.i64("axis", 0)?;
        Ok(join(whole, move |_| axis))
    }),
    ("Vstack", |_| Ok(join(whole, |_| 0))),
    ("Hstack", |_| {
        Ok(join(whole, |rank| if rank == 1 { 0 } else { 1 }))
    }),
    ("Dstack", |_| Ok(join(deep, |_| 2))),
    ("Append", append),
    ("Stack", stack),
    ("Meshgrid", meshgrid),
];

/// Where new axes of 1 come in an operand of some rank before it is joined.
type Widen = fn(usize) -> &'static [i64];

fn whole(_: usize) -> &'static [i64] {
    &[]
}

/// As NumPy's `atleast_3d`.
fn deep(rank: usize) -> &'static [i64] {
    match rank {
        0 => &[0, 0, 0],
        1 => &[0, 2],
        2 => &[2],
        _ => &[],
    }
}

/// Tensors of a list end to end along the axis that `axis` gives for their rank.
fn join(widen: Widen, axis: impl Fn(usize) -> i64 + Clone + Send + 'static) -> Built {
    let of_call = axis.clone();
    single(
        move |args| {
            let operands = listed(args)?;
            let shapes: Vec<_> = operands
                .iter()
                .map(|operand| {
                    let mut dims = operand.dims();
                    for &at in widen(dims.len()) {
                        dims.insert(usize::try_from(at).unwrap_or(0), Some(1));
                    }
                    dims
                })
                .collect();
            let dims = joined_dims(&shapes, axis(shapes[0].len()))?;
            Ok(Spec::new(dims, DType::Tensor(promoted(&operands)?)))
        },
        move |args| {
            let tensors = tensors(args, promoted)?;
            let tensors = tensors.into_iter().map(|mut tensor| {
                for &at in widen(tensor.dim()) {
                    tensor = tensor.f_unsqueeze(at)?;
                }
                Ok(tensor)
            });
            let tensors = tensors.collect::<Result<Vec<_>>>()?;
            let rank = tensors.first().map_or(0, Tensor::dim);
            Ok(Tensor::f_cat(&tensors, of_call(rank))?)
        },
    )
}

type Rule<'a> = fn(&[Operand<'a, Value>]) -> Checked<Kind>;

/// The tensors of a list in one dtype.
fn tensors<'a>(args: &'a Args<Value>, rule: Rule<'a>) -> Result<Vec<Tensor>> {
    let operands = checked(listed(args))?;
    let kind = checked(rule(&operands))?;
    let device = device(args);
    operands
        .iter()
        .map(|operand| operand.tensor(kind, device))
        .collect()
}

fn joined_dims(shapes: &[Vec<Option<i64>>], axis: i64) -> Checked<Vec<Option<i64>>> {
    let mut joined = shapes[0].clone();
    let at = position(axis, joined.len());
    let at = at.ok_or_else(|| format!("has no axis {axis} among {} axes", joined.len()))?;
    for other in &shapes[1..] {
        let fits = other.len() == joined.len()
            && (0..joined.len()).all(|i| {
                let (a, b) = (joined[i], other[i]);
                i == at || a.is_none() || b.is_none() || a == b
            });
        if !fits {
            let (a, b) = (
                Spec::new(joined, DType::BOOL),
                Spec::new(other.clone(), DType::BOOL),
            );
            return Err(format!("inputs differ outside axis {axis}: {a} and {b}"));
        }
        for (i, dim) in other.iter().enumerate() {
            joined[i] = if i == at {
                joined[i].zip(*dim).map(|(a, b)| a + b)
            } else {
                joined[i].or(*dim)
            };
        }
    }
    Ok(joined)
}

/// `Append`: as `Concatenate`, of two; without `axis`, of their elements in a row.
fn append(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope
        .options
        .value("axis")
        .and_then(serde_json::Value::as_i64);
    let flat = |dims: Vec<Option<i64>>| {
        let count = dims
            .iter()
            .try_fold(1, |count, dim| dim.map(|dim| count * dim));
        vec![count]
    };
    Ok(single(
        move |args| {
            let operands = operands(args, ["x1", "x2"])?;
            let shapes = operands.map(|operand| match axis {
                Some(_) => operand.dims(),
                None => flat(operand.dims()),
            });
            let dims = joined_dims(&shapes, axis.unwrap_or(0))?;
            Ok(Spec::new(dims, DType::Tensor(converted(&operands)?)))
        },
        move |args| {
            let mut tensors = tensors(args, converted)?;
            if axis.is_none() {
                for tensor in &mut tensors {
                    *tensor = tensor.f_reshape([-1])?;
                }
            }
            Ok(Tensor::f_cat(&tensors, axis.unwrap_or(0))?)
        },
    ))
}

/// `Stack`: along a new axis.
fn stack(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.i64("axis", 0)?;
    Ok(single(
        move |args| {
            let operands = listed(args)?;
            let mut dims = operands[0].dims();
            for other in &operands[1..] {
                let other = other.dims();
                if !alike(&dims, &other) {
                    let (a, b) = (Spec::new(dims, DType::BOOL), Spec::new(other, DType::BOOL));
                    return Err(format!("needs inputs of one shape, got {a} and {b}"));
                }
                dims = dims.into_iter().zip(other).map(|(a, b)| a.or(b)).collect();
            }
            let at = position(axis, dims.len() + 1);
            let at = at.ok_or_else(|| format!("has no axis {axis} among {}", dims.len() + 1))?;
            dims.insert(at, i64::try_from(operands.len()).ok());
            Ok(Spec::new(dims, DType::Tensor(promoted(&operands)?)))
        },
        move |args| Ok(Tensor::f_stack(&tensors(args, promoted)?, axis)?),
    ))
}

/// `Meshgrid`: each tensor, flattened, along an axis of its own.
fn meshgrid(scope: &mut Scope<'_>) -> Result<Built> {
    let indexing = scope.options.choice("indexing", "xy", &["xy", "ij"])?;
    let count = |operand: &Operand<'_, Spec>| {
        let dims = operand.dims();
        dims.iter()
            .try_fold(1, |count, dim| dim.map(|dim| count * dim))
    };
    Ok(operation(
        move |args| {
            let operands = listed(args)?;
            let mut dims: Vec<_> = operands.iter().map(count).collect();
            if indexing == "xy" && dims.len() > 1 {
                dims.swap(0, 1);
            }
            let specs = operands.iter().map(|operand| {
                let kind = operand.kind()?;
                Ok(Spec::new(dims.clone(), DType::Tensor(kind)))
            });
            Ok(super::listed(specs.collect::<Checked<Vec<_>>>()?))
        },
        move |args| {
            let device = device(args);
            let flat = checked(listed(args))?.into_iter().map(|operand| {
                let kind = checked(operand.kind())?;
                Ok(operand.tensor(kind, device)?.f_reshape([-1])?)
            });
            let flat = flat.collect::<Result<Vec<_>>>()?;
            let rank = flat.len();
            let mut sizes: Vec<i64> = flat.iter().flat_map(Tensor::size).collect();
            let swapped = indexing == "xy" && rank > 1;
            if swapped {
                sizes.swap(0, 1);
            }
            let grids = flat.iter().enumerate().map(|(at, tensor)| {
                let at = if swapped && at < 2 { 1 - at } else { at };
                let mut shape = vec![1; rank];
                shape[at] = -1;
                Ok(tensor
                    .f_reshape(shape)?
                    .f_expand(sizes.as_slice(), false)?
                    .into())
            });
            Ok(super::listed(grids.collect::<Result<Vec<Value>>>()?))
        },
    ))
}
