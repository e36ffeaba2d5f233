//! `keras.ops` that make sequences of numbers along a new axis: evenly spaced ones and powers.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::operand::{Checked, Described, Operand, checked, device, operands};
use super::promotion::{Type, floating, result_type};
use super::{Family, kind_of, single, unary};
use crate::arguments::Args;
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast, position};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Linspace", |scope| {
        // Keras itself cannot record it with the step as a second result.
        scope.options.require("retstep", &Json::Bool(false))?;
        spaced(scope, Scale::Linear)
    }),
    ("Logspace", |scope| {
        let base = scope.options.f64("base", 10.0)?;
        spaced(scope, Scale::Powers(base))
    }),
    ("Geomspace", |scope| spaced(scope, Scale::Geometric)),
    ("Vander", vander),
];

/// What is evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// The numbers.
    Linear,
    /// The exponents of this base; `start` and `stop` are exponents too.
    Powers(f64),
    /// The logarithms.
    Geometric,
}

/// A sequence from `start` to `stop` along a new axis.
#[derive(Debug, Clone, Copy)]
struct Spacing {
    count: i64,
    /// Whether the last number is `stop`; else that would be the next one.
    endpoint: bool,
    axis: i64,
    scale: Scale,
    dtype: Option<Kind>,
}

impl Spacing {
    fn kind<T: Described>(&self, ends: &[Operand<'_, T>; 2]) -> Checked<Kind> {
        match self.dtype {
            Some(kind) => Ok(kind),
            // Keras casts to its default.
            None if self.scale == Scale::Geometric => Ok(Kind::Float),
            None => {
                let [start, stop] = ends;
                Ok(result_type(&[start.weak()?, stop.weak()?, Type::Float]))
            }
        }
    }

    fn infer(&self, args: &Args<Spec>) -> Checked<Spec> {
        let ends = operands(args, ["start", "stop"])?;
        let (start, stop) = (ends[0].spec()?, ends[1].spec()?);
        let dims = broadcast(&start.dims, &stop.dims);
        let mut dims = dims.ok_or_else(|| format!("cannot broadcast {start} and {stop}"))?;
        let at = position(self.axis, dims.len() + 1);
        let at = at.ok_or_else(|| format!("has no axis {}", self.axis))?;
        dims.insert(at, Some(self.count));
        // Keras multiplies by the signs of `start` without the new axis.
        let signed = broadcast(&dims, &start.dims).is_some_and(|joined| joined == dims);
        if self.scale == Scale::Geometric && !signed {
            return Err(format!(
                "cannot have axis {} with start {start}: only axis 0, or numbers",
                self.axis
            ));
        }
        Ok(Spec::new(dims, DType::Tensor(self.kind(&ends)?)))
    }

    fn call(&self, args: &Args<Value>) -> Result<Tensor> {
        let device = device(args);
        let ends = checked(operands(args, ["start", "stop"]))?;
        let kind = checked(self.kind(&ends))?;
        let (start, stop) = (ends[0].tensor(kind, device)?, ends[1].tensor(kind, device)?);
        Ok(match self.scale {
            Scale::Linear => self.line(&start, &stop)?,
            Scale::Powers(base) => self.powers(base, &start, &stop)?,
            Scale::Geometric => {
                let exponent = |end: &Tensor| -> Result<Tensor> {
                    Ok(end.f_abs()?.f_log()?.f_div_scalar(10.0_f64.ln())?)
                };
                let sizes = self.powers(10.0, &exponent(&start)?, &exponent(&stop)?)?;
                sizes.f_mul(&start.f_sign()?)?
            }
        })
    }

    fn powers(&self, base: f64, start: &Tensor, stop: &Tensor) -> Result<Tensor> {
        let exponents = self.line(start, stop)?;
        let base = Tensor::f_full([1; 0], base, (exponents.kind(), exponents.device()))?;
        Ok(base.f_pow(&exponents)?)
    }

    /// The numbers in the dtype of both ends, those between integers rounded down.
    fn line(&self, start: &Tensor, stop: &Tensor) -> Result<Tensor> {
        let kind = start.kind();
        let compute = if is_float(kind) { kind } else { Kind::Double };
        let (start, mut stop) = (start.f_to_kind(compute)?, stop.f_to_kind(compute)?);
        if !self.endpoint && self.count > 1 {
            let step = stop.f_sub(&start)?.f_div_scalar(self.count)?;
            stop = stop.f_sub(&step)?;
        }
        let ends = Tensor::f_broadcast_tensors(&[&start, &stop])?;
        let [start, stop] = ends.as_slice() else {
            return Err(super::failed("needs two ends"));
        };
        let steps = (self.count - 1).max(1);
        let step = stop.f_sub(start)?.f_div_scalar(steps)?;
        let shape = [vec![-1], vec![1; start.dim()]].concat();
        let between = Tensor::f_arange_start(1, steps, (Kind::Int64, start.device()))?;
        let between = between.f_to_kind(compute)?.f_reshape(shape)?;
        let between = start.f_add(&step.f_mul(&between)?)?;
        let all = [start.f_unsqueeze(0)?, between, stop.f_unsqueeze(0)?];
        let line = Tensor::f_cat(&all, 0)?.f_narrow(0, 0, self.count)?;
        let line = if is_float(kind) {
            line
        } else {
            line.f_floor()?
        };
        Ok(line.f_to_kind(kind)?.f_movedim_int(0, self.axis)?)
    }
}

fn spaced(scope: &mut Scope<'_>, scale: Scale) -> Result<Built> {
    let options = scope.options;
    let spacing = Spacing {
        count: options.i64("num", 50)?,
        endpoint: options.bool("endpoint", true)?,
        axis: options.i64("axis", 0)?,
        scale,
        dtype: super::casting::dtype(options)?,
    };
    if spacing.count < 0 {
        return Err(options.invalid("num must not be negative"));
    }
    if let (Scale::Geometric, Some(kind)) = (scale, spacing.dtype)
        && !is_float(kind)
    {
        let value = options.value("dtype").unwrap_or(&Json::Null);
        return Err(options.unsupported("dtype", value, "floating-point dtypes"));
    }
    Ok(single(
        move |args| spacing.infer(args),
        move |args| spacing.call(args),
    ))
}

/// `Vander`: the powers of each element of a vector, `N` of them or as many as there are elements.
fn vander(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let given = options
        .value("N")
        .map(|_| options.i64("N", 0))
        .transpose()?;
    if given.is_some_and(|count| count < 0) {
        return Err(options.invalid("N must not be negative"));
    }
    let increasing = options.bool("increasing", false)?;
    Ok(unary(
        move |x| {
            x.require_rank(1)?;
            kind_of(x)?;
            Ok(x.with_dims([x.dims[0], given.or(x.dims[0])]))
        },
        move |x| {
            let compute = floating(x.kind());
            let count = given.unwrap_or_else(|| x.size().first().copied().unwrap_or(0));
            let exponents = Tensor::f_arange(count, (compute, x.device()))?;
            let exponents = if increasing {
                exponents
            } else {
                exponents.f_flip([0])?
            };
            let powers = x.f_to_kind(compute)?.f_unsqueeze(1)?.f_pow(&exponents)?;
            Ok(powers.f_to_kind(x.kind())?)
        },
    ))
}
