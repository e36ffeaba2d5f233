//! TensorFlow's functions and the operations of `keras.ops` that compute the same.
//!
//! Names are without their prefixes: a call is recorded as `math.add`, `__operators__.add` or
//! `compat.v1.add`, as TensorFlow's release has it.

use super::call::Call;
use super::limits::{FLOATS, NUMBERS, Numbers, beside};
use super::operation::Operation;
use super::{arithmetic, arranging, axes, slicing};
use crate::error::Result;

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
    ("add_n", arithmetic::add_n),
    ("argmax", |call| axes::extreme(call, "numpy.Argmax")),
    ("argmin", |call| axes::extreme(call, "numpy.Argmin")),
    ("atan2", |call| {
        arithmetic::binary(call, "numpy.Arctan2", Numbers::Strong, "x")
    }),
    ("broadcast_to", arranging::broadcast_to),
    ("cast", cast),
    ("clip_by_value", arithmetic::clip_by_value),
    ("concat", arranging::concat),
    // The dtype it may name is the tensor's own: any other is an error.
    ("convert_to_tensor", |call| {
        call.constant("dtype")?;
        Ok(Operation::new("core.ConvertToTensor", [call.first()?]))
    }),
    ("cumprod", |call| axes::cumulative(call, "numpy.Cumprod")),
    ("cumsum", |call| axes::cumulative(call, "numpy.Cumsum")),
    ("depth_to_space", |call| {
        arranging::blocks(call, "nn.DepthToSpace")
    }),
    ("divide", |call| arithmetic::quotient(call, "numpy.Divide")),
    ("divide_no_nan", |call| {
        arithmetic::quotient(call, "numpy.DivideNoNan")
    }),
    // Their second argument is recorded by no release known.
    ("eq", |call| {
        arithmetic::binary(call, "numpy.Equal", Numbers::Strong, "other")
    }),
    ("expand_dims", arranging::expand_dims),
    ("gather", slicing::gather),
    ("gelu", |call| {
        let tanh = call.flag("approximate", false)?;
        Ok(Operation::new("nn.Gelu", [call.first()?]).with("approximate", tanh))
    }),
    ("getitem", slicing::getitem),
    ("image.resize", resize),
    ("l2_normalize", arithmetic::l2_normalize),
    ("leaky_relu", |call| {
        let slope = call.number("alpha", 0.2)?;
        Ok(Operation::new("nn.LeakyRelu", [call.first()?]).with("negative_slope", slope))
    }),
    ("log_softmax", |call| axes::softmax(call, "nn.LogSoftmax")),
    ("matmul", arithmetic::matmul),
    ("ne", |call| {
        arithmetic::binary(call, "numpy.NotEqual", Numbers::Strong, "other")
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
    ("softmax", |call| axes::softmax(call, "nn.Softmax")),
    ("space_to_depth", |call| {
        arranging::blocks(call, "nn.SpaceToDepth")
    }),
    ("split", arranging::split),
    ("squared_difference", arithmetic::squared_difference),
    ("squeeze", arranging::squeeze),
    ("stack", arranging::stack),
    ("tensordot", arithmetic::tensordot),
    ("tile", arranging::tile),
    ("top_k", axes::top_k),
    ("transpose", arranging::transpose),
    ("truediv", |call| arithmetic::quotient(call, "numpy.Divide")),
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
        return arithmetic::binary(call, path, *numbers, "y");
    }
    if let Some((_, path, dtypes)) = REDUCTIONS.iter().find(|(known, ..)| *known == name) {
        let operation = axes::reduction(call, path)?;
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

fn cast(call: &Call<'_>) -> Result<Operation> {
    let dtype = call.required("dtype")?.clone();
    Ok(Operation::new("core.Cast", [call.first()?]).with("dtype", dtype))
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

fn choose(call: &Call<'_>) -> Result<Operation> {
    let arguments = [call.first()?, call.operand("x")?, call.operand("y")?];
    Ok(beside(
        Operation::new("numpy.Where", arguments),
        Numbers::Weak,
    ))
}
