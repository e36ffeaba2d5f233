//! TensorFlow's functions and the operations of `keras.ops` that compute the same.
//!
//! Names are without their prefixes: a call is recorded as `math.add`, `__operators__.add` or
//! `compat.v1.add`, as TensorFlow's release has it. Where the two libraries promote dtypes
//! differently, the operation is limited to the dtypes for which they agree.

use super::arranging;
use super::call::Call;
use super::operation::{Argument, Operation};
use super::slicing;
use crate::error::Result;

/// Of integers, TensorFlow makes float64 or integers where Keras makes float32.
const FLOATS: &[&str] = &["float16", "bfloat16", "float32", "float64"];
/// Keras sums smaller integers in larger ones.
const NUMBERS: &[&str] = &[
    "float16", "bfloat16", "float32", "float64", "int32", "int64",
];
/// A constant takes the dtype of the tensor beside it in TensorFlow; in Keras, an array keeps the
/// dtype that it has by itself, float32 or int32, and so does a number in some operations.
const BESIDE_CONSTANTS: &[&str] = &["bool", "float32", "int32", "int64"];

/// On each element of the only tensor.
const ELEMENTWISE: &[(&str, &str)] = &[
    ("abs", "numpy.Absolute"),
    ("acos", "numpy.Arccos"),
    ("acosh", "numpy.Arccosh"),
    ("asin", "numpy.Arcsin"),
    ("asinh", "numpy.Arcsinh"),
    ("atan", "numpy.Arctan"),
    ("atanh", "numpy.Arctanh"),
    ("ceil", "numpy.Ceil"),
    ("cos", "numpy.Cos"),
    ("cosh", "numpy.Cosh"),
    ("elu", "nn.Elu"),
    ("erf", "math.Erf"),
    ("exp", "numpy.Exp"),
    ("expm1", "numpy.Expm1"),
    ("floor", "numpy.Floor"),
    ("identity", "numpy.Copy"),
    ("is_finite", "numpy.Isfinite"),
    ("is_inf", "numpy.Isinf"),
    ("is_nan", "numpy.Isnan"),
    ("log", "numpy.Log"),
    ("log1p", "numpy.Log1p"),
    ("log_sigmoid", "nn.LogSigmoid"),
    ("logical_not", "numpy.LogicalNot"),
    ("negative", "numpy.Negative"),
    ("reciprocal", "numpy.Reciprocal"),
    ("relu", "nn.Relu"),
    ("relu6", "nn.Relu6"),
    ("round", "numpy.Round"),
    ("rsqrt", "math.Rsqrt"),
    ("selu", "nn.Selu"),
    ("sigmoid", "nn.Sigmoid"),
    ("sign", "numpy.Sign"),
    ("silu", "nn.Silu"),
    ("sin", "numpy.Sin"),
    ("sinh", "numpy.Sinh"),
    ("softplus", "nn.Softplus"),
    ("softsign", "nn.Softsign"),
    ("sqrt", "numpy.Sqrt"),
    ("square", "numpy.Square"),
    ("stop_gradient", "core.StopGradient"),
    ("swish", "nn.Silu"),
    ("tan", "numpy.Tan"),
    ("tanh", "numpy.Tanh"),
];

/// What numbers beside a tensor become in Keras.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// They take the tensor's dtype.
    Weak,
    /// They are of float32 or int32.
    Strong,
}

