//! Functions along axes: reductions, running sums, the greatest elements.

use super::call::Call;
use super::limits::NUMBERS;
use super::operation::{Argument, Operation};
use crate::error::Result;

pub(super) fn reduction(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let axis = call.integers("axis")?;
    if axis.as_ref().is_some_and(Vec::is_empty) {
        return Err(call.unsupported("axis = []", "one axis or several, or none for all"));
    }
    Ok(Operation::new(path, [call.first()?])
        .with("axis", axis)
        .with("keepdims", call.flag("keepdims", false)?))
}

pub(super) fn cumulative(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    call.require("exclusive", false)?;
    let axis = call.integer("axis", 0)?;
    let along = |x: Argument| Operation::new(path, [x]).with("axis", axis).only(NUMBERS);
    let flipped = |x: Argument| Operation::new("numpy.Flip", [x]).with("axis", axis);
    let x = call.first()?;
    Ok(if call.flag("reverse", false)? {
        flipped(along(flipped(x).into()).into())
    } else {
        along(x)
    })
}

pub(super) fn softmax(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    Ok(Operation::new(path, [call.first()?]).with("axis", call.integer("axis", -1)?))
}

/// `tf.argmax`: of axis 0 if none is given, and int64 where Keras gives int32.
pub(super) fn extreme(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let index = Operation::new(path, [call.first()?]).with("axis", call.integer("axis", 0)?);
    let dtype = call.word("output_type", "int64")?;
    Ok(Operation::new("core.Cast", [index.into()]).with("dtype", dtype))
}

pub(super) fn top_k(call: &Call<'_>) -> Result<Operation> {
    call.require("sorted", true)?;
    call.require("index_type", "int32")?;
    Ok(Operation::new("math.TopK", [call.first()?]).with("k", call.integer("k", 1)?))
}
