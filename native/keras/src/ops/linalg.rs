//! `keras.ops.linalg`, on matrices in the last two axes, and norms.

use serde_json::Value as Json;
use tch::Tensor;

use super::axes::{Axes, reduced_dims, signed};
use super::decomposition::singular_values;
use super::operand::{Checked, checked, converted, device, operands};
use super::promotion::floating;
use super::{Family, kind_of, several, shaped, single, unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::literals::number;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};

pub(super) const OPS: Family = &[
    ("Norm", norm),
    ("CDist", |_| Ok(cdist())),
    ("Det", |_| {
        Ok(shaped(batch, |x| Ok(Tensor::f_linalg_det(x)?)))
    }),
    ("Logdet", |_| Ok(shaped(batch, |x| Ok(x.f_logdet()?)))),
    ("Slogdet", |_| {
        Ok(several(
            |x| batch(x).map(|dims| vec![x.with_dims(dims); 2]),
            |x| {
                let (sign, logarithm) = Tensor::f_linalg_slogdet(x)?;
                Ok(vec![sign, logarithm])
            },
        ))
    }),
    ("Inv", |_| {
        Ok(shaped(square, |x| Ok(Tensor::f_linalg_inv(x)?)))
    }),
    ("Cholesky", |scope| {
        let upper = scope.options.bool("upper", false)?;
        Ok(shaped(square, move |x| {
            // Keras reads the lower triangle in any case.
            let lower = x.f_linalg_cholesky(false)?;
            Ok(if upper {
                lower.f_transpose(-2, -1)?
            } else {
                lower
            })
        }))
    }),
    ("Qr", qr),
    ("Solve", |_| {
        Ok(solve(|a, b| Ok(Tensor::f_linalg_solve(a, b, true)?)))
    }),
    ("SolveTriangular", |scope| {
        let lower = scope.options.bool("lower", false)?;
        Ok(solve(move |a, b| {
            Ok(a.f_linalg_solve_triangular(b, !lower, true, false)?)
        }))
    }),
];

pub(super) fn square(x: &Spec) -> Checked<Vec<Option<i64>>> {
    batch(x).map(|_| x.dims.clone())
}

/// The axes before those of a square matrix.
pub(super) fn batch(x: &Spec) -> Checked<Vec<Option<i64>>> {
    x.require_float()?;
    match x.dims.as_slice() {
        [head @ .., rows, columns] if rows.is_none() || columns.is_none() || rows == columns => {
            Ok(head.to_vec())
        }
        _ => Err(format!("needs square matrices, got {x}")),
    }
}

fn qr(scope: &mut Scope<'_>) -> Result<Built> {
    let mode = scope
        .options
        .choice("mode", "reduced", &["reduced", "complete"])?;
    Ok(several(
        move |x| {
            let [head @ .., rows, columns] = x.dims.as_slice() else {
                return Err(format!("needs matrices, got {x}"));
            };
            let inner = match mode {
                "complete" => *rows,
                _ => rows.zip(*columns).map(|(rows, columns)| rows.min(columns)),
            };
            let q = x.with_dims([head, &[*rows, inner]].concat());
            Ok(vec![q, x.with_dims([head, &[inner, *columns]].concat())])
        },
        move |x| {
            let (q, r) = Tensor::f_linalg_qr(x, mode)?;
            Ok(vec![q, r])
        },
    ))
}

/// Equations with matrices `a`; with one axis less, `b` holds vectors.
fn solve(call: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + 'static) -> Built {
    single(
        |args| {
            let [a, b] = operands(args, ["a", "b"])?;
            let kind = converted(&[a, b])?;
            let (a, b) = (a.spec()?, b.spec()?);
            let head = batch(&a)?;
            let vectors = b.rank() + 1 == a.rank();
            let tail = if vectors { 1 } else { 2 };
            let own = b.rank().checked_sub(tail).ok_or("has too few axes")?;
            let joined = broadcast(&head, &b.dims[..own]);
            let joined = joined.ok_or_else(|| format!("cannot solve {a} for {b}"))?;
            Ok(Spec::new(
                [&joined, &b.dims[own..]].concat(),
                DType::Tensor(kind),
            ))
        },
        move |args| {
            let device = device(args);
            let [a, b] = checked(operands(args, ["a", "b"]))?;
            let kind = checked(converted(&[a, b]))?;
            let (a, b) = (a.tensor(kind, device)?, b.tensor(kind, device)?);
            if b.dim() + 1 == a.dim() {
                return Ok(call(&a, &b.f_unsqueeze(-1)?)?.f_squeeze_dim(-1)?);
            }
            call(&a, &b)
        },
    )
}

/// `CDist`: the distances of the rows of one matrix from those of another.
fn cdist() -> Built {
    single(
        |args| {
            let [x, y] = operands(args, ["x", "y"])?;
            let kind = floating(converted(&[x, y])?);
            let (x, y) = (x.spec()?, y.spec()?);
            let wrong = || format!("needs rows of one length, got {x} and {y}");
            let ([own @ .., rows, length], [other @ .., columns, same]) =
                (x.dims.as_slice(), y.dims.as_slice())
            else {
                return Err(wrong());
            };
            let joined = broadcast(&[own, &[*length]].concat(), &[other, &[*same]].concat());
            let mut dims = joined.ok_or_else(wrong)?;
            dims.pop();
            dims.extend([*rows, *columns]);
            Ok(Spec::new(dims, DType::Tensor(kind)))
        },
        |args| {
            let device = device(args);
            let [x, y] = checked(operands(args, ["x", "y"]))?;
            let kind = floating(checked(converted(&[x, y]))?);
            let (x, y) = (x.tensor(kind, device)?, y.tensor(kind, device)?);
            let difference = x.f_unsqueeze(-2)?.f_sub(&y.f_unsqueeze(-3)?)?;
            let squares = difference.f_square()?;
            Ok(squares.f_sum_dim_intlist(-1, false, kind)?.f_sqrt()?)
        },
    )
}