/// On the elements of two tensors that broadcast.
const BINARY: &[(&str, &str, Numbers)] = &[
    ("add", "numpy.Add", Numbers::Weak),
    ("subtract", "numpy.Subtract", Numbers::Weak),
    ("sub", "numpy.Subtract", Numbers::Weak),
    ("multiply", "numpy.Multiply", Numbers::Weak),
    ("mul", "numpy.Multiply", Numbers::Weak),
    ("maximum", "numpy.Maximum", Numbers::Weak),
    ("minimum", "numpy.Minimum", Numbers::Weak),
    ("pow", "numpy.Power", Numbers::Weak),
    ("floordiv", "numpy.FloorDivide", Numbers::Weak),
    ("floor_div", "numpy.FloorDivide", Numbers::Weak),
    ("floormod", "numpy.Mod", Numbers::Strong),
    ("mod", "numpy.Mod", Numbers::Strong),
    ("equal", "numpy.Equal", Numbers::Strong),
    ("not_equal", "numpy.NotEqual", Numbers::Strong),
    ("greater", "numpy.Greater", Numbers::Strong),
    ("greater_equal", "numpy.GreaterEqual", Numbers::Strong),
    ("less", "numpy.Less", Numbers::Strong),
    ("less_equal", "numpy.LessEqual", Numbers::Strong),
    ("logical_and", "numpy.LogicalAnd", Numbers::Weak),
    ("logical_or", "numpy.LogicalOr", Numbers::Weak),
    ("logical_xor", "numpy.LogicalXor", Numbers::Weak),
];

/// Over some axes, or all.
const REDUCTIONS: &[(&str, &str, Option<&[&str]>)] = &[
    ("reduce_all", "numpy.All", None),
    ("reduce_any", "numpy.Any", None),
    ("reduce_logsumexp", "math.Logsumexp", Some(FLOATS)),
    ("reduce_max", "numpy.Max", None),
    ("reduce_mean", "numpy.Mean", Some(FLOATS)),
    ("reduce_min", "numpy.Min", None),
    ("reduce_prod", "numpy.Prod", Some(NUMBERS)),
    ("reduce_std", "numpy.Std", Some(FLOATS)),
    ("reduce_sum", "numpy.Sum", Some(NUMBERS)),
    ("reduce_variance", "numpy.Var", Some(FLOATS)),
];

