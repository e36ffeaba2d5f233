//! `keras.ops` that change the dtype, or make a tensor like another.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::axes::required_integers;
use super::operand::{checked, device, operands, required};
use super::{Family, kind_of, operation, single, unary};
use crate::arguments::Tree;
use crate::config::Options;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::Built;
use crate::saturation::{Limits, saturated};
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("Cast", |scope| {
        let kind = dtype(scope.options)?;
        let missing = || scope.options.invalid("dtype is missing");
        Ok(cast(Some(kind.ok_or_else(missing)?)))
    }),
    ("SaturateCast", saturate_cast),
    ("ConvertToTensor", |scope| {
        scope.options.ignore(&["sparse", "ragged"]);
        Ok(cast(dtype(scope.options)?))
    }),
    ("Array", |scope| Ok(cast(dtype(scope.options)?))),
    ("ZerosLike", |scope| alike(scope, 0)),
    ("EmptyLike", |scope| alike(scope, 0)),
    ("OnesLike", |scope| alike(scope, 1)),
    ("FullLike", |scope| full(scope, None)),
    ("Full", |scope| {
        let shape = required_integers(scope.options, "shape")?;
        full(scope, Some(shape))
    }),
    ("View", view),
    ("Ndim", |_| {
        Ok(unary(
            |_| Ok(Spec::new([], DType::Tensor(Kind::Int))),
            |x| {
                let rank = i64::try_from(x.dim()).unwrap_or(i64::MAX);
                Ok(Tensor::f_scalar_tensor(rank, (Kind::Int, x.device()))?)
            },
        ))
    }),
    ("Size", |_| {
        Ok(unary(
            |_| Ok(Spec::new([], DType::Tensor(Kind::Int))),
            |x| {
                let count: i64 = x.size().iter().product();
                Ok(Tensor::f_scalar_tensor(count, (Kind::Int, x.device()))?)
            },
        ))
    }),
];

/// Option `dtype`; `None` if absent or null.
///
/// # Errors
/// There is no such dtype of numbers.
pub(super) fn dtype(options: &Options<'_>) -> Result<Option<Kind>> {
    let Some(value) = options.value("dtype") else {
        return Ok(None);
    };
    let name = value.as_str().unwrap_or_default();
    let kind = DType::from_name(name).and_then(DType::kind);
    let wrong = || {
        options.unsupported(
            "dtype",
            value,
            "bool, integer dtypes, float16, bfloat16, float32, float64",
        )
    };
    kind.ok_or_else(wrong).map(Some)
}

/// A cast; to the dtype it has, a value stays itself, with its mask and the logits behind it, as
/// in TensorFlow.
fn cast(target: Option<Kind>) -> Built {
    let new = move |dtype: DType| target.map_or(dtype, DType::Tensor);
    operation(
        move |args| {
            let x = args.only()?;
            Ok(Tree::Leaf(x.with_dtype(new(x.dtype))))
        },
        move |args| {
            let value = args.only().map_err(Error::values)?;
            let dtype = new(value.dtype());
            match dtype.kind() {
                Some(kind) if dtype != value.dtype() => {
                    Ok(Tree::Leaf(Value::new(value.y()?.f_to_kind(kind)?)))
                }
                _ => Ok(Tree::Leaf(value.clone())),
            }
        },
    )
}

/// A cast that holds numbers to the ends of the range of option `dtype`. Of floating-point numbers
/// above the greatest int32, uint32 or int64 Keras 3.15 makes whatever the processor does.
fn saturate_cast(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let kind = dtype(options)?.ok_or_else(|| options.invalid("dtype is missing"))?;
    let limits = Limits::named(options.str("dtype", "")?, kind);
    Ok(unary(
        move |x| {
            let from = super::kind_of(x)?;
            if is_misread(from, kind) {
                return Err(format!(
                    "cannot cast {} to {}: Keras 3.15 takes the greatest integer for the least, \
                     and gives that alone; use cast, since nothing lies beyond the range",
                    x.dtype,
                    DType::Tensor(kind)
                ));
            }
            Ok(x.with_dtype(DType::Tensor(kind)))
        },
        move |x| saturated(x, kind, limits),
    ))
}

