//! Keras's constraints: what variables are projected onto after each step of an optimizer.

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::config::{Given, Named, Options};
use crate::error::{Error, Result};

const MODULE: &str = "keras.constraints";

const NAMES: &str = "MaxNorm, MinMaxNorm, NonNeg, UnitNorm";

/// `keras.backend.epsilon()`, which Keras adds to norms before it divides by them.
const EPSILON: f64 = 1e-7;

/// A constraint with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint(Rule);

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    NonNeg,
    UnitNorm(Axes),
    /// Norms go by `rate` of the way towards the nearest one from `min` to `max`.
    Norm {
        min: f64,
        max: f64,
        rate: f64,
        axes: Axes,
    },
}

/// The axes that a norm is taken along; `None` are all.
type Axes = Option<Vec<i64>>;

impl Constraint {
    /// Reads a layer's argument: null, a name, or Keras's serialization. `place` names its owner
    /// in errors, such as `layer "dense" (Dense), kernel_constraint`.
    ///
    /// # Errors
    /// It is no constraint of Keras, or has arguments that Keras's does not take.
    pub fn from_config(value: &Value, place: &str) -> Result<Option<Self>> {
        if value.is_null() {
            return Ok(None);
        }
        let named = Named::builtin(value, MODULE, place)?;
        let options = Options::new(format!("{place} {}", named.class), &named.config);
        let rule = match named.class.as_str() {
            "MaxNorm" | "max_norm" => Rule::Norm {
                min: 0.0,
                max: options.number("max_value", 2.0)?,
                rate: 1.0,
                axes: axes(&options)?,
            },
            "MinMaxNorm" | "min_max_norm" => Rule::Norm {
                min: options.number("min_value", 0.0)?,
                max: options.number("max_value", 1.0)?,
                rate: options.number("rate", 1.0)?,
                axes: axes(&options)?,
            },
            "NonNeg" | "non_neg" => Rule::NonNeg,
            "UnitNorm" | "unit_norm" => Rule::UnitNorm(axes(&options)?),
            other => {
                return Err(Error::Unsupported {
                    place: place.to_owned(),
                    what: format!("constraint {other}"),
                    supported: NAMES.to_owned(),
                });
            }
        };
        options.finish()?;
        Ok(Some(Self(rule)))
    }

    /// Whether it looks at each element by itself.
    pub(crate) fn is_elementwise(&self) -> bool {
        matches!(self.0, Rule::NonNeg)
    }

    /// The projection of a variable's value, of the same shape, outside of any graph.
    ///
    /// # Errors
    /// The variable lacks an axis that the constraint names, or libtorch fails.
    pub fn apply(&self, value: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        match &self.0 {
            Rule::NonNeg => Ok(value.f_clamp_min(0.0)?),
            Rule::UnitNorm(axes) => Ok(value.f_div(&norms(value, axes)?.f_add_scalar(EPSILON)?)?),
            Rule::Norm {
                min,
                max,
                rate,
                axes,
            } => {
                let norms = norms(value, axes)?;
                // In this order, `min` has its way over a `max` below it, as in TensorFlow.
                let mut desired = norms.f_clamp_max(*max)?.f_clamp_min(*min)?;
                if *rate != 1.0 {
                    let rest = norms.f_mul_scalar(1.0 - rate)?;
                    desired = desired.f_mul_scalar(*rate)?.f_add(&rest)?;
                }
                let factors = desired.f_div(&norms.f_add_scalar(EPSILON)?)?;
                Ok(value.f_mul(&factors)?)
            }
        }
    }
}

/// The L2 norms along `axes`, which stay with size 1.
fn norms(value: &Tensor, axes: &Axes) -> Result<Tensor> {
    let squares = value.f_square()?;
    let kind: Option<Kind> = None;
    let sums = match axes.as_deref() {
        // Of libtorch, no axes are all.
        Some([]) => squares,
        Some(axes) => squares.f_sum_dim_intlist(axes, true, kind)?,
        None => squares.f_sum_dim_intlist(None::<&[i64]>, true, kind)?,
    };
    Ok(sums.f_sqrt()?)
}

/// One axis, a list of them, or null for all.
fn axes(options: &Options<'_>) -> Result<Axes> {
    let axis = match options.given("axis") {
        Given::Absent => return Ok(Some(vec![0])),
        Given::Null => return Ok(None),
        Given::Value(axis) => axis,
    };
    let axes = match axis {
        Value::Array(items) => items.iter().map(Value::as_i64).collect(),
        _ => axis.as_i64().map(|axis| vec![axis]),
    };
    let invalid = || {
        options.invalid(format!(
            "axis = {axis} must be an integer or a list of them"
        ))
    };
    axes.map(Some).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Option<Constraint>> {
        Constraint::from_config(value, "layer \"dense\" (Dense), kernel_constraint")
    }

    #[test]
    fn null_is_no_constraint() {
        assert_eq!(read(&Value::Null).unwrap(), None);
    }

    #[test]
    fn what_keras_does_not_have_is_refused_by_name() {
        let refused = [
            (json!("magic"), "constraint magic"),
            (
                json!({"class_name": "NonNeg", "config": {"axis": 0}}),
                "axis = 0",
            ),
            (
                json!({"class_name": "UnitNorm", "config": {"axis": "0"}}),
                "axis = \"0\"",
            ),
            (
                json!({"class_name": "MaxNorm", "config": {"max_value": null}}),
                "max_value = null",
            ),
            (
                json!({"module": "mine", "class_name": "MaxNorm", "config": {}}),
                "MaxNorm of module",
            ),
        ];
        for (value, what) in refused {
            let message = read(&value).unwrap_err().to_string();
            assert!(message.contains("kernel_constraint"), "{message}");
            assert!(message.contains(what), "{message}");
        }
    }

    #[test]
    fn an_axis_that_the_variable_lacks_is_an_error() {
        let constraint = read(&json!({"class_name": "UnitNorm", "config": {"axis": 2}}));
        let value = Tensor::from_slice(&[1.0_f32, 2.0]).reshape([1, 2]);
        assert!(constraint.unwrap().unwrap().apply(&value).is_err());
    }
}
