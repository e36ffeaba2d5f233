//! Correlations of labels and outputs along an axis of each row.

use tch::Tensor;

use crate::error::Result;
use crate::losses::arguments::Arguments;
use crate::losses::function::{Elements, Function};
use crate::losses::prediction::Prediction;

/// `keras.backend.epsilon()`.
const EPSILON: f64 = 1e-7;

/// Pearson's. Along constant labels or outputs it is NaN, as in Keras.
#[derive(Debug)]
pub(super) struct Pearson(Axes);

/// Lin's. Keras takes the labels' distance from the outputs' mean, and so does this.
#[derive(Debug)]
pub(super) struct Concordance(Axes);

#[derive(Debug)]
struct Axes {
    axes: Vec<i64>,
    place: String,
}

impl Axes {
    fn read(arguments: &Arguments<'_>) -> Result<Self> {
        Ok(Self {
            axes: arguments.axes("axis")?,
            place: arguments.place().to_owned(),
        })
    }
}

impl Pearson {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self(Axes::read(arguments)?)))
    }
}

impl Concordance {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self(Axes::read(arguments)?)))
    }
}

impl Function for Pearson {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axes = y.axes(&self.0.axes, &self.0.place)?;
        let standard = |values: &Tensor| -> Result<Tensor> {
            let centered = values.f_sub(&mean(values, &axes, true)?)?;
            let deviation = variance(&centered, &axes)?.f_sqrt()?;
            Ok(centered.f_div(&deviation)?)
        };
        let products = standard(y_true)?.f_mul(&standard(&y.y()?)?)?;
        Ok(mean(&products, &axes, false)?.into())
    }
}

impl Function for Concordance {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axes = y.axes(&self.0.axes, &self.0.place)?;
        let y = y.y()?;
        let (label_mean, y_mean) = (mean(y_true, &axes, true)?, mean(&y, &axes, true)?);
        let covariance = y_true.f_sub(&y_mean)?.f_mul(&y.f_sub(&y_mean)?)?;
        let norm = variance(&y_true.f_sub(&label_mean)?, &axes)?
            .f_add(&variance(&y.f_sub(&y_mean)?, &axes)?)?
            .f_add(&label_mean.f_sub(&y_mean)?.f_square()?)?
            .f_add_scalar(EPSILON)?;
        Ok(mean(&covariance.f_mul_scalar(2.0)?.f_div(&norm)?, &axes, false)?.into())
    }
}

fn mean(values: &Tensor, axes: &[i64], keep: bool) -> Result<Tensor> {
    Ok(values.f_mean_dim(axes, keep, values.kind())?)
}

/// Of a population.
fn variance(values: &Tensor, axes: &[i64]) -> Result<Tensor> {
    let centered = values.f_sub(&mean(values, axes, true)?)?;
    mean(&centered.f_square()?, axes, true)
}
