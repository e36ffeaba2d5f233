//! Dice and Tversky: how much labels and output overlap. By default over the whole batch at once,
//! so that the loss is a quotient of sums over all ranks and no mean over rows.

use tch::{Kind, Tensor};

use super::arguments::{Arguments, list, nullable};
use super::crossentropy::{EPSILON, complement};
use super::function::{Batchwise, Elements, Function, Outcome};
use super::prediction::Prediction;
use super::reduction::{Reduction, Weighing, divide_no_nan, number};
use crate::error::{Error, Result};

/// `1 - overlap`.
#[derive(Debug)]
pub(super) struct Overlap {
    measure: Measure,
    /// What is summed over; none for all axes.
    axes: Option<Vec<i64>>,
    place: String,
}

#[derive(Debug, Clone, Copy)]
enum Measure {
    /// `2 both / (y_true + y)`.
    Dice,
    /// `both / (both + alpha missed + beta wrong)`, in the words of Keras's code.
    Tversky { alpha: f64, beta: f64 },
}

/// Sums after the parts of a loss that covers all axes: weights, divisor, weighted ranks.
const WEIGHTS: usize = 3;

impl Overlap {
    pub(super) fn dice(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Self::build(arguments, Measure::Dice)
    }

    pub(super) fn tversky(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        let (alpha, beta) = (arguments.f64("alpha")?, arguments.f64("beta")?);
        Self::build(arguments, Measure::Tversky { alpha, beta })
    }

    fn build(arguments: &Arguments<'_>, measure: Measure) -> Result<Box<dyn Function>> {
        let axes = arguments.read("axis", "an axis, a list of axes or null", |value| {
            nullable(value, |value| list(value, serde_json::Value::as_i64))
        })?;
        Ok(Box::new(Self {
            measure,
            axes,
            place: arguments.place().to_owned(),
        }))
    }

    /// The axes of an output of `rank` axes, the batch's included, as counted from the front.
    fn axes(&self, rank: usize) -> Result<Vec<i64>> {
        let rank = rank as i64;
        let Some(axes) = &self.axes else {
            return Ok((0..rank).collect());
        };
        let axes = axes.iter().map(|&axis| {
            let front = if axis < 0 { axis + rank } else { axis };
            if (0..rank).contains(&front) {
                return Ok(front);
            }
            Err(Error::ShapeMismatch {
                place: self.place.clone(),
                reason: format!("axis {axis} is beyond an output of {rank} axes, batch included"),
            })
        });
        axes.collect()
    }

    /// The sums that make up the overlap, one tensor each.
    fn parts(&self, y_true: &Tensor, y: &Tensor, axes: &[i64], kind: Kind) -> Result<Vec<Tensor>> {
        let sum = |values: Tensor| values.f_sum_dim_intlist(axes, false, kind);
        let both = sum(y_true.f_mul(y)?)?;
        Ok(match self.measure {
            Measure::Dice => vec![
                both,
                sum(y_true.shallow_clone())?.f_add(&sum(y.shallow_clone())?)?,
            ],
            Measure::Tversky { .. } => vec![
                both,
                sum(complement(y)?.f_mul(y_true)?)?,
                sum(y.f_mul(&complement(y_true)?)?)?,
            ],
        })
    }

    fn part_count(&self) -> usize {
        match self.measure {
            Measure::Dice => 2,
            Measure::Tversky { .. } => 3,
        }
    }

    /// The loss of one set of sums, and its slopes.
    fn loss(&self, parts: &[f64]) -> (f64, Vec<f64>) {
        match (self.measure, parts) {
            (Measure::Dice, &[both, all]) => {
                let all = all + EPSILON;
                (
                    1.0 - 2.0 * both / all,
                    vec![-2.0 / all, 2.0 * both / (all * all)],
                )
            }
            (Measure::Tversky { alpha, beta }, &[both, missed, wrong]) => {
                let all = both + alpha * missed + beta * wrong + EPSILON;
                let slope = both / (all * all);
                (
                    1.0 - both / all,
                    vec![slope - 1.0 / all, slope * alpha, slope * beta],
                )
            }
            _ => (0.0, Vec::new()),
        }
    }

    /// Whether rows stay apart, so that the values are one or more for each of them.
    fn by_rows(&self) -> bool {
        self.axes.as_ref().is_some_and(|axes| !axes.contains(&0))
    }
}