/// Keras's `ord`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    /// The root of the sum of squares, of vectors and matrices.
    Frobenius,
    /// The sum of the singular values of a matrix.
    Nuclear,
    /// A number; of matrices only 1, -1, the infinities, and 2 and -2 for the largest and the least
    /// singular value.
    Number(f64),
}

/// `Norm`: of vectors along one axis, of matrices along two; of one or two axes without `axis`.
fn norm(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::read(options, "axis")?;
    let keepdims = options.bool("keepdims", false)?;
    let rank = scope.input()?.rank();
    let count = axes
        .positions(rank)
        .map_err(|reason| scope.mismatch(reason))?
        .len();
    let supported = "null, and of vectors any number, of matrices \"fro\", \"nuc\", 1, -1, 2, -2, \
                     inf, -inf";
    let refused = |value: &Json| options.unsupported("ord", value, supported);
    let order = match options.value("ord") {
        None => Order::Frobenius,
        Some(Json::String(name)) if name == "fro" && count == 2 => Order::Frobenius,
        Some(Json::String(name)) if name == "nuc" && count == 2 => Order::Nuclear,
        Some(value) => Order::Number(number(value).ok_or_else(|| refused(value))?),
    };
    match order {
        Order::Number(ord) if count == 2 && ![1.0, 2.0, f64::INFINITY].contains(&ord.abs()) => {
            return Err(refused(options.value("ord").unwrap_or(&Json::Null)));
        }
        Order::Number(2.0) | Order::Frobenius | Order::Nuclear => {}
        Order::Number(_) if count > 2 => {
            return Err(refused(options.value("ord").unwrap_or(&Json::Null)));
        }
        Order::Number(_) => {}
    }
    // Matrices: the axis summed over comes first.
    let listed = match &axes {
        Axes::Listed(axes) => axes.clone(),
        Axes::All => (0..i64::try_from(rank).unwrap_or(0)).collect(),
    };
    Ok(unary(
        move |x| {
            let dims = reduced_dims(&x.dims, &axes.positions(x.rank())?, keepdims);
            Ok(Spec::new(dims, DType::Tensor(floating(kind_of(x)?))))
        },
        move |x| {
            let x = x.f_to_kind(floating(x.kind()))?;
            let at = checked(super::axes::positions(&listed, x.dim()))?;
            let norm = norm_of(&x, &signed(&at), order)?;
            if keepdims {
                return Ok(norm);
            }
            Ok(norm.f_squeeze_dims(signed(&at))?)
        },
    ))
}

/// The norm, with axes of 1 in place of `axes`.
fn norm_of(x: &Tensor, axes: &[i64], order: Order) -> Result<Tensor> {
    let kind = x.kind();
    let sum = |x: &Tensor, axes: &[i64]| x.f_sum_dim_intlist(axes, true, kind);
    let order = match (order, axes) {
        (Order::Nuclear, &[rows, columns]) => return by_singular_values(x, [rows, columns], 0.0),
        (Order::Number(order), &[rows, columns]) if order.abs() == 2.0 => {
            return by_singular_values(x, [rows, columns], order);
        }
        (Order::Number(order), _) if order != 2.0 => order,
        _ => return Ok(sum(&x.f_square()?, axes)?.f_sqrt()?),
    };
    let absolute = x.f_abs()?;
    let (absolute, last) = match axes {
        [rows, columns] if order.is_infinite() => (sum(&absolute, &[*columns])?, *rows),
        [rows, columns] => (sum(&absolute, &[*rows])?, *columns),
        [axis] => (absolute, *axis),
        _ => return Ok(absolute),
    };
    let matrix = axes.len() == 2;
    Ok(match order {
        f64::INFINITY => absolute.f_amax([last], true)?,
        f64::NEG_INFINITY => absolute.f_amin([last], true)?,
        1.0 if matrix => absolute.f_amax([last], true)?,
        _ if matrix => absolute.f_amin([last], true)?,
        0.0 => sum(&x.f_detach()?.f_ne(0.0)?, &[last])?,
        _ => {
            let powers = sum(&absolute.f_pow_tensor_scalar(order)?, &[last])?;
            powers.f_pow_tensor_scalar(1.0 / order)?
        }
    })
}

/// The largest singular value of the matrices in two axes if `order` is positive, the least if it
/// is negative, and the sum of all if it is 0; with axes of 1 in place of the two.
fn by_singular_values(x: &Tensor, axes: [i64; 2], order: f64) -> Result<Tensor> {
    let s = singular_values(&x.f_movedim(axes, [-2, -1])?)?;
    let mut norm = if order > 0.0 {
        s.f_amax([-1], false)?
    } else if order < 0.0 {
        s.f_amin([-1], false)?
    } else {
        s.f_sum_dim_intlist(-1, false, x.kind())?
    };
    for axis in [axes[0].min(axes[1]), axes[0].max(axes[1])] {
        norm = norm.f_unsqueeze(axis)?;
    }
    Ok(norm)
}
