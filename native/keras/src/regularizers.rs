//! Keras's regularizers: penalties on weights or activities that are added to the loss.

use serde_json::Value;
use tch::Tensor;

use crate::config::{Named, Options};
use crate::error::{Error, Result};

const MODULE: &str = "keras.regularizers";

const NAMES: &str = "L1, L2, L1L2, OrthogonalRegularizer";

/// The square of the least norm that Keras divides by, `keras.backend.epsilon()`. Below it the norm
/// has no gradient, so that a vector of zeros has the gradient 0, as there.
const LEAST_SQUARED_NORM: f64 = 1e-14;

/// A regularizer with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Regularizer(Rule);

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    /// Factors of the sum of absolute values and of the sum of squares; `None` leaves a sum out,
    /// so that one that is not finite makes no NaN.
    Norms { l1: Option<f64>, l2: Option<f64> },
    /// Pulls the rows, or the columns, of a matrix towards orthogonality.
    Orthogonal { factor: f64, of_rows: bool },
}

impl Regularizer {
    /// Reads a layer's argument: null, a name, or Keras's serialization. `place` names its owner
    /// in errors, such as `layer "dense" (Dense), kernel_regularizer`.
    ///
    /// # Errors
    /// It is no regularizer of Keras, or has arguments that Keras's does not take.
    pub fn from_config(value: &Value, place: &str) -> Result<Option<Self>> {
        if value.is_null() {
            return Ok(None);
        }
        let unsupported = |what: &str| Error::Unsupported {
            place: place.to_owned(),
            what: format!("regularizer {what}"),
            supported: NAMES.to_owned(),
        };
        // Keras documents this bare name with factors of 0.01, and does not find it.
        if value == "l1_l2" {
            return Err(unsupported("l1_l2 without factors"));
        }
        let named = Named::builtin(value, MODULE, place)?;
        let options = Options::new(format!("{place} {}", named.class), &named.config);
        let rule = match named.class.as_str() {
            "L1" | "l1" => Rule::Norms {
                l1: Some(factor(&options, "l1", 0.01)?),
                l2: None,
            },
            "L2" | "l2" => Rule::Norms {
                l1: None,
                l2: Some(factor(&options, "l2", 0.01)?),
            },
            "L1L2" | "l1l2" | "l1_l2" => Rule::Norms {
                l1: Some(factor(&options, "l1", 0.0)?).filter(|&l1| l1 != 0.0),
                l2: Some(factor(&options, "l2", 0.0)?).filter(|&l2| l2 != 0.0),
            },
            "OrthogonalRegularizer" | "orthogonal_regularizer" => Rule::Orthogonal {
                factor: checked(&options, "factor", options.number("factor", 0.01)?)?,
                of_rows: options.choice("mode", "rows", &["rows", "columns"])? == "rows",
            },
            other => return Err(unsupported(other)),
        };
        options.finish()?;
        Ok(Some(Self(rule)))
    }

    /// Whether the penalty on a value is the sum of those on its parts.
    pub(crate) fn is_sum(&self) -> bool {
        matches!(self.0, Rule::Norms { .. })
    }

    /// The penalty on `x`, a scalar of its dtype, through which gradients flow. Of an activity,
    /// Keras divides it by the batch size.
    ///
    /// # Errors
    /// An OrthogonalRegularizer meets another rank than 2, or libtorch fails.
    pub fn loss(&self, x: &Tensor) -> Result<Tensor> {
        match self.0 {
            Rule::Norms { l1, l2 } => {
                let mut loss = Tensor::f_zeros([0_i64; 0], (x.kind(), x.device()))?;
                if let Some(l1) = l1 {
                    let sum = x.f_abs()?.f_sum(x.kind())?;
                    loss = loss.f_add(&sum.f_mul_scalar(l1)?)?;
                }
                if let Some(l2) = l2 {
                    let sum = x.f_square()?.f_sum(x.kind())?;
                    loss = loss.f_add(&sum.f_mul_scalar(l2)?)?;
                }
                Ok(loss)
            }
            Rule::Orthogonal { factor, of_rows } => orthogonal(x, factor, of_rows),
        }
    }
}

/// The mean absolute cosine of the angles between the rows, or columns, of `x`.
fn orthogonal(x: &Tensor, factor: f64, of_rows: bool) -> Result<Tensor> {
    let [rows, columns] = *x.size() else {
        return Err(Error::ShapeMismatch {
            place: "OrthogonalRegularizer".to_owned(),
            reason: format!("it needs a matrix, but the shape is {:?}", x.size()),
        });
    };
    let (vectors, count) = if of_rows {
        (x.shallow_clone(), rows)
    } else {
        (x.f_tr()?, columns)
    };
    let squares = vectors.f_square()?.f_sum_dim_intlist(1, true, x.kind())?;
    let inverses = squares.f_clamp_min(LEAST_SQUARED_NORM)?.f_rsqrt()?;
    let units = vectors.f_mul(&inverses)?;
    let cosines = units.f_matmul(&units.f_tr()?)?;
    let others = Tensor::f_eye(count, (x.kind(), x.device()))?
        .f_neg()?
        .f_add_scalar(1.0)?;
    let sum = cosines.f_mul(&others)?.f_abs()?.f_sum(x.kind())?;
    let count = count as f64;
    let pairs = count * (count - 1.0) / 2.0;
    Ok(sum
        .f_mul_scalar(factor)?
        .f_mul_scalar(0.5)?
        .f_div_scalar(pairs)?)
}

/// A factor whose default also stands for null.
fn factor(options: &Options<'_>, key: &str, default: f64) -> Result<f64> {
    checked(options, key, options.f64(key, default)?)
}

fn checked(options: &Options<'_>, key: &str, factor: f64) -> Result<f64> {
    if factor.is_finite() && factor >= 0.0 {
        return Ok(factor);
    }
    Err(options.invalid(format!("{key} = {factor} must be finite and 0 or above")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Option<Regularizer>> {
        Regularizer::from_config(value, "layer \"dense\" (Dense), kernel_regularizer")
    }

    #[test]
    fn null_is_no_regularizer() {
        assert_eq!(read(&Value::Null).unwrap(), None);
    }

    #[test]
    fn what_keras_does_not_have_is_refused_by_name() {
        let refused = [
            (json!("magic"), "regularizer magic"),
            (json!("l1_l2"), "regularizer l1_l2 without factors"),
            (
                json!({"class_name": "L2", "config": {"l1": 0.1}}),
                "l1 = 0.1",
            ),
            (
                json!({"class_name": "L2", "config": {"l2": -0.1}}),
                "l2 = -0.1",
            ),
            (
                json!({"class_name": "OrthogonalRegularizer", "config": {"factor": null}}),
                "factor = null",
            ),
            (
                json!({"class_name": "OrthogonalRegularizer", "config": {"mode": "cubes"}}),
                "mode = \"cubes\"",
            ),
            (
                json!({"class_name": "L1", "config": {}, "registered_name": "mine>L1"}),
                "L1 registered as \"mine>L1\"",
            ),
        ];
        for (value, what) in refused {
            let message = read(&value).unwrap_err().to_string();
            let place = "layer \"dense\" (Dense), kernel_regularizer";
            assert!(message.starts_with(place), "{message}");
            assert!(message.contains(what), "{message}");
        }
    }

    #[test]
    fn orthogonality_is_of_matrices() {
        let regularizer = read(&json!("orthogonal_regularizer")).unwrap().unwrap();
        let error = regularizer
            .loss(&Tensor::from_slice(&[1.0_f32]))
            .unwrap_err();
        assert!(error.to_string().contains("[1]"), "{error}");
    }
}
