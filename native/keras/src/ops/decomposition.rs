//! `keras.ops.linalg`, decompositions of matrices in the last two axes and what is found by them.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::linalg::{batch, square};
use super::operand::{Checked, checked, converted, device, operands};
use super::{Family, operation, several, shaped, single, unary};
use crate::arguments::Tree;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::literals::number;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("CholeskyInverse", cholesky_inverse),
    ("Eigh", |_| Ok(eigh())),
    ("SVD", svd),
    ("LuFactor", |_| Ok(lu_factor())),
    ("Lstsq", lstsq),
    ("MatrixRank", matrix_rank),
    ("Pinv", pinv),
];

/// `CholeskyInverse`: the inverse of the matrix that a triangular factor stands for.
fn cholesky_inverse(scope: &mut Scope<'_>) -> Result<Built> {
    let upper = scope.options.bool("upper", false)?;
    Ok(shaped(square, move |x| {
        let size = x.size().last().copied().unwrap_or(0);
        let identity = Tensor::f_eye(size, (x.kind(), x.device()))?;
        let inverse = x.f_linalg_solve_triangular(&identity, upper, true, false)?;
        let transposed = inverse.f_transpose(-2, -1)?;
        Ok(if upper {
            inverse.f_matmul(&transposed)?
        } else {
            transposed.f_matmul(&inverse)?
        })
    }))
}

/// `Eigh`: eigenvalues, rising, and eigenvectors of the symmetric matrix of which the lower
/// triangle is given.
fn eigh() -> Built {
    several(
        |x| {
            let mut values = batch(x)?;
            values.extend(x.dims.last());
            Ok(vec![x.with_dims(values), x.clone()])
        },
        |x| {
            // All of the gradient is the lower triangle's, as in TensorFlow.
            let lower = x.f_tril(0)?;
            let symmetric = lower.f_add(&x.f_tril(-1)?.f_transpose(-2, -1)?)?;
            let (values, vectors) = symmetric.f_linalg_eigh("L")?;
            Ok(vec![values, vectors])
        },
    )
}

/// The axes before those of a matrix.
type Batch<'a> = &'a [Option<i64>];

/// The axes before those of a matrix, then its rows and columns.
fn matrix(x: &Spec) -> Checked<(Batch<'_>, [Option<i64>; 2])> {
    x.require_float()?;
    match x.dims.as_slice() {
        [head @ .., rows, columns] => Ok((head, [*rows, *columns])),
        _ => Err(format!("needs matrices, got {x}")),
    }
}

/// `U`, singular values and `V`, not transposed.
fn decomposed(x: &Tensor, full_matrices: bool) -> Result<(Tensor, Tensor, Tensor)> {
    Ok(x.f_svd(!full_matrices, true)?)
}

/// Singular values, falling.
pub(super) fn singular_values(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_svd(true, true)?.1)
}

/// `SVD`: `U`, the singular values and the transposed `V`; or only the singular values.
fn svd(scope: &mut Scope<'_>) -> Result<Built> {
    let full = scope.options.bool("full_matrices", true)?;
    let vectors = scope.options.bool("compute_uv", true)?;
    Ok(operation(
        move |args| {
            let x = super::numeric(args)?;
            let (head, [rows, columns]) = matrix(x)?;
            let least = rows.zip(columns).map(|(rows, columns)| rows.min(columns));
            let of = |tail: &[Option<i64>]| x.with_dims([head, tail].concat());
            if !vectors {
                return Ok(Tree::Leaf(of(&[least])));
            }
            let inner = |size| if full { size } else { least };
            Ok(super::listed(vec![
                of(&[rows, inner(rows)]),
                of(&[least]),
                of(&[inner(columns), columns]),
            ]))
        },
        move |args| {
            let x = checked(args.only())?.y()?;
            if !vectors {
                return Ok(Tree::Leaf(singular_values(x)?.into()));
            }
            let (u, s, v) = decomposed(x, full)?;
            let parts = [u, s, v.f_transpose(-2, -1)?];
            Ok(super::listed(parts.map(Value::new).into()))
        },
    ))
}

/// `LuFactor`: `L` and `U` in one matrix, and for each row of the input the row of `L U` that it
/// is. Keras on TensorFlow decomposes one square matrix, no batch of them.
fn lu_factor() -> Built {
    several(
        |x| {
            square(x)?;
            x.require_rank(2)?;
            let rows = Spec::new([x.dims[0]], DType::Tensor(Kind::Int));
            Ok(vec![x.clone(), rows])
        },
        |x| {
            let (permutation, lower, upper) = Tensor::f_linalg_lu(x, true)?;
            let rows = permutation.f_argmax(-1, false)?.f_to_kind(Kind::Int)?;
            Ok(vec![lower.f_tril(-1)?.f_add(&upper)?, rows])
        },
    )
}

