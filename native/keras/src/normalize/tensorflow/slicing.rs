//! Parts of a tensor: `x[...]`, `tf.slice`, `tf.gather`.

use serde_json::{Value, json};

use super::call::Call;
use super::operation::{Argument, Operation};
use crate::error::Result;

/// `x[slice_spec]`: integers, slices, `None` and `...`.
pub(super) fn getitem(call: &Call<'_>) -> Result<Operation> {
    let x = call.first()?;
    let spec = call.constant("slice_spec")?;
    let key = match spec {
        // Null is `tf.newaxis`.
        None => json!([null]),
        Some(Value::Array(items)) => {
            let parts = items.iter().map(|item| part(call, item));
            Value::Array(parts.collect::<Result<_>>()?)
        }
        Some(item) => json!([part(call, item)?]),
    };
    Ok(get(x, key))
}

fn get(x: Argument, key: Value) -> Operation {
    Operation::new("numpy.GetItem", [x, Argument::Given(key)])
}

fn part(call: &Call<'_>, item: &Value) -> Result<Value> {
    match item {
        Value::Null => Ok(Value::Null),
        Value::Number(number) if number.is_i64() => Ok(item.clone()),
        Value::Object(map) if map.contains_key("start") => Ok(slice(
            &map["start"],
            map.get("stop").unwrap_or(&Value::Null),
            map.get("step").unwrap_or(&Value::Null),
        )),
        Value::Object(map) if map.get("class_name") == Some(&json!("__ellipsis__")) => {
            Ok(json!({"class_name": "__ellipsis__", "config": {}}))
        }
        _ => Err(call.unsupported(
            format!("{item} in slice_spec"),
            "integers, slices, tf.newaxis and ...",
        )),
    }
}

fn slice(start: &Value, stop: &Value, step: &Value) -> Value {
    json!({"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}})
}

/// `tf.slice`: of `size` elements from `begin`, -1 for all that are left.
pub(super) fn slice_of(call: &Call<'_>) -> Result<Operation> {
    let x = call.first()?;
    let (Some(begin), Some(size)) = (call.integers("begin")?, call.integers("size")?) else {
        return Err(call.invalid("the config lacks begin or size"));
    };
    let parts = begin.iter().zip(&size).map(|(&begin, &size)| {
        let stop = if size < 0 {
            Value::Null
        } else {
            (begin + size).into()
        };
        slice(&begin.into(), &stop, &Value::Null)
    });
    Ok(get(x, Value::Array(parts.collect())))
}

/// `tf.gather`: axis 0 if none is given.
pub(super) fn gather(call: &Call<'_>) -> Result<Operation> {
    let (x, indices) = (call.first()?, call.operand("indices")?);
    call.require("batch_dims", 0)?;
    call.require("validate_indices", true)?;
    Ok(Operation::new("numpy.Take", [x, indices]).with("axis", call.integer("axis", 0)?))
}