/// Whether the greatest number of the integers `from` rounds up in the floating-point `to`, which
/// has greater ones.
fn is_misread(from: Kind, to: Kind) -> bool {
    match to {
        Kind::Half => from == Kind::Int16,
        Kind::BFloat16 => matches!(from, Kind::Int16 | Kind::Int | Kind::Int64),
        Kind::Float => matches!(from, Kind::Int | Kind::Int64),
        Kind::Double => from == Kind::Int64,
        _ => false,
    }
}

/// A tensor of the input's shape full of `number`, in its dtype or option `dtype`.
fn alike(scope: &mut Scope<'_>, number: i64) -> Result<Built> {
    let target = dtype(scope.options)?;
    Ok(unary(
        move |x| Ok(target.map_or_else(|| x.clone(), |kind| x.with_dtype(DType::Tensor(kind)))),
        move |x| {
            let kind = target.unwrap_or_else(|| x.kind());
            Ok(Tensor::f_full(x.size(), number, (kind, x.device()))?)
        },
    ))
}

/// `FullLike` and `Full`: a value broadcast to the input's shape, or to `shape`.
fn full(scope: &mut Scope<'_>, shape: Option<Vec<i64>>) -> Result<Built> {
    let target = dtype(scope.options)?;
    let of_call = shape.clone();
    let at = usize::from(shape.is_none());
    Ok(single(
        move |args| {
            let fill = required(args, at, "fill_value")?;
            let (dims, kind) = match &shape {
                Some(shape) => {
                    let dims: Vec<_> = shape.iter().copied().map(Some).collect();
                    (dims, target.unwrap_or(Kind::Float))
                }
                None => {
                    let [x] = operands(args, ["x"])?;
                    (x.dims(), target.unwrap_or(x.kind()?))
                }
            };
            if broadcast(&dims, &fill.dims()).is_none_or(|joined| joined.len() != dims.len()) {
                return Err("has a fill_value that does not broadcast to its shape".to_owned());
            }
            Ok(Spec::new(dims, DType::Tensor(kind)))
        },
        move |args| {
            let fill = checked(required(args, at, "fill_value"))?;
            let (shape, kind) = match &of_call {
                Some(shape) => (shape.clone(), target.unwrap_or(Kind::Float)),
                None => {
                    let [x] = checked(operands(args, ["x"]))?;
                    let shape = x.dims().into_iter().map(Option::unwrap_or_default);
                    (shape.collect(), target.unwrap_or(checked(x.kind())?))
                }
            };
            let fill = fill.tensor(kind, device(args))?;
            Ok(fill.f_broadcast_to(shape)?)
        },
    ))
}

/// `View`: the same bytes as numbers of another dtype, which has no gradient. Elements of another
/// size divide the last axis, or are parts of it.
fn view(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let target = dtype(options)?;
    let name = options.str("dtype", "")?;
    // Held in a wider dtype here.
    if ["uint16", "uint32", "uint64", "bool"].contains(&name) {
        let value = options.value("dtype").unwrap_or(&Json::Null);
        let supported = "float16, bfloat16, float32, float64, int8, int16, int32, int64, uint8";
        return Err(options.unsupported("dtype", value, supported));
    }
    Ok(unary(
        move |x| {
            let kind = kind_of(x)?;
            let new = target.unwrap_or(kind);
            let (own, other) = (bytes(kind), bytes(new));
            let mut dims = x.dims.clone();
            match dims.last_mut() {
                _ if kind == Kind::Bool => return Err("takes numbers, got bool".to_owned()),
                _ if own == other => {}
                None => return Err(format!("cannot view a scalar as {}", DType::Tensor(new))),
                Some(Some(last)) if (*last * own) % other != 0 => {
                    return Err(format!("cannot view {x} as {}", DType::Tensor(new)));
                }
                Some(last) => *last = last.map(|size| size * own / other),
            }
            Ok(Spec::new(dims, DType::Tensor(new)))
        },
        move |x| {
            let new = target.unwrap_or_else(|| x.kind());
            Ok(x.f_detach()?.f_contiguous()?.f_view_dtype(new)?)
        },
    ))
}

/// Bytes of an element.
fn bytes(kind: Kind) -> i64 {
    match kind {
        Kind::Bool | Kind::Int8 | Kind::Uint8 => 1,
        Kind::Int16 | Kind::Half | Kind::BFloat16 => 2,
        Kind::Double | Kind::Int64 => 8,
        _ => 4,
    }
}
