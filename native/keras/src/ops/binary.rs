//! `keras.ops` on the elements of two tensors of shapes that broadcast: arithmetic, comparisons,
//! logic and bits.

use tch::{Kind, TchError, Tensor};

use super::operand::{Checked, Described, Operand, checked, converted, device, operands, promoted};
use super::promotion::{Type, floating, result_type};
use super::{Family, bool_as_int32, precise, single};
use crate::arguments::Args;
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Add", |_| map(Rule::Arithmetic, |a, b| a.f_add(b))),
    ("Subtract", |_| map(Rule::Arithmetic, |a, b| a.f_sub(b))),
    ("Multiply", |_| map(Rule::Arithmetic, |a, b| a.f_mul(b))),
    ("Divide", |_| map(Rule::Quotient, |a, b| a.f_div(b))),
    ("TrueDivide", |_| map(Rule::Quotient, |a, b| a.f_div(b))),
    ("DivideNoNan", |_| map(Rule::Quotient, divide_no_nan)),
    ("FloorDivide", |_| map(Rule::Arithmetic, floor_divide)),
    ("Mod", |_| {
        map(Rule::Integral, |a, b| a.f_remainder_tensor(b))
    }),
    ("Fmod", |_| map(Rule::Integral, truncated_mod)),
    ("Power", |_| Ok(power())),
    ("Maximum", |_| map(Rule::Arithmetic, maximum)),
    ("Minimum", |_| map(Rule::Arithmetic, minimum)),
    ("Fmax", |_| {
        map(Rule::Arithmetic, |a, b| without_nan(a, b, maximum))
    }),
    ("Fmin", |_| {
        map(Rule::Arithmetic, |a, b| without_nan(a, b, minimum))
    }),
    ("Arctan2", |_| map(Rule::FloatTensors, |a, b| a.f_atan2(b))),
    ("Hypot", |_| map(Rule::Precise, |a, b| a.f_hypot(b))),
    ("Heaviside", |_| map(Rule::Precise, heaviside)),
    ("Ldexp", |_| {
        map(Rule::FloatTensors, |a, b| a.f_mul(&b.f_exp2()?))
    }),
    ("Logaddexp", |_| {
        map(Rule::FloatTensors, |a, b| a.f_logaddexp(b))
    }),
    ("Logaddexp2", |_| {
        map(Rule::FloatTensors, |a, b| a.f_logaddexp2(b))
    }),
    ("Nextafter", |_| map(Rule::FloatTensors, next_after)),
    ("Gcd", |_| map(Rule::Tensors, |a, b| a.f_gcd(b))),
    ("Lcm", |_| map(Rule::Tensors, |a, b| a.f_lcm(b))),
    ("BitwiseAnd", |_| {
        map(Rule::Tensors, |a, b| a.f_bitwise_and_tensor(b))
    }),
    ("BitwiseOr", |_| {
        map(Rule::Tensors, |a, b| a.f_bitwise_or_tensor(b))
    }),
    ("BitwiseXor", |_| {
        map(Rule::Tensors, |a, b| a.f_bitwise_xor_tensor(b))
    }),
    ("BitwiseLeftShift", |_| {
        map(Rule::Arithmetic, |a, b| a.f_bitwise_left_shift(b))
    }),
    ("LeftShift", |_| {
        map(Rule::Arithmetic, |a, b| a.f_bitwise_left_shift(b))
    }),
    ("BitwiseRightShift", |_| {
        map(Rule::Arithmetic, |a, b| a.f_bitwise_right_shift(b))
    }),
    ("RightShift", |_| {
        map(Rule::Arithmetic, |a, b| a.f_bitwise_right_shift(b))
    }),
    ("Equal", |_| compare(Rule::Tensors, |a, b| a.f_eq_tensor(b))),
    ("NotEqual", |_| {
        compare(Rule::Tensors, |a, b| a.f_ne_tensor(b))
    }),
    ("Greater", |_| {
        compare(Rule::Tensors, |a, b| a.f_gt_tensor(b))
    }),
    ("GreaterEqual", |_| {
        compare(Rule::Tensors, |a, b| a.f_ge_tensor(b))
    }),
    ("Less", |_| compare(Rule::Tensors, |a, b| a.f_lt_tensor(b))),
    ("LessEqual", |_| {
        compare(Rule::Tensors, |a, b| a.f_le_tensor(b))
    }),
    ("LogicalAnd", |_| {
        compare(Rule::Truth, |a, b| a.f_logical_and(b))
    }),
    ("LogicalOr", |_| {
        compare(Rule::Truth, |a, b| a.f_logical_or(b))
    }),
    ("LogicalXor", |_| {
        compare(Rule::Truth, |a, b| a.f_logical_xor(b))
    }),
    ("Isclose", is_close),
    ("AllClose", all_close),
    ("IsIn", is_in),
];