impl Function for Overlap {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axes = self.axes(y.size().len())?;
        if axes.contains(&0) {
            return Err(Error::Unsupported {
                place: self.place.clone(),
                what: format!("axis = {:?}, which reaches the batch,", self.axes),
                supported: "0 for the batch's axis, and values by row without it".to_owned(),
            });
        }
        let y = y.y()?;
        let parts = self.parts(y_true, &y, &axes, y.kind())?;
        let overlap = match self.measure {
            Measure::Dice => parts[0]
                .f_mul_scalar(2.0)?
                .f_div(&parts[1].f_add_scalar(EPSILON)?)?,
            Measure::Tversky { alpha, beta } => parts[0].f_div(
                &parts[0]
                    .f_add(&parts[1].f_mul_scalar(alpha)?)?
                    .f_add(&parts[2].f_mul_scalar(beta)?)?
                    .f_add_scalar(EPSILON)?,
            )?,
        };
        Ok(complement(&overlap)?.into())
    }

    fn batchwise(&self) -> Option<&dyn Batchwise> {
        (!self.by_rows()).then_some(self)
    }
}

impl Batchwise for Overlap {
    fn sum_count(&self, output_shape: &[i64]) -> usize {
        let rank = output_shape.len() + 1;
        let Ok(axes) = self.axes(rank) else {
            return 0;
        };
        let kept = (1..rank).filter(|&axis| !axes.contains(&(axis as i64)));
        let values: i64 = kept.map(|axis| output_shape[axis - 1]).product();
        usize::try_from(values).unwrap_or(0) * self.part_count() + WEIGHTS
    }

    /// The parts, each over all values | weights | divisor | ranks with weights.
    fn sums(&self, y_true: &Tensor, y: &Prediction<'_>, weighing: &Weighing<'_>) -> Result<Tensor> {
        let axes = self.axes(y.size().len())?;
        let y = y.y()?;
        let parts = self.parts(y_true, &y, &axes, Kind::Double)?;
        let mut sums = vec![Tensor::f_stack(&parts, 0)?.f_flatten(0, -1)?];
        if !weighing.is_weighted() {
            let rows = number(&y, y.size()[0] as f64)?;
            sums.push(Tensor::f_stack(
                &[rows.shallow_clone(), rows, number(&y, 0.0)?],
                0,
            )?);
        } else if axes.len() == y.dim() {
            let weighted = weighing.weigh(&number(&y, 1.0)?.f_to_kind(y.kind())?.into())?;
            let weights = weighted.values.f_sum(Kind::Double)?;
            sums.push(Tensor::f_stack(
                &[weights, weighted.divisor, number(&y, 1.0)?],
                0,
            )?);
        } else {
            return Err(Error::ShapeMismatch {
                place: self.place.clone(),
                reason: "sample weights and masks go with rows or steps, but these axes leave \
                         no such values; leave the batch's axis out of axis"
                    .to_owned(),
            });
        }
        Ok(Tensor::f_cat(&sums, 0)?)
    }

    fn outcome(&self, totals: &[f64], reduction: Reduction) -> Outcome {
        let Some((parts, &[weights, divisor, ranks])) = totals.split_last_chunk::<WEIGHTS>() else {
            return Outcome::default();
        };
        let values = (parts.len() / self.part_count()).max(1);
        let weighted = ranks > 0.0;
        let count = values as f64;
        // What the mean or sum of the values is multiplied by, in the logs and when minimised.
        let mean = divide_no_nan(weights, divisor);
        let (logged, minimised) = match (reduction, weighted) {
            (Reduction::Sum, true) => (weights, weights),
            (Reduction::None, true) => (mean, weights),
            (Reduction::Sum, false) => (1.0, 1.0),
            (Reduction::None, false) => (1.0 / count, 1.0),
            _ => (mean / count, mean / count),
        };
        let mut outcome = Outcome {
            value: 0.0,
            slopes: vec![0.0; totals.len()],
        };
        for at in 0..parts.len() / self.part_count() {
            let these: Vec<_> = parts.iter().skip(at).step_by(values).copied().collect();
            let (value, slopes) = self.loss(&these);
            outcome.value += logged * value;
            for (part, slope) in slopes.into_iter().enumerate() {
                outcome.slopes[part * values + at] = minimised * slope;
            }
        }
        outcome
    }
}
