//! Keras's activation functions, by name or as the layers that hold their parameters.

use serde_json::Value as Json;
use tch::Tensor;

use crate::config::{Named, Options};
use crate::error::{Error, Result};
use crate::value::Value;

const NAMES: &str = "linear, relu, relu6, leaky_relu, elu, selu, gelu, silu, swish, mish, sigmoid, \
                     hard_sigmoid, tanh, softmax, log_softmax, softplus, softsign, exponential";

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
    /// ELU scaled so that activations keep mean 0 and variance 1.
    Selu,
    /// `x * P(X <= x)` for a standard normal X (exact, as Keras's name "gelu").
    Gelu,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// Hyperbolic tangent.
    Tanh,
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

    fn from_value(value: &Json, place: &str) -> Result<Self> {
        let named = Named::from_value(value, place)?;
        if let Some(activation) = Self::from_name(&named.class) {
            return Ok(activation);
        }
        let options = Options::new(
            format!("{place}, activation {}", named.class),
            &named.config,
        );
        options.ignore(&["name", "trainable", "dtype"]);
        let Some(activation) = Self::from_layer(&named.class, &options)? else {
            return Err(Error::Unsupported {
                place: place.to_owned(),
                what: format!("activation {value}"),
                supported: NAMES.to_owned(),
            });
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
            "selu" => Self::Selu,
            "gelu" => Self::Gelu,
            "silu" | "swish" => Self::Silu,
            "mish" => Self::Mish,
            "sigmoid" => Self::Sigmoid,
            "hard_sigmoid" => Self::HardSigmoid,
            "tanh" => Self::Tanh,
            "softmax" => Self::Softmax(-1),
            "log_softmax" => Self::LogSoftmax(-1),
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "exponential" => Self::Exponential,
            _ => return None,
        })
    }

    /// The function of an activation layer of Keras (`ReLU`, `LeakyReLU`, `ELU`, `Softmax`);
    /// `None` for another class. Keras 2's names of the parameters are read too.
    pub fn from_layer(class: &str, options: &Options<'_>) -> Result<Option<Self>> {
        Ok(Some(match class {
            "ReLU" => {
                let negative_slope = options.f64("negative_slope", 0.0)?;
                let max_value = options.optional_f64("max_value")?;
                let threshold = options.f64("threshold", 0.0)?;
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
                let alpha = options.f64("alpha", 0.3)?;
                Self::LeakyRelu(options.f64("negative_slope", alpha)?)
            }
            "ELU" => Self::Elu(options.f64("alpha", 1.0)?),
            "Softmax" => Self::Softmax(options.i64("axis", -1)?),
            _ => return Ok(None),
        }))
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

    /// The function's value, of the input's shape.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match *self {
            Self::Linear => x.shallow_clone(),
            Self::Relu => x.f_relu()?,
            Self::BoundedRelu {
                negative_slope,
                max_value,
                threshold,
            } => bounded_relu(x, negative_slope, max_value, threshold)?,
            Self::Relu6 => x.f_relu6()?,
            Self::LeakyRelu(slope) => leaky_relu(x, slope)?,
            Self::Elu(1.0) => x.f_elu()?,
            Self::Elu(alpha) => {
                let elu = x.f_elu()?;
                elu.f_where_self(&x.f_gt(0.0)?, &elu.f_mul_scalar(alpha)?)?
            }
            Self::Selu => x.f_selu()?,
            Self::Gelu => x.f_gelu("none")?,
            Self::Silu => x.f_silu()?,
            Self::Mish => x.f_mish()?,
            Self::Sigmoid => x.f_sigmoid()?,
            Self::HardSigmoid => x.f_hardsigmoid()?,
            Self::Tanh => x.f_tanh()?,
            Self::Softmax(axis) => x.f_softmax(axis, None)?,
            Self::LogSoftmax(axis) => x.f_log_softmax(axis, None)?,
            Self::Softplus => x.f_softplus()?,
            Self::Softsign => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?)?,
            Self::Exponential => x.f_exp()?,
        })
    }
}

fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    let weight = Tensor::f_full([1], slope, (x.f_kind()?, x.device()))?;
    Ok(x.f_prelu(&weight)?)
}

/// Keras's `relu(x, negative_slope, max_value, threshold)`, step by step.
fn bounded_relu(
    x: &Tensor,
    negative_slope: f64,
    max_value: Option<f64>,
    threshold: f64,
) -> Result<Tensor> {
    if negative_slope != 0.0 && max_value.is_none() && threshold == 0.0 {
        return leaky_relu(x, negative_slope);
    }
    let positive = if threshold != 0.0 {
        x.f_mul(&x.f_gt(threshold)?.f_to_kind(x.f_kind()?)?)?
    } else if max_value == Some(6.0) {
        x.f_relu6()?
    } else {
        x.f_relu()?
    };
    let positive = match max_value {
        Some(max) => positive.f_clamp(0.0, max)?,
        None => positive,
    };
    if negative_slope == 0.0 {
        return Ok(positive);
    }
    let negative = x.f_neg()?.f_add_scalar(threshold)?.f_relu()?;
    Ok(positive.f_sub(&negative.f_mul_scalar(negative_slope)?)?)
}
