//! `keras.ops` that correlate: variables with each other, and a sequence with another.

use tch::Kind;

use super::operand::{Checked, Described, Operand, checked, converted, device, operands};
use super::{Family, kind_of, precise, single, unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) const OPS: Family = &[("Corrcoef", |_| Ok(corrcoef())), ("Correlate", correlate)];

/// `Corrcoef`: of the rows of a matrix.
fn corrcoef() -> Built {
    unary(
        |x| {
            x.require_rank(2)?;
            let kind = precise(kind_of(x)?);
            Ok(Spec::new([x.dims[0], x.dims[0]], DType::Tensor(kind)))
        },
        |x| {
            let kind = precise(x.kind());
            let samples = x.size()[1];
            let mut mean = x.f_to_kind(kind)?.f_mean_dim(-1, true, kind)?;
            if x.kind() == Kind::Int64 {
                // TensorFlow's mean of integers is one.
                mean = mean.f_trunc()?;
            }
            let centred = x.f_to_kind(kind)?.f_sub(&mean)?;
            let covariance = centred.f_matmul(&centred.f_transpose(0, 1)?)?;
            let covariance = covariance.f_div_scalar(samples - 1)?;
            let deviation = covariance.f_diagonal(0, 0, 1)?.f_sqrt()?;
            let product = deviation.f_unsqueeze(1)?.f_mul(&deviation)?;
            Ok(covariance.f_div(&product)?.f_clamp(-1.0, 1.0)?)
        },
    )
}

/// How far the second sequence goes beyond the ends of the first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// Not at all.
    Valid,
    /// So far that the result has the length of the longer one.
    Same,
    /// As long as one element is left.
    Full,
}

impl Mode {
    fn infer<T: Described>(self, operands: &[Operand<'_, T>; 2]) -> Checked<Spec> {
        let kind = precise(converted(operands)?);
        let ([first], [second]) = (&operands[0].dims()[..], &operands[1].dims()[..]) else {
            return Err("needs two tensors of one axis".to_owned());
        };
        let length = match first.zip(*second) {
            None => None,
            Some((first, second)) => Some(self.length(first, second)?),
        };
        Ok(Spec::new([length], DType::Tensor(kind)))
    }

    fn length(self, first: i64, second: i64) -> Checked<i64> {
        match self {
            Self::Valid if second > first => Err(format!(
                "needs an x1 that is as long as x2 with mode = \"valid\", got {first} and {second}"
            )),
            Self::Valid => Ok(first - second + 1),
            Self::Same => Ok(first.max(second)),
            Self::Full => Ok(first + second - 1),
        }
    }
}

/// `Correlate`: of two sequences, integers in floating point.
fn correlate(scope: &mut Scope<'_>) -> Result<Built> {
    let mode = match scope
        .options
        .choice("mode", "valid", &["valid", "same", "full"])?
    {
        "same" => Mode::Same,
        "full" => Mode::Full,
        _ => Mode::Valid,
    };
    Ok(single(
        move |args| mode.infer(&operands(args, ["x1", "x2"])?),
        move |args| {
            let device = device(args);
            let operands = checked(operands(args, ["x1", "x2"]))?;
            let kind = checked(mode.infer(&operands).and_then(|spec| kind_of(&spec)))?;
            let [first, second] = operands;
            let (first, second) = (first.tensor(kind, device)?, second.tensor(kind, device)?);
            let (n, m) = (first.size()[0], second.size()[0]);
            let margin = if mode == Mode::Valid { 0 } else { m - 1 };
            let padded = first.f_constant_pad_nd([margin, margin])?;
            let all = padded.f_unfold(0, m, 1)?.f_mv(&second)?;
            let length = checked(mode.length(n, m))?;
            Ok(all.f_narrow(0, (all.size()[0] - length) / 2, length)?)
        },
    ))
}
