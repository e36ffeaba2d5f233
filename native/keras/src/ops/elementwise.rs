//! `keras.ops` on each element of one tensor. The dtypes are those of Keras's TensorFlow backend:
//! most functions turn integers into float32.

use tch::{Kind, TchError, Tensor};

use super::promotion::floating;
use super::{Family, bool_as_int32, elementwise, precise, same};
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

pub(super) const OPS: Family = &[
    ("Absolute", |_| map(same, absolute)),
    ("Abs", |_| map(same, absolute)),
    ("Fabs", |_| map(floating, |x| x.f_abs())),
    ("Negative", |_| map(same, |x| x.f_neg())),
    ("Sign", |_| map(same, |x| x.f_sign())),
    ("Reciprocal", |_| map(same, |x| x.f_reciprocal())),
    ("Square", |_| map(bool_as_int32, |x| x.f_square())),
    ("Sqrt", |_| map(floating, |x| x.f_sqrt())),
    ("Rsqrt", |_| map(same, |x| x.f_rsqrt())),
    ("Cbrt", |_| map(precise, cube_root)),
    ("Exp", |_| map(floating, |x| x.f_exp())),
    ("Exp2", |_| map(floating, |x| x.f_exp2())),
    ("Expm1", |_| map(floating, |x| x.f_expm1())),
    ("Log", |_| map(floating, |x| x.f_log())),
    ("Log10", |_| map(floating, |x| x.f_log10())),
    ("Log1p", |_| map(floating, |x| x.f_log1p())),
    ("Log2", |_| map(floating, |x| x.f_log2())),
    ("Sin", |_| map(floating, |x| x.f_sin())),
    ("Cos", |_| map(floating, |x| x.f_cos())),
    ("Tan", |_| map(floating, |x| x.f_tan())),
    ("Sinh", |_| map(floating, |x| x.f_sinh())),
    ("Cosh", |_| map(floating, |x| x.f_cosh())),
    ("Tanh", |_| map(floating, |x| x.f_tanh())),
    ("Arcsin", |_| map(floating, |x| x.f_asin())),
    ("Arccos", |_| map(floating, |x| x.f_acos())),
    ("Arctan", |_| map(floating, |x| x.f_atan())),
    ("Arcsinh", |_| map(floating, |x| x.f_asinh())),
    ("Arccosh", |_| map(floating, |x| x.f_acosh())),
    ("Arctanh", |_| map(floating, |x| x.f_atanh())),
    ("Sinc", |_| map(floating, |x| x.f_sinc())),
    ("I0", |_| map(precise, |x| x.f_i0())),
    ("Erf", |_| map(same, |x| x.f_erf())),
    ("Erfc", |_| map(same, |x| x.f_erfc())),
    ("Erfinv", |_| map(same, |x| x.f_erfinv())),
    ("Deg2rad", |_| map(precise, |x| x.f_deg2rad())),
    ("Rad2deg", |_| map(precise, |x| x.f_rad2deg())),
    // TensorFlow has no gradients of the roundings.
    ("Floor", |_| map(floating, |x| x.f_detach()?.f_floor())),
    ("Ceil", |_| map(floating, |x| x.f_detach()?.f_ceil())),
    ("Trunc", |_| map(same, truncated)),
    ("Round", round),
    ("Real", |_| map(same, |x| Ok(x.shallow_clone()))),
    ("Imag", |_| map(same, |x| x.f_detach()?.f_zeros_like())),
    ("Conjugate", |_| map(same, |x| Ok(x.shallow_clone()))),
    ("Conj", |_| map(same, |x| Ok(x.shallow_clone()))),
    ("Angle", |_| map(floating, |x| x.f_detach()?.f_angle())),
    ("Copy", |_| map(same, |x| Ok(x.shallow_clone()))),
    ("StopGradient", |_| map(same, |x| x.f_detach())),
    ("BitwiseInvert", |_| map(same, |x| x.f_bitwise_not())),
    ("BitwiseNot", |_| map(same, |x| x.f_bitwise_not())),
    ("LogicalNot", |_| map(boolean, |x| x.f_logical_not())),
    ("Isfinite", |_| test(|x| x.f_isfinite())),
    ("Isinf", |_| test(|x| x.f_isinf())),
    ("Isnan", |_| test(|x| x.f_isnan())),
    ("Isneginf", |_| test(|x| x.f_eq(f64::NEG_INFINITY))),
    ("Isposinf", |_| test(|x| x.f_eq(f64::INFINITY))),
    ("Isreal", |_| test(|x| x.f_isreal())),
    ("Signbit", |_| test(|x| x.f_signbit())),
    ("NanToNum", nan_to_num),
    ("Clip", clip),
];

fn map(rule: fn(Kind) -> Kind, call: fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Built> {
    Ok(elementwise(rule, call))
}

/// A question about each element.
fn test(call: fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Built> {
    Ok(super::unary(
        |x| Ok(x.with_dtype(crate::dtype::DType::BOOL)),
        move |x| Ok(call(&x.f_detach()?)?),
    ))
}

/// The rule of operations on truth values.
fn boolean(_: Kind) -> Kind {
    Kind::Bool
}

fn absolute(x: &Tensor) -> Result<Tensor, TchError> {
    match x.kind() {
        Kind::Bool | Kind::Uint8 => Ok(x.shallow_clone()),
        _ => x.f_abs(),
    }
}

/// As TensorFlow's backend has it, so that gradients agree.
fn cube_root(x: &Tensor) -> Result<Tensor, TchError> {
    let root = x.f_abs()?.f_pow_tensor_scalar(1.0 / 3.0)?;
    x.f_sign()?.f_mul(&root)
}

fn truncated(x: &Tensor) -> Result<Tensor, TchError> {
    if x.is_floating_point() {
        return x.f_detach()?.f_trunc();
    }
    Ok(x.shallow_clone())
}

/// `Round`: half to even, to `decimals` places. Integers keep their dtype.
fn round(scope: &mut Scope<'_>) -> Result<Built> {
    let decimals = scope.options.i64("decimals", 0)?;
    let places = i32::try_from(decimals).unwrap_or(i32::MAX);
    let factor = 10_f64.powi(places);
    Ok(elementwise(same, move |x| {
        let x = x.f_detach()?;
        let float = x.is_floating_point();
        match decimals {
            0 if float => x.f_round(),
            decimals if !float && decimals >= 0 => Ok(x),
            _ => {
                let kind = x.kind();
                let scaled = x.f_to_kind(floating(kind))?.f_mul_scalar(factor)?;
                scaled.f_round()?.f_div_scalar(factor)?.f_to_kind(kind)
            }
        }
    }))
}

fn nan_to_num(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let nan = options.f64("nan", 0.0)?;
    let posinf = options.optional_f64("posinf")?;
    let neginf = options.optional_f64("neginf")?;
    Ok(elementwise(same, move |x| {
        if !x.is_floating_point() {
            return Ok(x.shallow_clone());
        }
        x.f_nan_to_num(nan, posinf, neginf)
    }))
}

/// `Clip`: a bound is cast to the tensor's dtype, as TensorFlow does.
fn clip(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let bound = |key: &str| {
        let value = options.value(key);
        let number = value.and_then(crate::literals::number);
        let missing = || options.invalid(format!("{key} must be a number"));
        number.ok_or_else(missing)
    };
    let (low, high) = (bound("x_min")?, bound("x_max")?);
    Ok(elementwise(bool_as_int32, move |x| {
        if x.is_floating_point() {
            return x.f_clamp(low, high);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, as bounds should"
        )]
        let (low, high) = (low as i64, high as i64);
        x.f_clamp(low, high)
    }))
}
