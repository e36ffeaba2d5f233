//! Sums, products and what else is computed of several tensors or of numbers beside them.

use super::call::Call;
use super::limits::{BESIDE_CONSTANTS, FLOATS, NUMBERS, Numbers, beside};
use super::operation::{Argument, Operation};
use crate::error::Result;

pub(super) fn binary(
    call: &Call<'_>,
    path: &'static str,
    numbers: Numbers,
    other: &str,
) -> Result<Operation> {
    let operation = Operation::new(path, [call.first()?, call.operand(other)?]);
    Ok(beside(operation, numbers))
}

/// Of integers, TensorFlow gives float64.
pub(super) fn quotient(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let operation = Operation::new(path, [call.first()?, call.operand("y")?]);
    let array = operation.args.iter().any(Argument::is_array);
    Ok(operation.only(if array { &["float32"] } else { FLOATS }))
}

pub(super) fn add_n(call: &Call<'_>) -> Result<Operation> {
    let mut items = call.firsts()?.into_iter();
    let first = items
        .next()
        .ok_or_else(|| call.invalid("takes at least one tensor"))?;
    let sum = items.fold(first, |sum, item| {
        Operation::new("numpy.Add", [sum, item]).into()
    });
    Ok(match sum {
        Argument::Computed(sum) => *sum,
        only => Operation::new("core.ConvertToTensor", [only]),
    })
}

pub(super) fn clip_by_value(call: &Call<'_>) -> Result<Operation> {
    call.required("clip_value_min")?;
    call.required("clip_value_max")?;
    Ok(Operation::new("numpy.Clip", [call.first()?])
        .with("x_min", call.number("clip_value_min", 0.0)?)
        .with("x_max", call.number("clip_value_max", 0.0)?))
}

/// `x / sqrt(max(sum(x^2), epsilon))`. Keras's `normalize` has the same values, but no gradient
/// where all of `x` are zero.
pub(super) fn l2_normalize(call: &Call<'_>) -> Result<Operation> {
    let x = call.first()?;
    let squares = Operation::new("numpy.Square", [x.clone()]);
    let sum = Operation::new("numpy.Sum", [squares.into()])
        .with("axis", call.integers("axis")?)
        .with("keepdims", true);
    let epsilon = Argument::Given(call.number("epsilon", 1e-12)?);
    let bounded = Operation::new("numpy.Maximum", [sum.into(), epsilon]);
    let inverse = Operation::new("math.Rsqrt", [bounded.into()]);
    Ok(Operation::new("numpy.Multiply", [x, inverse.into()]))
}

pub(super) fn matmul(call: &Call<'_>) -> Result<Operation> {
    for flag in [
        "adjoint_a",
        "adjoint_b",
        "a_is_sparse",
        "b_is_sparse",
        "grad_a",
        "grad_b",
    ] {
        call.require(flag, false)?;
    }
    let transposed = |x: Argument, flag: &str| -> Result<Argument> {
        if !call.flag(flag, false)? {
            return Ok(x);
        }
        let swapped = Operation::new("numpy.Swapaxes", [x]);
        Ok(swapped.with("axis1", -1).with("axis2", -2).into())
    };
    let a = transposed(call.first()?, "transpose_a")?;
    let b = transposed(call.operand("b")?, "transpose_b")?;
    let constant = a.is_constant() || b.is_constant();
    let operation = Operation::new("numpy.Matmul", [a, b]);
    Ok(operation.only(if constant { BESIDE_CONSTANTS } else { NUMBERS }))
}

/// `(x - y)^2`.
pub(super) fn squared_difference(call: &Call<'_>) -> Result<Operation> {
    let difference = binary(call, "numpy.Subtract", Numbers::Weak, "y")?;
    Ok(Operation::new("numpy.Square", [difference.into()]))
}

pub(super) fn tensordot(call: &Call<'_>) -> Result<Operation> {
    let axes = call.required("axes")?.clone();
    let arguments = [call.first()?, call.operand("b")?];
    let operation = Operation::new("numpy.Tensordot", arguments).with("axes", axes);
    Ok(beside(operation, Numbers::Strong))
}
