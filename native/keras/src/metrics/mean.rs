//! Keras's `MeanMetricWrapper`: the mean over all rows of what a function gives for each.

use tch::{Kind, Tensor};

use super::accumulator::{Accumulator, Batch};
use super::value::MetricValue;
use crate::error::{Error, Result};
use crate::losses::LabelSpec;
use crate::losses::function::{Elements, Function};
use crate::losses::hinge::Hinge;
use crate::losses::reduction::{divide_no_nan, masked, same_rank, times};

/// State: weighted sum of the rows' values, sum of the weights.
#[derive(Debug)]
pub(super) struct Mean {
    function: Box<dyn Function>,
    label: LabelSpec,
}

impl Mean {
    /// The mean of a function of labels and outputs of `output_shape`. Functions of a whole batch
    /// are errors: Keras takes the mean over batches then, which no sum over ranks can give.
    pub(super) fn new(
        function: Box<dyn Function>,
        output_shape: &[i64],
        place: &str,
    ) -> Result<Self> {
        if function.batchwise().is_some() || function.compares_rows() {
            return Err(Error::Unsupported {
                place: place.to_owned(),
                what: "a mean over batches of what a whole batch gives".to_owned(),
                supported: "metrics that are sums over rows, as rows may lie on several workers"
                    .to_owned(),
            });
        }
        let label = function.label(output_shape);
        Ok(Self { function, label })
    }
}

impl Accumulator for Mean {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        2
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let (y_true, y) = batch.fit(&self.function.label(batch.output_shape()), None)?;
        samplewise(&self.function.elements(&y_true, &y)?, batch)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        MetricValue::Scalar(quotient(state))
    }
}

/// The root of the mean of squares. Keras keeps the squares of all elements, and no mask.
#[derive(Debug)]
pub(super) struct RootMeanSquaredError {
    pub(super) kind: Kind,
    pub(super) label: LabelSpec,
}

impl Accumulator for RootMeanSquaredError {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        2
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let (y_true, y) = batch.fit(&self.label, Some(self.kind))?;
        let squares = y.y()?.f_sub(&y_true)?.f_square()?;
        samplewise(&squares.into(), &batch.without_mask())
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        MetricValue::Scalar(quotient(state).sqrt())
    }
}

/// A hinge. State: labels that are neither 0 nor 1, the sums for labels as they are and for those
/// read as -1 and 1, sum of the weights. Keras decides for each batch which of the two it is; here
/// all that was seen decides, which differs where 0 and -1 are mixed.
#[derive(Debug)]
pub(super) struct HingeMean {
    pub(super) hinge: Hinge,
    pub(super) label: LabelSpec,
}

impl Accumulator for HingeMean {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        4
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let (y_true, y) = batch.fit(&self.label, None)?;
        let [plain, converted] = self.hinge.both(&y_true, &y.y()?)?;
        let others = Hinge::others(&y_true)?.f_unsqueeze(0)?;
        let plain = samplewise(&plain, batch)?;
        let converted = samplewise(&converted, batch)?.f_narrow(0, 0, 1)?;
        let sums = [
            &others,
            &plain.f_narrow(0, 0, 1)?,
            &converted,
            &plain.f_narrow(0, 1, 1)?,
        ];
        Ok(Tensor::f_cat(&sums, 0)?)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let [others, plain, converted, weights] = *state else {
            return MetricValue::Scalar(0.0);
        };
        let sum = if others == 0.0 { converted } else { plain };
        MetricValue::Scalar(divide_no_nan(sum, weights))
    }
}

fn quotient(state: &[f64]) -> f64 {
    match *state {
        [sum, weights] => divide_no_nan(sum, weights),
        _ => 0.0,
    }
}

/// Keras's `reduce_to_samplewise_values`: the rows' values and weights, each the mean over the
/// axes behind the first, added up: float64, `[2]`.
fn samplewise(elements: &Elements, batch: &Batch<'_>) -> Result<Tensor> {
    let place = batch.place;
    let values = elements.values.f_to_kind(Kind::Double)?;
    let weights = masked(batch.sample_weight, batch.mask, Kind::Double, place)?;
    let Some(weights) = weights else {
        let count = values.size().first().map_or(1.0, |&rows| rows as f64);
        let sum = mean_from(&values, 1)?.f_sum(Kind::Double)?;
        let count = sum.f_full_like(count)?;
        return Ok(Tensor::f_stack(&[sum, count], 0)?);
    };
    // The function's own mask counts only beside other weights.
    let weights = match &elements.mask {
        None => weights,
        Some(mask) => {
            let (mask, weights) = same_rank(mask.f_to_kind(Kind::Double)?, weights, true)?;
            times(&weights, &mask, place)?
        }
    };
    let (values, weights) = same_rank(values, weights, true)?;
    let axes = weights.dim();
    let values = mean_from(&values, axes)?;
    let weighted = times(&values, &weights, place)?;
    if weighted.size() != values.size() {
        return Err(Error::ShapeMismatch {
            place: place.to_owned(),
            reason: format!(
                "weights of shape {:?} do not fit values of shape {:?}",
                weights.size(),
                values.size()
            ),
        });
    }
    let weights = weights.f_expand_as(&weighted)?;
    let sums = [
        mean_from(&weighted, 1)?.f_sum(Kind::Double)?,
        mean_from(&weights, 1)?.f_sum(Kind::Double)?,
    ];
    Ok(Tensor::f_stack(&sums, 0)?)
}

/// The mean over all axes from the one given on.
fn mean_from(values: &Tensor, axis: usize) -> Result<Tensor> {
    if values.dim() <= axis {
        return Ok(values.shallow_clone());
    }
    let axes: Vec<_> = (axis as i64..values.dim() as i64).collect();
    Ok(values.f_mean_dim(&axes[..], false, values.kind())?)
}
