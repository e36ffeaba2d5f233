//! TensorFlow's functions that change shapes, join and part.

use serde_json::{Value, json};

use super::call::Call;
use super::operation::{Argument, Operation};
use crate::error::Result;

/// `tf.reshape`. The count of elements stays, so that one size that depends on a tensor, such as
/// `tf.shape(x)[0]`, is the one that fits.
pub(super) fn reshape(call: &Call<'_>) -> Result<Operation> {
    let shape = call.raw("shape").and_then(Value::as_array).cloned();
    let shape = shape.ok_or_else(|| {
        call.unsupported(
            "a shape that is a tensor",
            "a list, one size of which may be unknown",
        )
    })?;
    let sizes: Vec<i64> = shape
        .iter()
        .map(|size| {
            if call.is_tensor(size) {
                -1
            } else {
                size.as_i64().unwrap_or(-2)
            }
        })
        .collect();
    let open = sizes.iter().filter(|size| **size == -1).count();
    if call.is_tensor(&Value::Array(shape.clone())) || open > 1 || sizes.contains(&-2) {
        let what = format!("shape = {}", Value::Array(shape));
        return Err(call.unsupported(what, "a list, one size of which may be unknown"));
    }
    Ok(Operation::new("numpy.Reshape", [call.first()?]).with("newshape", sizes))
}

pub(super) fn transpose(call: &Call<'_>) -> Result<Operation> {
    call.require("conjugate", false)?;
    Ok(Operation::new("numpy.Transpose", [call.first()?]).with("axes", call.integers("perm")?))
}

pub(super) fn expand_dims(call: &Call<'_>) -> Result<Operation> {
    let axis = call.required("axis")?.clone();
    Ok(Operation::new("numpy.ExpandDims", [call.first()?]).with("axis", axis))
}

/// `tf.squeeze`; without axes it looks at the size of the batch.
pub(super) fn squeeze(call: &Call<'_>) -> Result<Operation> {
    let axes = call.integers("axis")?.filter(|axes| !axes.is_empty());
    let axes = axes.ok_or_else(|| call.unsupported("no axis", "axis, one or several"))?;
    Ok(Operation::new("numpy.Squeeze", [call.first()?]).with("axis", axes))
}

pub(super) fn tile(call: &Call<'_>) -> Result<Operation> {
    let repeats = call.required("multiples")?.clone();
    Ok(Operation::new("numpy.Tile", [call.first()?]).with("repeats", repeats))
}

pub(super) fn repeat(call: &Call<'_>) -> Result<Operation> {
    let repeats = call.required("repeats")?.clone();
    let axis = call.constant("axis")?.cloned();
    Ok(Operation::new("numpy.Repeat", [call.first()?])
        .with("repeats", repeats)
        .with("axis", axis))
}

pub(super) fn roll(call: &Call<'_>) -> Result<Operation> {
    let (shift, axis) = (call.required("shift")?, call.required("axis")?);
    Ok(Operation::new("numpy.Roll", [call.first()?])
        .with("shift", shift.clone())
        .with("axis", axis.clone()))
}

pub(super) fn broadcast_to(call: &Call<'_>) -> Result<Operation> {
    let shape = call.required("shape")?.clone();
    Ok(Operation::new("numpy.BroadcastTo", [call.first()?]).with("shape", shape))
}

pub(super) fn concat(call: &Call<'_>) -> Result<Operation> {
    call.required("axis")?;
    joined(call, "numpy.Concatenate")
}

pub(super) fn stack(call: &Call<'_>) -> Result<Operation> {
    joined(call, "numpy.Stack")
}

fn joined(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let items = call.firsts()?;
    let constant = items.iter().any(Argument::is_constant);
    let operation = Operation::new(path, [Argument::List(items)]);
    let operation = operation.with("axis", call.integer("axis", 0)?);
    Ok(if constant {
        operation.only(&["float32", "int32"])
    } else {
        operation
    })
}

pub(super) fn unstack(call: &Call<'_>) -> Result<Operation> {
    let num = call.constant("num")?.cloned();
    Ok(Operation::new("core.Unstack", [call.first()?])
        .with("num", num)
        .with("axis", call.integer("axis", 0)?))
}

/// `tf.split`: into equal parts, or parts of given sizes, the last of which may be -1 for what is
/// left.
pub(super) fn split(call: &Call<'_>) -> Result<Operation> {
    call.constant("num")?;
    let parts = match call.required("num_or_size_splits")? {
        Value::Array(_) => {
            let sizes = call.integers("num_or_size_splits")?.unwrap_or_default();
            let (_, before) = sizes
                .split_last()
                .ok_or_else(|| call.invalid("splits into none"))?;
            if before.iter().any(|size| *size < 0) {
                let what = format!("num_or_size_splits = {sizes:?}");
                return Err(call.unsupported(what, "sizes, the last of which may be -1"));
            }
            let ends = before.iter().scan(0, |end, size| {
                *end += size;
                Some(*end)
            });
            json!(ends.collect::<Vec<i64>>())
        }
        count => count.clone(),
    };
    Ok(Operation::new("numpy.Split", [call.first()?])
        .with("indices_or_sections", parts)
        .with("axis", call.integer("axis", 0)?))
}

pub(super) fn pad(call: &Call<'_>) -> Result<Operation> {
    let widths = call.required("paddings")?.clone();
    let mode = call.word("mode", "CONSTANT")?.to_lowercase();
    let fill = call.number("constant_values", 0.0)?;
    let constant = mode == "constant";
    let operation = Operation::new("numpy.Pad", [call.first()?])
        .with("pad_width", widths)
        .with("mode", mode);
    Ok(if constant {
        operation.called_with("constant_values", fill)
    } else {
        operation
    })
}

/// `tf.ones_like` and `tf.zeros_like`.
pub(super) fn alike(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    call.require("optimize", true)?;
    let dtype = call.constant("dtype")?.cloned();
    Ok(Operation::new(path, [call.first()?]).with("dtype", dtype))
}

/// `tf.nn.depth_to_space` and its inverse, of NHWC images.
pub(super) fn blocks(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    call.require("data_format", "NHWC")?;
    Ok(Operation::new(path, [call.first()?])
        .with("block_size", call.required("block_size")?.clone())
        .with("data_format", "channels_last"))
}
