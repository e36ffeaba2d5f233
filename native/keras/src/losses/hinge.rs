//! Keras's hinge losses. Labels of 0 and 1 stand for -1 and 1, but only in a batch that holds no
//! others; so the ranks have to find out together which it is.

use tch::{Kind, Tensor};

use super::crossentropy::{complement, mean, sum};
use super::function::{Batchwise, Elements, Function, Outcome};
use super::prediction::Prediction;
use super::reduction::{Reduction, Weighing};
use crate::error::Result;

/// `max(1 - y_true y, 0)`, or its square.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hinge {
    squared: bool,
}

impl Hinge {
    pub(crate) const PLAIN: Self = Self { squared: false };
    pub(crate) const SQUARED: Self = Self { squared: true };

    /// Number of labels that are neither 0 nor 1: float64, a scalar.
    pub(crate) fn others(y_true: &Tensor) -> Result<Tensor> {
        let binary = y_true.f_eq(0.0)?.f_logical_or(&y_true.f_eq(1.0)?)?;
        Ok(binary.f_logical_not()?.f_sum(Kind::Double)?)
    }

    /// The values for labels as they are, and those for labels 0 and 1 read as -1 and 1.
    pub(crate) fn both(&self, y_true: &Tensor, y: &Tensor) -> Result<[Elements; 2]> {
        let converted = y_true.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
        Ok([self.values(y_true, y)?, self.values(&converted, y)?])
    }

    fn values(&self, y_true: &Tensor, y: &Tensor) -> Result<Elements> {
        let missing = complement(&y_true.f_mul(y)?)?.f_clamp_min(0.0)?;
        let missing = if self.squared {
            missing.f_square()?
        } else {
            missing
        };
        Ok(mean(&missing, &[-1])?.into())
    }
}

impl Function for Hinge {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let [plain, converted] = self.both(y_true, &y.y()?)?;
        let binary = Self::others(y_true)?.f_eq(0.0)?;
        Ok(converted
            .values
            .f_where_self(&binary, &plain.values)?
            .into())
    }

    fn batchwise(&self) -> Option<&dyn Batchwise> {
        Some(self)
    }
}

impl Batchwise for Hinge {
    fn sum_count(&self, _output_shape: &[i64]) -> usize {
        4
    }

    /// Labels that are neither 0 nor 1 | both sums | divisor.
    fn sums(&self, y_true: &Tensor, y: &Prediction<'_>, weighing: &Weighing<'_>) -> Result<Tensor> {
        let [plain, converted] = self.both(y_true, &y.y()?)?;
        let plain = weighing.weigh(&plain)?;
        let converted = weighing.weigh(&converted)?.values.f_sum(Kind::Double)?;
        let sums = [
            Self::others(y_true)?,
            plain.values.f_sum(Kind::Double)?,
            converted,
            plain.divisor,
        ];
        Ok(Tensor::f_stack(&sums, 0)?)
    }

    fn outcome(&self, totals: &[f64], reduction: Reduction) -> Outcome {
        let [others, plain, converted, divisor] = *totals else {
            return Outcome::default();
        };
        let binary = others == 0.0;
        let Outcome { value, slopes } =
            reduction.outcome(if binary { converted } else { plain }, divisor);
        let slope = slopes[0];
        let slopes = if binary {
            vec![0.0, 0.0, slope, 0.0]
        } else {
            vec![0.0, slope, 0.0, 0.0]
        };
        Outcome { value, slopes }
    }
}

/// `max(max((1 - y_true) y) - sum(y_true y) + 1, 0)`.
#[derive(Debug)]
pub(super) struct CategoricalHinge;

impl Function for CategoricalHinge {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let y = y.y()?;
        let hit = sum(&y_true.f_mul(&y)?, &[-1], false)?;
        let miss = complement(y_true)?.f_mul(&y)?.f_amax([-1_i64], false)?;
        Ok(miss
            .f_sub(&hit)?
            .f_add_scalar(1.0)?
            .f_clamp_min(0.0)?
            .into())
    }
}
