//! Keras's losses of distance between values, and those between distributions that are no
//! crossentropies. All but the cosine and the divergence are means over the last axis.

use tch::Tensor;

use super::arguments::Arguments;
use super::crossentropy::{EPSILON, mean, sum};
use super::function::{Elements, Function};
use super::prediction::Prediction;
use crate::error::Result;

/// `(y_true - y)^2`.
#[derive(Debug)]
pub(super) struct MeanSquaredError;

impl Function for MeanSquaredError {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        over_last_axis(&y_true.f_sub(&y.y()?)?.f_square()?)
    }
}

/// `|y_true - y|`.
#[derive(Debug)]
pub(super) struct MeanAbsoluteError;

impl Function for MeanAbsoluteError {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        over_last_axis(&y_true.f_sub(&y.y()?)?.f_abs()?)
    }
}

/// `100 |y_true - y| / |y_true|`.
#[derive(Debug)]
pub(super) struct MeanAbsolutePercentageError;

impl Function for MeanAbsolutePercentageError {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let scale = y_true.f_abs()?.f_clamp_min(EPSILON)?;
        let ratio = y_true.f_sub(&y.y()?)?.f_div(&scale)?.f_abs()?;
        Ok(mean(&ratio, &[-1])?.f_mul_scalar(100.0)?.into())
    }
}

/// `(log(y + 1) - log(y_true + 1))^2`, of what is above 0.
#[derive(Debug)]
pub(super) struct MeanSquaredLogarithmicError;

impl Function for MeanSquaredLogarithmicError {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let log = |values: &Tensor| -> Result<Tensor> {
            Ok(values.f_clamp_min(EPSILON)?.f_add_scalar(1.0)?.f_log()?)
        };
        over_last_axis(&log(&y.y()?)?.f_sub(&log(y_true)?)?.f_square()?)
    }
}

/// Half the square up to `delta`, linear from there.
#[derive(Debug)]
pub(super) struct Huber {
    delta: f64,
}

impl Huber {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            delta: arguments.f64("delta")?,
        }))
    }
}

impl Function for Huber {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        // libtorch's own takes no delta of 0 or below, and Keras any.
        let error = y.y()?.f_sub(y_true)?;
        let distance = error.f_abs()?;
        let near = error.f_square()?.f_mul_scalar(0.5)?;
        let far = distance
            .f_mul_scalar(self.delta)?
            .f_sub_scalar(0.5 * self.delta * self.delta)?;
        over_last_axis(&near.f_where_self(&distance.f_le(self.delta)?, &far)?)
    }
}

/// `log(cosh(y - y_true))`.
#[derive(Debug)]
pub(super) struct LogCosh;

impl Function for LogCosh {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        // error + softplus(-2 error) - log(2), of which Keras has the last in float32.
        let error = y.y()?.f_sub(y_true)?;
        let softplus = error.f_mul_scalar(2.0)?.f_log_sigmoid()?.f_neg()?;
        let log2 = f64::from(std::f32::consts::LN_2);
        over_last_axis(&softplus.f_add(&error)?.f_sub_scalar(log2)?)
    }
}

/// `y - y_true log(y)`.
#[derive(Debug)]
pub(super) struct Poisson;

impl Function for Poisson {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let y = y.y()?;
        let log = y.f_add_scalar(EPSILON)?.f_log()?;
        over_last_axis(&y.f_sub(&y_true.f_mul(&log)?)?)
    }
}

/// Sum of `y_true log(y_true / y)`, both cut off at epsilon and 1.
#[derive(Debug)]
pub(super) struct KlDivergence;

impl Function for KlDivergence {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let y_true = y_true.f_clamp(EPSILON, 1.0)?;
        let ratio = y_true.f_div(&y.y()?.f_clamp(EPSILON, 1.0)?)?;
        Ok(sum(&y_true.f_mul(&ratio.f_log()?)?, &[-1], false)?.into())
    }
}

/// Cosine of the angle between labels and output; as a loss it has a minus.
#[derive(Debug)]
pub(crate) struct CosineSimilarity {
    axes: Vec<i64>,
    sign: f64,
    place: String,
}

impl CosineSimilarity {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Self::signed(arguments, -1.0)
    }

    /// The metric, which grows as the two come closer.
    pub(crate) fn metric(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Self::signed(arguments, 1.0)
    }

    fn signed(arguments: &Arguments<'_>, sign: f64) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            axes: arguments.axes("axis")?,
            sign,
            place: arguments.place().to_owned(),
        }))
    }
}

impl Function for CosineSimilarity {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axes = y.axes(&self.axes, &self.place)?;
        // Keras bounds the inverse of the length by 1 / epsilon.
        let normalized = |values: &Tensor| -> Result<Tensor> {
            let squares = sum(&values.f_square()?, &axes, true)?;
            Ok(values.f_mul(&squares.f_clamp_min(EPSILON * EPSILON)?.f_rsqrt()?)?)
        };
        let products = normalized(y_true)?.f_mul(&normalized(&y.y()?)?)?;
        Ok(sum(&products, &axes, false)?
            .f_mul_scalar(self.sign)?
            .into())
    }
}

fn over_last_axis(values: &Tensor) -> Result<Elements> {
    Ok(mean(values, &[-1])?.into())
}