type Rule = fn(&Call<'_>) -> Result<Operation>;

/// All others.
const OTHERS: &[(&str, Rule)] = &[
    ("add_n", add_n),
    ("argmax", |call| extreme(call, "numpy.Argmax")),
    ("argmin", |call| extreme(call, "numpy.Argmin")),
    ("atan2", |call| {
        binary(call, "numpy.Arctan2", Numbers::Strong, "x")
    }),
    ("broadcast_to", arranging::broadcast_to),
    ("cast", cast),
    ("clip_by_value", clip_by_value),
    ("concat", arranging::concat),
    // The dtype it may name is the tensor's own: any other is an error.
    ("convert_to_tensor", |call| {
        call.constant("dtype")?;
        Ok(Operation::new("core.ConvertToTensor", [call.first()?]))
    }),
    ("cumprod", |call| cumulative(call, "numpy.Cumprod")),
    ("cumsum", |call| cumulative(call, "numpy.Cumsum")),
    ("depth_to_space", |call| {
        arranging::blocks(call, "nn.DepthToSpace")
    }),
    ("divide", |call| quotient(call, "numpy.Divide")),
    ("divide_no_nan", |call| quotient(call, "numpy.DivideNoNan")),
    // Their second argument is recorded by no release known.
    ("eq", |call| {
        binary(call, "numpy.Equal", Numbers::Strong, "other")
    }),
    ("expand_dims", arranging::expand_dims),
    ("gather", slicing::gather),
    ("gelu", |call| {
        let tanh = call.flag("approximate", false)?;
        Ok(Operation::new("nn.Gelu", [call.first()?]).with("approximate", tanh))
    }),
    ("getitem", slicing::getitem),
    ("image.resize", resize),
    ("l2_normalize", l2_normalize),
    ("leaky_relu", |call| {
        let slope = call.number("alpha", 0.2)?;
        Ok(Operation::new("nn.LeakyRelu", [call.first()?]).with("negative_slope", slope))
    }),
    ("log_softmax", |call| softmax(call, "nn.LogSoftmax")),
    ("matmul", matmul),
    ("ne", |call| {
        binary(call, "numpy.NotEqual", Numbers::Strong, "other")
    }),
    ("one_hot", one_hot),
    ("ones_like", |call| arranging::alike(call, "numpy.OnesLike")),
    ("pad", arranging::pad),
    ("repeat", arranging::repeat),
    ("reshape", arranging::reshape),
    ("reverse", |call| {
        let axes = call.required("axis")?.clone();
        Ok(Operation::new("numpy.Flip", [call.first()?]).with("axis", axes))
    }),
    ("roll", arranging::roll),
    ("slice", slicing::slice_of),
    ("softmax", |call| softmax(call, "nn.Softmax")),
    ("space_to_depth", |call| {
        arranging::blocks(call, "nn.SpaceToDepth")
    }),
    ("split", arranging::split),
    ("squared_difference", |call| {
        let difference = binary(call, "numpy.Subtract", Numbers::Weak, "y")?;
        Ok(Operation::new("numpy.Square", [difference.into()]))
    }),
    ("squeeze", arranging::squeeze),
    ("stack", arranging::stack),
    ("tensordot", |call| {
        let axes = call.required("axes")?.clone();
        let arguments = [call.first()?, call.operand("b")?];
        Ok(beside(
            Operation::new("numpy.Tensordot", arguments).with("axes", axes),
            Numbers::Strong,
        ))
    }),
    ("tile", arranging::tile),
    ("top_k", top_k),
    ("transpose", arranging::transpose),
    ("truediv", |call| quotient(call, "numpy.Divide")),
    ("unstack", arranging::unstack),
    ("where", choose),
    ("zeros_like", |call| {
        arranging::alike(call, "numpy.ZerosLike")
    }),
];

/// The operation for a call of `function`.
///
/// # Errors
/// There is none, or an argument has no equal.
pub(super) fn operation(function: &str, call: &Call<'_>) -> Result<Operation> {
    let name = bare(function);
    if let Some((_, path)) = ELEMENTWISE.iter().find(|(known, _)| *known == name) {
        let operation = Operation::new(path, [call.first()?]);
        // TensorFlow leaves integers as they are.
        return Ok(if name == "round" {
            operation.only(FLOATS)
        } else {
            operation
        });
    }
    if let Some((_, path, numbers)) = BINARY.iter().find(|(known, ..)| *known == name) {
        return binary(call, path, *numbers, "y");
    }
    if let Some((_, path, dtypes)) = REDUCTIONS.iter().find(|(known, ..)| *known == name) {
        let operation = reduction(call, path)?;
        return Ok(match dtypes {
            Some(dtypes) => operation.only(dtypes),
            None => operation,
        });
    }
    match OTHERS.iter().find(|(known, _)| *known == name) {
        Some((_, rule)) => rule(call),
        None => {
            let what = format!("the TensorFlow function \"{function}\"");
            Err(call.unsupported(what, &known().join(", ")))
        }
    }
}

fn known() -> Vec<&'static str> {
    let elementwise = ELEMENTWISE.iter().map(|(name, _)| *name);
    let binary = BINARY.iter().map(|(name, ..)| *name);
    let reductions = REDUCTIONS.iter().map(|(name, ..)| *name);
    let others = OTHERS.iter().map(|(name, _)| *name);
    let all = elementwise.chain(binary).chain(reductions).chain(others);
    let mut known: Vec<&str> = all.collect();
    known.sort_unstable();
    known
}

/// A function's name without the module that exports it. The images of `compat.v1` are others
/// than today's.
fn bare(function: &str) -> &str {
    let new = match function.strip_prefix("compat.v1.") {
        Some(rest) if !rest.starts_with("image.") => rest,
        _ => function,
    };
    let prefixes = ["__operators__.", "math.", "nn.", "linalg."];
    let found = prefixes.iter().find_map(|prefix| new.strip_prefix(prefix));
    found.unwrap_or(new)
}