/// Distance from 1 to the next number.
fn machine_epsilon(kind: Kind) -> f64 {
    match kind {
        Kind::Double => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

/// The larger of rows and columns.
#[expect(clippy::cast_precision_loss, reason = "as in TensorFlow")]
fn larger_side(x: &Tensor) -> f64 {
    let size = x.size();
    size.iter().rev().take(2).copied().max().unwrap_or(0) as f64
}

/// An option that is a number or null; of several numbers, one for each matrix, Keras's config
/// keeps an array, which is refused.
fn threshold(scope: &Scope<'_>, key: &str) -> Result<Option<f64>> {
    let options = scope.options;
    let wrong = |value: &Json| options.unsupported(key, value, "a number or null");
    let given = options.value(key);
    given
        .map(|value| number(value).ok_or_else(|| wrong(value)))
        .transpose()
}

/// `Lstsq`: the shortest of the vectors `x` for which `a x` is nearest to `b`.
fn lstsq(scope: &mut Scope<'_>) -> Result<Built> {
    let threshold = threshold(scope, "rcond")?;
    Ok(single(
        |args| {
            let [a, b] = operands(args, ["a", "b"])?;
            let kind = converted(&[a, b])?;
            let (a, b) = (a.spec()?, b.spec()?);
            a.require_float()?;
            let ([rows, columns], [own, rest @ ..]) = (a.dims.as_slice(), b.dims.as_slice()) else {
                return Err(format!("needs a matrix and vectors, got {a} and {b}"));
            };
            if rest.len() > 1 || rows.zip(*own).is_some_and(|(rows, own)| rows != own) {
                return Err(format!("cannot solve {a} for {b}"));
            }
            Ok(Spec::new([&[*columns], rest].concat(), DType::Tensor(kind)))
        },
        move |args| {
            let device = device(args);
            let [a, b] = checked(operands(args, ["a", "b"]))?;
            let kind = checked(converted(&[a, b]))?;
            let (a, b) = (a.tensor(kind, device)?, b.tensor(kind, device)?);
            let epsilon = machine_epsilon(kind);
            let share = match threshold {
                None => epsilon * larger_side(&a),
                Some(share) if share < 0.0 => epsilon,
                Some(share) => share,
            };
            let columns = if b.dim() == 1 {
                b.f_unsqueeze(1)?
            } else {
                b.shallow_clone()
            };
            let (u, s, v) = decomposed(&a, false)?;
            let kept = s.f_ge_tensor(&s.f_narrow(0, 0, 1)?.f_mul_scalar(share)?)?;
            let inverse = s
                .f_masked_fill(&kept.f_logical_not()?, f64::INFINITY)?
                .f_reciprocal()?;
            let along = u.f_transpose(0, 1)?.f_matmul(&columns)?;
            let x = v.f_matmul(&along.f_mul(&inverse.f_unsqueeze(1)?)?)?;
            Ok(if b.dim() == 1 { x.f_squeeze_dim(1)? } else { x })
        },
    ))
}

/// The largest singular value of each matrix, beside which others are small.
fn largest(s: &Tensor) -> Result<Tensor> {
    Ok(s.f_amax([-1], true)?)
}

/// `MatrixRank`: how many singular values lie above `tol`.
fn matrix_rank(scope: &mut Scope<'_>) -> Result<Built> {
    let threshold = threshold(scope, "tol")?;
    Ok(unary(
        |x| Ok(Spec::new(matrix(x)?.0.to_vec(), DType::Tensor(Kind::Int))),
        move |x| {
            let s = singular_values(&x.f_detach()?)?;
            let above = match threshold {
                Some(least) => s.f_gt(least)?,
                None => {
                    let share = machine_epsilon(x.kind()) * larger_side(x);
                    s.f_gt_tensor(&largest(&s)?.f_mul_scalar(share)?)?
                }
            };
            Ok(above.f_sum_dim_intlist(-1, false, Kind::Int)?)
        },
    ))
}

/// `Pinv`: the pseudo-inverse; singular values of at most `rcond` times the largest count as 0.
fn pinv(scope: &mut Scope<'_>) -> Result<Built> {
    let threshold = threshold(scope, "rcond")?;
    Ok(shaped(
        |x| {
            let (head, [rows, columns]) = matrix(x)?;
            Ok([head, &[columns, rows]].concat())
        },
        move |x| {
            let share = threshold.unwrap_or(10.0 * larger_side(x) * machine_epsilon(x.kind()));
            let (u, s, v) = decomposed(x, false)?;
            let small = s.f_le_tensor(&largest(&s)?.f_mul_scalar(share)?)?;
            let s = s.f_masked_fill(&small, f64::INFINITY)?;
            let scaled = v.f_div(&s.f_unsqueeze(-2)?)?;
            Ok(scaled.f_matmul(&u.f_transpose(-2, -1)?)?)
        },
    ))
}
