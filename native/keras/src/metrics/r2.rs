//! The coefficient of determination.

use tch::{Kind, Tensor};

use super::accumulator::{Accumulator, Batch};
use super::value::MetricValue;
use crate::error::{Error, Result};
use crate::losses::LabelSpec;
use crate::losses::arguments::Arguments;

/// `R2Score`. State: for every output, the weighted sums of squares of the labels, of the labels,
/// of squared errors, and of weights; then the number of labels.
#[derive(Debug)]
pub(super) struct R2 {
    aggregation: Aggregation,
    num_regressors: f64,
    kind: Kind,
    outputs: usize,
    label: LabelSpec,
}

#[derive(Debug, Clone, Copy)]
enum Aggregation {
    None,
    Uniform,
    Variance,
}

impl R2 {
    pub(super) fn build(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let &[outputs] = output_shape else {
            return Err(arguments.invalid(format!(
                "outputs must be [rows, outputs], not {output_shape:?} a row"
            )));
        };
        let words = &["uniform_average", "variance_weighted_average"];
        let num_regressors = arguments.i64("num_regressors")?;
        if num_regressors < 0 {
            return Err(arguments.invalid("num_regressors must be at least 0"));
        }
        Ok(Box::new(Self {
            aggregation: match arguments.word("class_aggregation", words, Some(""))? {
                "uniform_average" => Aggregation::Uniform,
                "variance_weighted_average" => Aggregation::Variance,
                _ => Aggregation::None,
            },
            num_regressors: num_regressors as f64,
            kind: arguments.kind()?,
            outputs: usize::try_from(outputs).unwrap_or(0),
            label: LabelSpec::values(output_shape),
        }))
    }

    /// Adjusted for the number of regressors, where there are labels enough for that.
    fn adjusted(&self, score: f64, samples: f64) -> f64 {
        if self.num_regressors == 0.0 || self.num_regressors >= samples - 1.0 {
            return score;
        }
        1.0 - (1.0 - score) * (samples - 1.0) / (samples - self.num_regressors - 1.0)
    }
}

impl Accumulator for R2 {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        4 * self.outputs + 1
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let (y_true, y) = batch.fit(&self.label, Some(self.kind))?;
        let y = y.y()?.f_to_kind(Kind::Double)?;
        let y_true = y_true.f_to_kind(Kind::Double)?;
        let ones = y_true.f_ones_like()?;
        let weights = match batch.sample_weight {
            None => ones.shallow_clone(),
            Some(weights) => {
                let weights = weights.f_to_kind(Kind::Double)?;
                let weights = match weights.dim() {
                    1 => weights.f_unsqueeze(-1)?,
                    _ => weights,
                };
                let fits = weights.dim() == 2
                    && weights.size()[0] == y.size()[0]
                    && (weights.size()[1] == 1 || weights.size()[1] == y.size()[1]);
                if !fits {
                    return Err(Error::ShapeMismatch {
                        place: batch.place.to_owned(),
                        reason: format!(
                            "sample weights of shape {:?} do not fit outputs of shape {:?}",
                            weights.size(),
                            y.size()
                        ),
                    });
                }
                ones.f_mul(&weights)?
            }
        };
        let weighted = y_true.f_mul(&weights)?;
        let parts = [
            y_true.f_mul(&weighted)?,
            weighted,
            y_true.f_sub(&y)?.f_square()?.f_mul(&weights)?,
            weights,
        ];
        let sums = Tensor::f_stack(&parts, 0)?
            .f_sum_dim_intlist(1_i64, false, Kind::Double)?
            .f_flatten(0, -1)?;
        let samples = ones.f_sum(Kind::Double)?.f_unsqueeze(0)?;
        Ok(Tensor::f_cat(&[sums, samples], 0)?)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let Some((&samples, sums)) = state.split_last() else {
            return MetricValue::Scalar(f64::NAN);
        };
        let part = |part: usize| &sums[part * self.outputs..(part + 1) * self.outputs];
        let variances: Vec<f64> = (0..self.outputs)
            .map(|at| part(0)[at] - part(1)[at] * (part(1)[at] / part(3)[at]))
            .collect();
        let scores = variances.iter().zip(part(2)).map(|(variance, residual)| {
            let score = 1.0 - residual / variance;
            if score.is_infinite() { 0.0 } else { score }
        });
        let scores: Vec<f64> = scores.collect();
        let score = match self.aggregation {
            Aggregation::None => {
                let adjusted = scores.iter().map(|&score| self.adjusted(score, samples));
                return MetricValue::Vector(adjusted.collect());
            }
            Aggregation::Uniform => scores.iter().sum::<f64>() / scores.len() as f64,
            Aggregation::Variance => {
                let weighted = variances.iter().zip(&scores).map(|(v, score)| v * score);
                weighted.sum::<f64>() / variances.iter().sum::<f64>()
            }
        };
        MetricValue::Scalar(self.adjusted(score, samples))
    }
}
