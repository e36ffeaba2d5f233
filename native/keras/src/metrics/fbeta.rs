//! F-scores of each class.

use tch::{Kind, Tensor};

use super::accumulator::{Accumulator, Batch};
use super::value::MetricValue;
use crate::error::{Error, Result};
use crate::losses::LabelSpec;
use crate::losses::arguments::{Arguments, nullable};

/// `keras.backend.epsilon()`.
const EPSILON: f64 = 1e-7;

/// `FBetaScore` and `F1Score`. State, for every class or for all: true positives, false positives,
/// false negatives, weights of the positives.
#[derive(Debug)]
pub(super) struct FBeta {
    average: Average,
    beta: f64,
    threshold: Option<f64>,
    kind: Kind,
    classes: usize,
    label: LabelSpec,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Average {
    None,
    Micro,
    Macro,
    Weighted,
}

impl FBeta {
    pub(super) fn f1(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::boxed(arguments, output_shape, 1.0)
    }

    pub(super) fn build(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        // Keras takes no integers here.
        let beta = arguments.read("beta", "a number such as 2.0 above 0", |beta| {
            beta.as_f64()
                .filter(|_| beta.is_f64())
                .filter(|&beta| beta > 0.0)
        })?;
        Self::boxed(arguments, output_shape, beta)
    }

    fn boxed(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
        beta: f64,
    ) -> Result<Box<dyn Accumulator>> {
        let &[classes] = output_shape else {
            return Err(arguments.invalid(format!(
                "outputs must be [rows, classes], not {output_shape:?} a row"
            )));
        };
        let average = match arguments.word("average", &["micro", "macro", "weighted"], Some(""))? {
            "micro" => Average::Micro,
            "macro" => Average::Macro,
            "weighted" => Average::Weighted,
            _ => Average::None,
        };
        let threshold = arguments.read(
            "threshold",
            "null or a number such as 0.5 above 0 and up to 1.0",
            |value| {
                nullable(value, |value| {
                    let threshold = value.as_f64().filter(|_| value.is_f64());
                    threshold.filter(|&threshold| threshold > 0.0 && threshold <= 1.0)
                })
            },
        )?;
        Ok(Box::new(Self {
            average,
            beta,
            threshold,
            kind: arguments.kind()?,
            classes: usize::try_from(classes).unwrap_or(0),
            label: LabelSpec::values(output_shape),
        }))
    }

    /// Classes that have sums of their own.
    fn sums(&self) -> usize {
        match self.average {
            Average::Micro => 1,
            _ => self.classes,
        }
    }

    fn score(&self, positives: f64, wrong: f64, missed: f64) -> f64 {
        let precision = positives / (positives + wrong + EPSILON);
        let recall = positives / (positives + missed + EPSILON);
        let square = self.beta * self.beta;
        precision * recall / (square * precision + recall + EPSILON) * (1.0 + square)
    }
}

impl Accumulator for FBeta {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        4 * self.sums()
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let (y_true, y) = batch.fit(&self.label, Some(self.kind))?;
        let y = y.y()?;
        let y = match self.threshold {
            Some(threshold) => y.f_gt(threshold)?,
            // The greatest, and all that equal it.
            None => y
                .f_ge_tensor(&y.f_amax([-1_i64], true)?)?
                .f_logical_and(&y.f_abs()?.f_gt(1e-9)?)?,
        };
        let (y, y_true) = (y.f_to_kind(Kind::Double)?, y_true.f_to_kind(Kind::Double)?);
        let not = |values: &Tensor| -> Result<Tensor> { Ok(values.f_neg()?.f_add_scalar(1.0)?) };
        let parts = [
            y.f_mul(&y_true)?,
            y.f_mul(&not(&y_true)?)?,
            not(&y)?.f_mul(&y_true)?,
            y_true,
        ];
        let mut parts = Tensor::f_stack(&parts, 0)?;
        if let Some(weights) = batch.sample_weight {
            if weights.dim() != 1 {
                return Err(Error::ShapeMismatch {
                    place: batch.place.to_owned(),
                    reason: format!(
                        "sample weights must be one for each row, not {:?}",
                        weights.size()
                    ),
                });
            }
            parts = parts.f_mul(&weights.f_to_kind(Kind::Double)?.f_unsqueeze(-1)?)?;
        }
        let axes: &[i64] = match self.average {
            Average::Micro => &[1, 2],
            _ => &[1],
        };
        let sums = parts.f_sum_dim_intlist(axes, false, Kind::Double)?;
        Ok(sums.f_flatten(0, -1)?)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let sums = self.sums();
        let part = |part: usize| &state[part * sums..(part + 1) * sums];
        let positives = part(3);
        let scores: Vec<_> = (0..sums)
            .map(|at| self.score(part(0)[at], part(1)[at], part(2)[at]))
            .collect();
        match self.average {
            Average::None => MetricValue::Vector(scores),
            Average::Weighted => {
                let all = positives.iter().sum::<f64>() + EPSILON;
                let weighted = scores.iter().zip(positives);
                MetricValue::Scalar(weighted.map(|(score, weight)| score * (weight / all)).sum())
            }
            Average::Micro | Average::Macro => {
                MetricValue::Scalar(scores.iter().sum::<f64>() / sums as f64)
            }
        }
    }
}
