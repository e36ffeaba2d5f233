//! Numbers and arrays as they stand in a config: plain, in nested lists, or as the arrays that
//! Keras serializes (`__numpy__` and `__tensor__`, with their dtype).

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use crate::dtype::{DType, is_float};
use crate::error::{Error, Result};
use crate::python_json;
use crate::spec::Spec;

/// A number; JSON has no infinities, so that they come as marked strings.
pub(crate) fn number(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| python_json::constant(value))
}

/// An array that Keras serialized; `None` for anything else.
///
/// # Errors
/// Its dtype is unknown, or it is ragged.
pub(crate) fn array(value: &Json) -> Option<Result<Tensor>> {
    let class = value.get("class_name")?.as_str()?;
    if !matches!(class, "__numpy__" | "__tensor__") {
        return None;
    }
    let (items, dtype) = (
        value.pointer("/config/value"),
        value.pointer("/config/dtype"),
    );
    let items = items.unwrap_or(&Json::Null);
    let dtype = dtype.and_then(Json::as_str).unwrap_or_default();
    let kind = DType::from_name(dtype).and_then(DType::kind);
    Some(match kind {
        Some(kind) => tensor(items, kind, Device::Cpu),
        None => Err(Error::Values {
            reason: format!("a constant array of dtype \"{dtype}\" is not supported"),
        }),
    })
}

/// The spec of a tensor.
pub(crate) fn spec_of(tensor: &Tensor) -> Spec {
    let dims: Vec<_> = tensor.size().into_iter().map(Some).collect();
    Spec::new(dims, DType::Tensor(tensor.kind()))
}

/// The axes of nested lists of numbers; `None` if they are ragged or hold anything else.
pub(crate) fn shape(value: &Json) -> Option<Vec<i64>> {
    match value {
        Json::Array(items) => {
            let shapes = items.iter().map(shape).collect::<Option<Vec<_>>>()?;
            let first = shapes.first().cloned().unwrap_or_default();
            let even = shapes.iter().all(|shape| *shape == first);
            let len = i64::try_from(items.len()).ok().filter(|_| even)?;
            Some([&[len], first.as_slice()].concat())
        }
        Json::Bool(_) => Some(Vec::new()),
        other => number(other).map(|_| Vec::new()),
    }
}

/// The kind that TensorFlow gives a tensor of such numbers.
pub(crate) fn kind(value: &Json) -> Kind {
    match value {
        Json::Bool(_) => Kind::Bool,
        Json::Number(number) => match number.as_i64().map(i32::try_from) {
            None => Kind::Float,
            Some(Ok(_)) => Kind::Int,
            Some(Err(_)) => Kind::Int64,
        },
        Json::Array(items) => {
            let kinds = items.iter().map(kind);
            let rank = |kind: &Kind| match kind {
                Kind::Bool => 0,
                Kind::Int => 1,
                Kind::Int64 => 2,
                _ => 3,
            };
            kinds.max_by_key(rank).unwrap_or(Kind::Float)
        }
        _ => Kind::Float,
    }
}

/// Whether a kind of integers has a number, to the precision of f64.
fn fits(number: f64, kind: Kind) -> bool {
    let (least, greatest) = match kind {
        Kind::Uint8 => (0.0, f64::from(u8::MAX)),
        Kind::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        Kind::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        Kind::Int => (f64::from(i32::MIN), f64::from(i32::MAX)),
        Kind::Bool => return true,
        // As an f64, the greatest i64 is the number after it.
        _ => (i64::MIN as f64, i64::MAX as f64),
    };
    (least..=greatest).contains(&number)
}

/// A number or nested lists of numbers as a tensor of `kind`.
///
/// # Errors
/// The lists are ragged, or hold anything else.
pub(crate) fn tensor(value: &Json, kind: Kind, device: Device) -> Result<Tensor> {
    let wide = match value {
        Json::Bool(flag) => Some(Tensor::f_scalar_tensor(
            i64::from(*flag),
            (Kind::Int64, device),
        )?),
        Json::Number(integer) if integer.is_i64() => {
            let integer = integer.as_i64().unwrap_or_default();
            Some(Tensor::f_scalar_tensor(integer, (Kind::Int64, device))?)
        }
        other => match number(other) {
            Some(number) => Some(Tensor::f_scalar_tensor(number, (Kind::Double, device))?),
            None => None,
        },
    };
    if let Some(wide) = wide {
        if !is_float(kind) && !fits(wide.f_double_value(&[])?, kind) {
            return Err(Error::Values {
                reason: format!("{value} is out of the range of {kind:?}"),
            });
        }
        return Ok(wide.f_to_kind(kind)?);
    }
    let shape = shape(value).ok_or_else(|| Error::Values {
        reason: format!("{value} is no array of numbers"),
    })?;
    let exact = if is_float(kind) {
        let mut numbers = Vec::new();
        flatten(
            value,
            &mut numbers,
            &|item| number(item).unwrap_or(f64::NAN),
            f64::from,
        );
        Tensor::f_from_slice(&numbers)?
    } else {
        let mut numbers = Vec::new();
        flatten(
            value,
            &mut numbers,
            &|item| item.as_i64().unwrap_or_default(),
            i64::from,
        );
        Tensor::f_from_slice(&numbers)?
    };
    Ok(exact
        .f_reshape(shape)?
        .f_to_kind(kind)?
        .f_to_device(device)?)
}

fn flatten<N>(value: &Json, numbers: &mut Vec<N>, read: &impl Fn(&Json) -> N, flag: fn(u8) -> N) {
    match value {
        Json::Array(items) => {
            for item in items {
                flatten(item, numbers, read, flag);
            }
        }
        Json::Bool(value) => numbers.push(flag(u8::from(*value))),
        item => numbers.push(read(item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_have_shapes_and_kinds() {
        assert_eq!(shape(&json!([[1, 2, 3], [4, 5, 6]])), Some(vec![2, 3]));
        assert_eq!(shape(&json!([[1], [2, 3]])), None);
        assert_eq!(shape(&json!("x")), None);
        assert_eq!(kind(&json!([1, 2.5])), Kind::Float);
        assert_eq!(kind(&json!([1, 5_000_000_000_i64])), Kind::Int64);
        assert_eq!(kind(&json!(true)), Kind::Bool);
    }

    #[test]
    fn arrays_keep_their_dtype() {
        let value = json!({
            "class_name": "__numpy__",
            "config": {"value": [[1, 2], [3, 9_007_199_254_740_993_i64]], "dtype": "int64"},
        });
        let tensor = array(&value).unwrap().unwrap();
        assert_eq!(tensor.size(), [2, 2]);
        assert_eq!(tensor.int64_value(&[1, 1]), 9_007_199_254_740_993);
        assert!(array(&json!({"class_name": "__slice__"})).is_none());
        let strings =
            json!({"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "str"}});
        assert!(array(&strings).unwrap().is_err());
    }
}
