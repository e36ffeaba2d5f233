//! Keras's activation functions, by name or as the layers that hold their parameters.

pub(crate) mod functions;

use serde_json::Value as Json;
use tch::Tensor;

use crate::config::{Given, Options};
use crate::error::{Error, Result};
use crate::registry::{Entry, Family};
use crate::spec::{Spec, SpecResult};
use crate::value::Value;

const NAMES: &str = "celu, elu, exponential, gelu, glu, hard_shrink, hard_sigmoid, hard_silu, \
                     hard_swish, hard_tanh, leaky_relu, linear, log_sigmoid, log_softmax, mish, \
                     relu, relu6, selu, sigmoid, silu, soft_shrink, softmax, softplus, softsign, \
                     sparse_plus, sparse_sigmoid, sparsemax, squareplus, swish, tanh, tanh_shrink; \
                     the layers ReLU, LeakyReLU, ELU, Softmax";

/// A function applied to each element, or along one axis for the softmaxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// The input itself.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// Keras's ReLU layer: `x` above `threshold` and up to `max_value`, below it
    /// `negative_slope * (x - threshold)`.
    BoundedRelu {
        /// Slope below the threshold.
        negative_slope: f64,
        /// Largest output.
        max_value: Option<f64>,
        /// Where the positive part starts.
        threshold: f64,
    },
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` above 0, else `slope * x`.
    LeakyRelu(f64),
    /// `x` above 0, else `alpha * (exp(x) - 1)`.
    Elu(f64),
    /// `x` above 0, else `alpha * (exp(x / alpha) - 1)`.
    Celu(f64),
    /// ELU scaled so that activations keep mean 0 and variance 1.
    Selu,
    /// `x * P(X <= x)` for a standard normal X (exact, as Keras's name "gelu").
    Gelu,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// The first half of the axis times the sigmoid of the second.
    Glu(i64),
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `x * relu6(x + 3) / 6`, also called hard_swish.
    HardSilu,
    /// `x` between -1 and 1, else the nearer of them.
    HardTanh,
    /// `x` where its magnitude is above this, else 0.
    HardShrink(f64),
    /// `x` nearer to 0 by this, 0 where its magnitude is less.
    SoftShrink(f64),
    /// Hyperbolic tangent.
    Tanh,
    /// `x - tanh(x)`.
    TanhShrink,
    /// `log(sigmoid(x))`.
    LogSigmoid,
    /// 0 up to -1, 1 from 1 on, a line between.
    SparseSigmoid,
    /// 0 up to -1, `x` from 1 on, `(x + 1)^2 / 4` between.
    SparsePlus,
    /// The nearest probabilities along the axis.
    Sparsemax(i64),
    /// `(x + sqrt(x^2 + b)) / 2`.
    Squareplus(f64),
    /// Exponentials divided by their sum along the axis.
    Softmax(i64),
    /// Logarithm of softmax along the axis.
    LogSoftmax(i64),
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `exp(x)`.
    Exponential,
}

impl Activation {
    /// Reads option `key` of a layer: null, a name, or an activation layer with its config.
    pub fn read(options: &Options<'_>, key: &str) -> Result<Self> {
        options.value(key).map_or(Ok(Self::Linear), |value| {
            Self::from_value(value, options.place())
        })
    }

    /// Reads a name, a serialized function of `keras.activations`, or an activation layer.
    ///
    /// # Errors
    /// It is a user's own, or not known; named.
    pub fn from_value(value: &Json, place: &str) -> Result<Self> {
        let unsupported = |supported: &str| Error::Unsupported {
            place: place.to_owned(),
            what: format!("activation {value}"),
            supported: supported.to_owned(),
        };
        if value.is_string() || value["class_name"] == "function" {
            let name = function_name(value).ok_or_else(|| unsupported(NAMES))?;
            if name == "threshold" {
                return Err(unsupported(
                    "no activation of this name: Keras calls it without the threshold it needs",
                ));
            }
            return Self::from_name(name).ok_or_else(|| unsupported(NAMES));
        }
        let entry = Entry::read(value).map_err(|_| unsupported(NAMES))?;
        if entry.family != Family::Layers {
            return Err(unsupported(NAMES));
        }
        let options = Options::new(
            format!("{place}, activation {}", entry.class),
            &entry.config,
        );
        options.ignore(&["name", "trainable", "dtype", "build_config"]);
        let Some(activation) = Self::from_layer(&entry.class, &options)? else {
            return Err(unsupported(NAMES));
        };
        options.finish()?;
        Ok(activation)
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "linear" => Self::Linear,
            "relu" => Self::Relu,
            "relu6" => Self::Relu6,
            "leaky_relu" => Self::LeakyRelu(0.2),
            "elu" => Self::Elu(1.0),
            "celu" => Self::Celu(1.0),
            "selu" => Self::Selu,
            "gelu" => Self::Gelu,
            "silu" | "swish" => Self::Silu,
            "mish" => Self::Mish,
            "glu" => Self::Glu(-1),
            "sigmoid" => Self::Sigmoid,
            "hard_sigmoid" => Self::HardSigmoid,
            "hard_silu" | "hard_swish" => Self::HardSilu,
            "hard_tanh" => Self::HardTanh,
            "hard_shrink" => Self::HardShrink(0.5),
            "soft_shrink" => Self::SoftShrink(0.5),
            "tanh" => Self::Tanh,
            "tanh_shrink" => Self::TanhShrink,
            "log_sigmoid" => Self::LogSigmoid,
            "sparse_sigmoid" => Self::SparseSigmoid,
            "sparse_plus" => Self::SparsePlus,
            "sparsemax" => Self::Sparsemax(-1),
            "squareplus" => Self::Squareplus(4.0),
            "softmax" => Self::Softmax(-1),
            "log_softmax" => Self::LogSoftmax(-1),
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "exponential" => Self::Exponential,
            _ => return None,
        })
    }

    /// The function of an activation layer of Keras (`ReLU`, `LeakyReLU`, `ELU`, `Softmax`,
    /// `Activation`); `None` for another class. Keras 2's names of the parameters are read too.
    pub fn from_layer(class: &str, options: &Options<'_>) -> Result<Option<Self>> {
        let not_negative = |key: &str, value: f64| {
            if value < 0.0 {
                return Err(options.invalid(format!("{key} = {value} must not be negative")));
            }
            Ok(value)
        };
        let number = |key: &str, default| not_negative(key, options.number(key, default)?);
        Ok(Some(match class {
            "Activation" => Self::read(options, "activation")?,
            "ReLU" => {
                let negative_slope = number("negative_slope", 0.0)?;
                let threshold = number("threshold", 0.0)?;
                let max_value = options.number_or_null("max_value", None)?;
                let max_value = max_value.map(|value| not_negative("max_value", value));
                let max_value = max_value.transpose()?;
                if negative_slope == 0.0 && threshold == 0.0 && max_value.is_none() {
                    Self::Relu
                } else {
                    Self::BoundedRelu {
                        negative_slope,
                        max_value,
                        threshold,
                    }
                }
            }
            "LeakyReLU" => {
                let slope = number("negative_slope", 0.3)?;
                Self::LeakyRelu(number("alpha", slope)?)
            }
            "ELU" => Self::Elu(options.number("alpha", 1.0)?),
            "Softmax" => match softmax_axes(options)?.as_slice() {
                [axis] => Self::Softmax(*axis),
                axes => {
                    let axes = Json::from(axes.to_vec());
                    return Err(options.unsupported("axis", &axes, "one axis"));
                }
            },
            _ => return Ok(None),
        }))
    }

    /// Whether it looks at each element by itself.
    pub(crate) fn is_elementwise(&self) -> bool {
        let along_an_axis = matches!(
            self,
            Self::Glu(_) | Self::Softmax(_) | Self::LogSoftmax(_) | Self::Sparsemax(_)
        );
        !along_an_axis
    }

    /// Whether Keras marks the output with `_keras_logits`, so that a crossentropy works on the
    /// input of this activation.
    pub fn keeps_logits(&self) -> bool {
        matches!(self, Self::Sigmoid | Self::Softmax(_))
    }

    /// The function of a value. Softmax and sigmoid are left to be applied when asked for, so
    /// that crossentropies find their logits; the mask stays.
    pub(crate) fn apply_to(&self, value: &Value) -> Result<Value> {
        let mask = value.mask().map(Tensor::shallow_clone);
        let result = match self {
            Self::Linear => return Ok(value.clone()),
            _ if self.keeps_logits() => Value::from_logits(value.y()?.shallow_clone(), *self),
            _ => Value::new(self.apply(value.y()?)?),
        };
        Ok(result.with_mask(mask))
    }

    /// The spec of the function's value.
    pub(crate) fn infer(&self, input: &Spec) -> SpecResult {
        match *self {
            Self::Softmax(axis) | Self::LogSoftmax(axis) | Self::Sparsemax(axis) => {
                input.axis(axis)?;
            }
            Self::Glu(axis) => {
                let at = input.axis(axis)?;
                let mut dims = input.dims.clone();
                if dims[at].is_some_and(|size| size % 2 != 0) {
                    return Err(format!(
                        "glu needs an even size of axis {axis}, got {input}"
                    ));
                }
                dims[at] = dims[at].map(|size| size / 2);
                return Ok(input.with_dims(dims));
            }
            _ => {}
        }
        Ok(input.clone())
    }

    /// The function's value.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match *self {
            Self::Linear => x.shallow_clone(),
            Self::Relu => x.f_relu()?,
            Self::BoundedRelu {
                negative_slope,
                max_value,
                threshold,
            } => functions::bounded_relu(x, negative_slope, max_value, threshold)?,
            Self::Relu6 => x.f_relu6()?,
            Self::LeakyRelu(slope) => functions::leaky_relu(x, slope)?,
            Self::Elu(alpha) => functions::elu(x, alpha)?,
            Self::Celu(alpha) => functions::celu(x, alpha)?,
            Self::Selu => functions::selu(x)?,
            Self::Gelu => x.f_gelu("none")?,
            Self::Silu => x.f_silu()?,
            Self::Mish => x.f_mish()?,
            Self::Glu(axis) => x.f_glu(axis)?,
            Self::Sigmoid => x.f_sigmoid()?,
            Self::HardSigmoid => x.f_hardsigmoid()?,
            Self::HardSilu => functions::hard_silu(x)?,
            Self::HardTanh => x.f_clamp(-1.0, 1.0)?,
            Self::HardShrink(threshold) => functions::hard_shrink(x, threshold)?,
            Self::SoftShrink(threshold) => functions::soft_shrink(x, threshold)?,
            Self::Tanh => x.f_tanh()?,
            Self::TanhShrink => x.f_sub(&x.f_tanh()?)?,
            Self::LogSigmoid => x.f_log_sigmoid()?,
            Self::Softmax(axis) => x.f_softmax(axis, None)?,
            Self::LogSoftmax(axis) => x.f_log_softmax(axis, None)?,
            Self::Sparsemax(axis) => functions::sparsemax(x, axis)?,
            Self::Softplus => x.f_softplus()?,
            Self::Softsign => functions::softsign(x)?,
            Self::SparsePlus => functions::sparse_plus(x)?,
            Self::SparseSigmoid => functions::sparse_sigmoid(x)?,
            Self::Squareplus(b) => functions::squareplus(x, b)?,
            Self::Exponential => x.f_exp()?,
        })
    }
}

/// The name of a function of Keras's own: a string, or the object that Keras 3 serializes, in
/// which a user's function has another module or is registered under another name.
fn function_name(value: &Json) -> Option<&str> {
    if value.is_string() {
        return value.as_str();
    }
    let name = value["config"].as_str()?;
    let ours = |key: &str, allowed: &[&str]| match &value[key] {
        Json::Null => true,
        found => found.as_str().is_some_and(|found| allowed.contains(&found)),
    };
    let own = ours("module", &["builtins", "keras.activations"]);
    (own && ours("registered_name", &[name, "function"])).then_some(name)
}

/// Reads option `axis` of the layer Softmax, an axis or a list of them.
pub(crate) fn softmax_axes(options: &Options<'_>) -> Result<Vec<i64>> {
    let axes = match options.given("axis") {
        Given::Absent => Some(vec![-1]),
        // Keras would let the rows of a batch compete with each other.
        Given::Null => return Err(options.unsupported("axis", &Json::Null, "one axis or more")),
        Given::Value(Json::Array(axes)) => axes.iter().map(Json::as_i64).collect(),
        Given::Value(axis) => axis.as_i64().map(|axis| vec![axis]),
    };
    let axes = axes.filter(|axes: &Vec<i64>| !axes.is_empty());
    axes.ok_or_else(|| options.invalid("axis must be an integer or a list of them"))
}