/// Limits an operation with arrays among its arguments, or numbers if these are strong.
fn beside(operation: Operation, numbers: Numbers) -> Operation {
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

fn binary(call: &Call<'_>, path: &'static str, numbers: Numbers, other: &str) -> Result<Operation> {
    let operation = Operation::new(path, [call.first()?, call.operand(other)?]);
    Ok(beside(operation, numbers))
}

/// Of integers, TensorFlow gives float64.
fn quotient(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let operation = Operation::new(path, [call.first()?, call.operand("y")?]);
    let array = operation.args.iter().any(Argument::is_array);
    Ok(operation.only(if array { &["float32"] } else { FLOATS }))
}

fn reduction(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let axis = call.integers("axis")?;
    if axis.as_ref().is_some_and(Vec::is_empty) {
        return Err(call.unsupported("axis = []", "one axis or several, or none for all"));
    }
    Ok(Operation::new(path, [call.first()?])
        .with("axis", axis)
        .with("keepdims", call.flag("keepdims", false)?))
}

fn add_n(call: &Call<'_>) -> Result<Operation> {
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

/// `tf.argmax`: of axis 0 if none is given, and int64 where Keras gives int32.
fn extreme(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    let index = Operation::new(path, [call.first()?]).with("axis", call.integer("axis", 0)?);
    let dtype = call.word("output_type", "int64")?;
    Ok(Operation::new("core.Cast", [index.into()]).with("dtype", dtype))
}

fn cast(call: &Call<'_>) -> Result<Operation> {
    let dtype = call.required("dtype")?.clone();
    Ok(Operation::new("core.Cast", [call.first()?]).with("dtype", dtype))
}

fn clip_by_value(call: &Call<'_>) -> Result<Operation> {
    call.required("clip_value_min")?;
    call.required("clip_value_max")?;
    Ok(Operation::new("numpy.Clip", [call.first()?])
        .with("x_min", call.number("clip_value_min", 0.0)?)
        .with("x_max", call.number("clip_value_max", 0.0)?))
}

fn cumulative(call: &Call<'_>, path: &'static str) -> Result<Operation> {
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

/// `tf.image.resize` of NHWC images. It gives float32 except for nearest neighbours; Keras gives
/// the images' dtype.
fn resize(call: &Call<'_>) -> Result<Operation> {
    call.require("preserve_aspect_ratio", false)?;
    let methods = ["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"];
    let method = call.word("method", "bilinear")?;
    if !methods.contains(&method.as_str()) {
        let what = format!("method = \"{method}\"");
        return Err(call.unsupported(what, &methods.join(", ")));
    }
    let images = match (call.first()?, method.as_str()) {
        (images, "nearest") => images,
        (images, _) => Operation::new("core.Cast", [images])
            .with("dtype", "float32")
            .into(),
    };
    Ok(Operation::new("image.Resize", [images])
        .with("size", call.required("size")?.clone())
        .with("interpolation", method)
        .with("antialias", call.flag("antialias", false)?)
        .with("data_format", "channels_last"))
}

/// `x / sqrt(max(sum(x^2), epsilon))`. Keras's `normalize` has the same values, but no gradient
/// where all of `x` are zero.
fn l2_normalize(call: &Call<'_>) -> Result<Operation> {
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

fn softmax(call: &Call<'_>, path: &'static str) -> Result<Operation> {
    Ok(Operation::new(path, [call.first()?]).with("axis", call.integer("axis", -1)?))
}

fn matmul(call: &Call<'_>) -> Result<Operation> {
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

fn one_hot(call: &Call<'_>) -> Result<Operation> {
    let depth = call.required("depth")?.clone();
    for (name, only) in [("on_value", 1.0), ("off_value", 0.0)] {
        if call.constant(name)?.is_some() && call.number(name, only)?.as_f64() != Some(only) {
            call.require(name, only)?;
        }
    }
    Ok(Operation::new("nn.OneHot", [call.first()?])
        .with("num_classes", depth)
        .with("axis", call.integer("axis", -1)?)
        .with("dtype", call.word("dtype", "float32")?))
}

fn top_k(call: &Call<'_>) -> Result<Operation> {
    call.require("sorted", true)?;
    call.require("index_type", "int32")?;
    Ok(Operation::new("math.TopK", [call.first()?]).with("k", call.integer("k", 1)?))
}

fn choose(call: &Call<'_>) -> Result<Operation> {
    let arguments = [call.first()?, call.operand("x")?, call.operand("y")?];
    Ok(beside(
        Operation::new("numpy.Where", arguments),
        Numbers::Weak,
    ))
}