/// What two operands are cast to.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Python's numbers take the tensor's dtype.
    Arithmetic,
    /// The same, and integers become float32.
    Quotient,
    /// Python's numbers become tensors of int32 or float32 first.
    Tensors,
    /// The same, and integers become float32.
    FloatTensors,
    /// As `Tensors`, and int64 becomes float64, other integers float32.
    Precise,
    /// As `Tensors`, and booleans become int32.
    Integral,
    /// Booleans.
    Truth,
}

impl Rule {
    fn kind<T: Described>(self, operands: &[Operand<'_, T>]) -> Checked<Kind> {
        Ok(match self {
            Self::Arithmetic => promoted(operands)?,
            Self::Quotient => {
                let types = operands.iter().map(Operand::weak);
                let mut types = types.collect::<Checked<Vec<_>>>()?;
                types.push(Type::Float);
                result_type(&types)
            }
            Self::Tensors => converted(operands)?,
            Self::FloatTensors => floating(converted(operands)?),
            Self::Precise => precise(converted(operands)?),
            Self::Integral => bool_as_int32(converted(operands)?),
            Self::Truth => Kind::Bool,
        })
    }
}

/// The axes of all operands under broadcasting.
pub(super) fn broadcast_all<T: Described>(
    operands: &[Operand<'_, T>],
) -> Checked<Vec<Option<i64>>> {
    let mut dims: Vec<Option<i64>> = Vec::new();
    for operand in operands {
        let other = operand.dims();
        let joined = broadcast(&dims, &other);
        dims = joined.ok_or_else(|| {
            let (a, b) = (Spec::new(dims, DType::BOOL), Spec::new(other, DType::BOOL));
            format!("needs inputs whose shapes broadcast, got {a} and {b}")
        })?;
    }
    Ok(dims)
}

type Binary = fn(&Tensor, &Tensor) -> Result<Tensor, TchError>;

/// An operation whose result has the dtype of its operands.
fn map(rule: Rule, call: Binary) -> Result<Built> {
    Ok(single(
        move |args| {
            let operands = operands(args, ["x1", "x2"])?;
            let dtype = DType::Tensor(rule.kind(&operands)?);
            Ok(Spec::new(broadcast_all(&operands)?, dtype))
        },
        move |args| {
            let (a, b) = pair(args, rule)?;
            Ok(call(&a, &b)?)
        },
    ))
}

/// An operation whose result is boolean.
fn compare(rule: Rule, call: Binary) -> Result<Built> {
    Ok(single(
        move |args| {
            let operands = operands(args, ["x1", "x2"])?;
            rule.kind(&operands)?;
            Ok(Spec::new(broadcast_all(&operands)?, DType::BOOL))
        },
        move |args| {
            let (a, b) = pair(args, rule)?;
            Ok(call(&a, &b)?)
        },
    ))
}

/// The two operands in the dtype of the rule.
fn pair(args: &Args<Value>, rule: Rule) -> Result<(Tensor, Tensor)> {
    let operands = checked(operands(args, ["x1", "x2"]))?;
    let kind = checked(rule.kind(&operands))?;
    let device = device(args);
    let [a, b] = operands;
    Ok((a.tensor(kind, device)?, b.tensor(kind, device)?))
}

fn divide_no_nan(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let zero = b.f_eq(0.0)?;
    let quotient = a.f_div(&b.f_masked_fill(&zero, 1.0)?)?;
    quotient.f_masked_fill(&zero.f_expand_as(&quotient)?, 0.0)
}

/// TensorFlow has no gradient of it.
fn floor_divide(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    a.f_detach()?.f_div_tensor_mode(&b.f_detach()?, "floor")
}

/// The remainder with the sign of the dividend.
fn truncated_mod(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    a.f_sign()?
        .f_mul(&a.f_abs()?.f_remainder_tensor(&b.f_abs()?)?)
}

/// The larger of two, NaN if one is; as in TensorFlow, the first takes the gradient of a tie, the
/// second that of NaN.
fn maximum(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    if !a.requires_grad() && !b.requires_grad() {
        return a.f_maximum(b);
    }
    a.f_where_self(&a.f_ge_tensor(b)?, &nan_of(a, b)?)
}

/// As [`maximum`], the smaller.
fn minimum(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    if !a.requires_grad() && !b.requires_grad() {
        return a.f_minimum(b);
    }
    a.f_where_self(&a.f_le_tensor(b)?, &nan_of(a, b)?)
}

/// `b`, or NaN where `a` is; the gradient is `b`'s.
fn nan_of(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    if !b.is_floating_point() {
        return Ok(b.shallow_clone());
    }
    b.f_add_scalar(f64::NAN)?.f_where_self(&a.f_isnan()?, b)
}

/// One of two by `choose`, unless it is NaN and the other is not.
fn without_nan(a: &Tensor, b: &Tensor, choose: Binary) -> Result<Tensor, TchError> {
    let chosen = choose(a, b)?;
    let (no_a, no_b) = (a.f_isnan()?, b.f_isnan()?);
    let chosen = b.f_where_self(&no_a.f_logical_and(&no_b.f_logical_not()?)?, &chosen)?;
    a.f_where_self(&no_b.f_logical_and(&no_a.f_logical_not()?)?, &chosen)
}

/// 0 below 0, 1 above, `b` at 0; only `b` has a gradient.
fn heaviside(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let a = a.f_detach()?;
    let step = a.f_gt(0.0)?.f_to_kind(b.kind())?;
    b.f_where_self(&a.f_eq(0.0)?, &step)
}

/// In double precision and rounded, as Keras does, which for float32 gives mostly `a` back, whose
/// gradient it has; `b`'s is zero.
fn next_after(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let next = a.f_detach()?.f_to_kind(Kind::Double)?;
    let next = next.f_nextafter(&b.f_detach()?.f_to_kind(Kind::Double)?)?;
    let next = next.f_to_kind(a.kind())?;
    if !a.requires_grad() && !b.requires_grad() {
        return Ok(next);
    }
    next.f_add(&zero_of(a)?)?
        .f_add(&zero_of(b)?.f_mul_scalar(0.0)?)
}

/// Zeros that pass gradients on.
fn zero_of(x: &Tensor) -> Result<Tensor, TchError> {
    // Infinities less themselves are NaN.
    x.f_sub(&x.f_detach()?)?.f_nan_to_num(0.0, 0.0, 0.0)
}

/// `Power`; a constant exponent takes libtorch's faster ways.
fn power() -> Built {
    let rule = Rule::Arithmetic;
    single(
        move |args| {
            let operands = operands(args, ["x1", "x2"])?;
            let dtype = DType::Tensor(rule.kind(&operands)?);
            Ok(Spec::new(broadcast_all(&operands)?, dtype))
        },
        move |args| {
            let (base, exponent) = pair(args, rule)?;
            let [_, given] = checked(operands(args, ["x1", "x2"]))?;
            if let Operand::Constant(value) = given
                && let Some(exponent) = crate::literals::number(value)
                && is_float(base.kind())
            {
                return Ok(base.f_pow_tensor_scalar(exponent)?);
            }
            Ok(base.f_pow(&exponent)?)
        },
    )
}

/// Where two tensors are as close as `rtol` and `atol` say; integers must be equal.
fn close(args: &Args<Value>, rtol: f64, atol: f64, equal_nan: bool) -> Result<Tensor> {
    let (a, b) = pair(args, Rule::Tensors)?;
    let (a, b) = (a.f_detach()?, b.f_detach()?);
    if !is_float(a.kind()) {
        return Ok(a.f_eq_tensor(&b)?);
    }
    let bound = b.f_abs()?.f_mul_scalar(rtol)?.f_add_scalar(atol)?;
    let near = a.f_sub(&b)?.f_abs()?.f_le_tensor(&bound)?;
    if !equal_nan {
        return Ok(near);
    }
    Ok(near.f_logical_or(&a.f_isnan()?.f_logical_and(&b.f_isnan()?)?)?)
}

fn is_close(scope: &mut Scope<'_>) -> Result<Built> {
    let equal_nan = scope.options.bool("equal_nan", false)?;
    let bound = |args: &Args<Value>, position, name, default| {
        let value = args.constant(position, name);
        value.map_or(Some(default), crate::literals::number)
    };
    Ok(single(
        |args| {
            let operands = operands(args, ["x1", "x2"])?;
            Ok(Spec::new(broadcast_all(&operands)?, DType::BOOL))
        },
        move |args| {
            let rtol = bound(args, 2, "rtol", 1e-5);
            let atol = bound(args, 3, "atol", 1e-8);
            let (Some(rtol), Some(atol)) = (rtol, atol) else {
                return Err(super::failed("takes numbers as rtol and atol"));
            };
            close(args, rtol, atol, equal_nan)
        },
    ))
}

fn all_close(scope: &mut Scope<'_>) -> Result<Built> {
    let rtol = scope.options.f64("rtol", 1e-5)?;
    let atol = scope.options.f64("atol", 1e-8)?;
    let equal_nan = scope.options.bool("equal_nan", false)?;
    Ok(single(
        |args| {
            broadcast_all(&operands(args, ["x1", "x2"])?)?;
            Ok(Spec::new([], DType::BOOL))
        },
        move |args| {
            let near = close(args, rtol, atol, equal_nan)?;
            let (a, b) = pair(args, Rule::Tensors)?;
            Ok(near.f_logical_or(&a.f_eq_tensor(&b)?)?.f_all()?)
        },
    ))
}

fn is_in(scope: &mut Scope<'_>) -> Result<Built> {
    let unique = scope.options.bool("assume_unique", false)?;
    let invert = scope.options.bool("invert", false)?;
    Ok(single(
        |args| {
            let [elements, _] = operands(args, ["x1", "x2"])?;
            Ok(Spec::new(elements.dims(), DType::BOOL))
        },
        move |args| {
            let (elements, among) = pair(args, Rule::Tensors)?;
            let elements = elements.f_detach()?;
            Ok(Tensor::f_isin(
                &elements,
                &among.f_detach()?,
                unique,
                invert,
            )?)
        },
    ))
}
