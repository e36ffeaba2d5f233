//! The dtypes for which TensorFlow's functions and the operations of `keras.ops` agree: where the
//! two libraries promote differently, an operation is limited to them.

use super::operation::{Argument, Operation};

/// Of integers, TensorFlow makes float64 or integers where Keras makes float32.
pub(super) const FLOATS: &[&str] = &["float16", "bfloat16", "float32", "float64"];
/// Keras sums smaller integers in larger ones.
pub(super) const NUMBERS: &[&str] = &[
    "float16", "bfloat16", "float32", "float64", "int32", "int64",
];
/// A constant takes the dtype of the tensor beside it in TensorFlow; in Keras, an array keeps the
/// dtype that it has by itself, float32 or int32, and so does a number in some operations.
pub(super) const BESIDE_CONSTANTS: &[&str] = &["bool", "float32", "int32", "int64"];

/// What numbers beside a tensor become in Keras.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Numbers {
    /// They take the tensor's dtype.
    Weak,
    /// They are of float32 or int32.
    Strong,
}

/// Limits an operation with arrays among its arguments, or numbers if these are strong.
pub(super) fn beside(operation: Operation, numbers: Numbers) -> Operation {
    let mut args = operation.args.iter();
    let limits = match numbers {
        Numbers::Weak => args.any(Argument::is_array),
        Numbers::Strong => args.any(Argument::is_constant),
    };
    if limits {
        operation.only(BESIDE_CONSTANTS)
    } else {
        operation
    }
}
