//! `keras.ops` that multiply and sum over axes of two tensors. Integers are multiplied in float32
//! and cast back, as Keras does on TensorFlow.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::axes::{list_of_integers, positions, signed};
use super::operand::{Checked, checked, converted, device, operands};
use super::promotion::{Type, floating, result_type};
use super::reshaping::moved_order;
use super::{Family, failed, kind_of, single};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast, position};

pub(super) const OPS: Family = &[
    ("Matmul", |_| Ok(matmul())),
    ("Dot", |_| Ok(product(floating, dot_dims, dot))),
    ("Inner", |_| {
        Ok(product(floating, inner_dims, |a, b| Ok(a.f_inner(b)?)))
    }),
    ("Vdot", |_| {
        let dims = |_: &[Option<i64>], _: &[Option<i64>]| Ok(Vec::new());
        Ok(product(floating, dims, |a, b| {
            Ok(a.f_reshape([-1])?.f_dot(&b.f_reshape([-1])?)?)
        }))
    }),
    ("Outer", |_| {
        let count = |dims: &[Option<i64>]| dims.iter().try_fold(1, |n, dim| dim.map(|dim| n * dim));
        let dims = move |a: &[_], b: &[_]| Ok(vec![count(a), count(b)]);
        Ok(product(super::same, dims, |a, b| {
            Ok(a.f_reshape([-1, 1])?.f_mul(&b.f_reshape([-1])?)?)
        }))
    }),
    ("Kron", |_| {
        Ok(product(super::same, kron_dims, |a, b| Ok(a.f_kron(b)?)))
    }),
    ("Tensordot", tensordot),
    ("Cross", cross),
];

type Dims = Vec<Option<i64>>;

/// A product of two tensors: computed in the kind of `rule`, and cast to the promoted kind.
fn product(
    rule: fn(Kind) -> Kind,
    dims: impl Fn(&[Option<i64>], &[Option<i64>]) -> Checked<Dims> + Send + 'static,
    call: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + 'static,
) -> Built {
    single(
        move |args| {
            let [a, b] = operands(args, ["x1", "x2"])?;
            let dims = dims(&a.dims(), &b.dims())?;
            Ok(Spec::new(dims, DType::Tensor(converted(&[a, b])?)))
        },
        move |args| {
            let [a, b] = checked(operands(args, ["x1", "x2"]))?;
            let kind = checked(converted(&[a, b]))?;
            let (compute, device) = (rule(kind), device(args));
            let (a, b) = (a.tensor(compute, device)?, b.tensor(compute, device)?);
            Ok(call(&a, &b)?.f_to_kind(kind)?)
        },
    )
}

/// `Matmul`: of two int8 tensors of two axes at least it gives int32.
fn matmul() -> Built {
    let kinds = |a: &Spec, b: &Spec| -> Checked<(Kind, Kind)> {
        let kind = result_type(&[Type::Strong(kind_of(a)?), Type::Strong(kind_of(b)?)]);
        let small = a.dtype == b.dtype && kind == Kind::Int8;
        if small && a.rank() > 1 && b.rank() > 1 {
            return Ok((Kind::Int, Kind::Int));
        }
        Ok((floating(kind), kind))
    };
    single(
        move |args| {
            let [a, b] = operands(args, ["x1", "x2"])?;
            let (a, b) = (a.spec()?, b.spec()?);
            let dims = matmul_dims(&a.dims, &b.dims)?;
            Ok(Spec::new(dims, DType::Tensor(kinds(&a, &b)?.1)))
        },
        move |args| {
            let [a, b] = checked(operands(args, ["x1", "x2"]))?;
            let specs = (checked(a.spec())?, checked(b.spec())?);
            let (compute, kind) = checked(kinds(&specs.0, &specs.1))?;
            let device = device(args);
            let (a, b) = (a.tensor(compute, device)?, b.tensor(compute, device)?);
            Ok(a.f_matmul(&b)?.f_to_kind(kind)?)
        },
    )
}

/// Demands that two axes that are summed over have one size.
fn same_size(a: Option<i64>, b: Option<i64>) -> Checked<()> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(format!("cannot sum over axes of {a} and {b}")),
        _ => Ok(()),
    }
}

fn matmul_dims(a: &[Option<i64>], b: &[Option<i64>]) -> Checked<Dims> {
    let (Some((inner, head)), true) = (a.split_last(), !b.is_empty()) else {
        return Err("needs inputs of one axis at least".to_owned());
    };
    if let [other] = b {
        same_size(*inner, *other)?;
        return Ok(head.to_vec());
    }
    let (batch, last) = b.split_at(b.len() - 2);
    same_size(*inner, last[0])?;
    let Some((rows, own)) = head.split_last() else {
        return Ok([batch, &last[1..]].concat());
    };
    let joined = broadcast(own, batch);
    let joined = joined.ok_or("needs inputs whose first axes broadcast")?;
    Ok([joined.as_slice(), &[*rows, last[1]]].concat())
}

fn dot_dims(a: &[Option<i64>], b: &[Option<i64>]) -> Checked<Dims> {
    let (Some((inner, head)), Some((last, rest))) = (a.split_last(), b.split_last()) else {
        return Ok([a, b].concat());
    };
    let Some((other, before)) = rest.split_last() else {
        same_size(*inner, *last)?;
        return Ok(head.to_vec());
    };
    same_size(*inner, *other)?;
    Ok([head, before, &[*last]].concat())
}

fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dim() == 0 || b.dim() == 0 {
        return Ok(a.f_mul(b)?);
    }
    let other = if b.dim() == 1 { -1 } else { -2 };
    Ok(a.f_tensordot(b, [-1], [other])?)
}

fn inner_dims(a: &[Option<i64>], b: &[Option<i64>]) -> Checked<Dims> {
    let (Some((inner, head)), Some((other, rest))) = (a.split_last(), b.split_last()) else {
        return Ok([a, b].concat());
    };
    same_size(*inner, *other)?;
    Ok([head, rest].concat())
}

fn kron_dims(a: &[Option<i64>], b: &[Option<i64>]) -> Checked<Dims> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Option<i64>], i: usize| match (i + dims.len()).checked_sub(rank) {
        Some(at) => dims[at],
        None => Some(1),
    };
    Ok((0..rank)
        .map(|i| at(a, i).zip(at(b, i)).map(|(a, b)| a * b))
        .collect())
}

/// Which axes `Tensordot` sums over: so many at the end and the start, or those listed.
#[derive(Debug, Clone)]
enum Summed {
    Count(i64),
    Pairs(Vec<i64>, Vec<i64>),
}

impl Summed {
    fn read(value: &Json) -> Option<Self> {
        match value {
            Json::Number(count) => count.as_i64().filter(|&n| n >= 0).map(Self::Count),
            Json::Array(items) => match items.as_slice() {
                [a, b] => Some(Self::Pairs(list_of_integers(a)?, list_of_integers(b)?)),
                _ => None,
            },
            _ => None,
        }
    }

    fn positions(&self, a: usize, b: usize) -> Checked<(Vec<usize>, Vec<usize>)> {
        match self {
            Self::Count(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                if count > a || count > b {
                    return Err(format!("cannot sum over {count} axes of {a} and {b}"));
                }
                Ok(((a - count..a).collect(), (0..count).collect()))
            }
            Self::Pairs(left, right) if left.len() == right.len() => {
                Ok((positions(left, a)?, positions(right, b)?))
            }
            Self::Pairs(left, right) => Err(format!("cannot pair axes {left:?} with {right:?}")),
        }
    }
}

fn tensordot(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let default = Json::from(2);
    let axes = options.value("axes").unwrap_or(&default);
    let summed = Summed::read(axes);
    let summed = summed.ok_or_else(|| {
        options.invalid(format!(
            "axes = {axes} must be a number of axes or two lists of them"
        ))
    })?;
    let of_call = summed.clone();
    // TensorFlow multiplies these as they are.
    let rule = |kind| match kind {
        Kind::Int | Kind::Int64 => kind,
        other => floating(other),
    };
    Ok(product(
        rule,
        move |a, b| {
            let (left, right) = summed.positions(a.len(), b.len())?;
            for (&at, &other) in left.iter().zip(&right) {
                same_size(a[at], b[other])?;
            }
            let keep = |dims: &[Option<i64>], summed: &[usize]| {
                let kept = dims.iter().enumerate();
                let kept = kept.filter(|(at, _)| !summed.contains(at));
                kept.map(|(_, dim)| *dim).collect::<Vec<_>>()
            };
            Ok([keep(a, &left), keep(b, &right)].concat())
        },
        move |a, b| {
            let (left, right) = checked(of_call.positions(a.dim(), b.dim()))?;
            Ok(a.f_tensordot(b, signed(&left), signed(&right))?)
        },
    ))
}

/// `Cross`: of vectors of two or three elements, along an axis of each.
fn cross(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let all = options.value("axis").and_then(Json::as_i64);
    let axis = |key| Ok::<i64, crate::error::Error>(all.unwrap_or(options.i64(key, -1)?));
    let (a_axis, b_axis, c_axis) = (axis("axisa")?, axis("axisb")?, axis("axisc")?);
    Ok(product(
        super::same,
        move |a, b| {
            let vectors = |dims: &[Option<i64>], axis: i64| -> Checked<(Dims, i64)> {
                let order = moved_order(&[axis], &[-1], dims.len())?;
                let mut dims: Dims = order.into_iter().map(|at| dims[at]).collect();
                match dims.pop().flatten() {
                    Some(size @ (2 | 3)) => Ok((dims, size)),
                    size => Err(format!("needs vectors of 2 or 3 elements, got {size:?}")),
                }
            };
            let ((a, a_size), (b, b_size)) = (vectors(a, a_axis)?, vectors(b, b_axis)?);
            let mut dims = broadcast(&a, &b).ok_or("needs inputs whose shapes broadcast")?;
            if (a_size, b_size) != (2, 2) {
                let at = position(c_axis, dims.len() + 1);
                dims.insert(at.ok_or_else(|| format!("has no axis {c_axis}"))?, Some(3));
            }
            Ok(dims)
        },
        move |a, b| {
            let vectors = |x: &Tensor, axis: i64| -> Result<(Tensor, bool)> {
                let x = x.f_movedim_int(axis, -1)?;
                match x.size().last() {
                    Some(2) => Ok((x.f_pad([0, 1], "constant", 0.0)?, true)),
                    Some(3) => Ok((x, false)),
                    _ => Err(failed("needs vectors of 2 or 3 elements")),
                }
            };
            let ((a, flat_a), (b, flat_b)) = (vectors(a, a_axis)?, vectors(b, b_axis)?);
            let c = a.f_linalg_cross(&b, -1)?;
            if flat_a && flat_b {
                return Ok(c.f_select(-1, 2)?);
            }
            Ok(c.f_movedim_int(-1, c_axis)?)
        },
    ))
}
