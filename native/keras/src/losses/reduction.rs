//! Keras's reductions: sample weights and masks applied to the values of a loss, and what a rank
//! adds to the two sums that the loss is the quotient of (`losses/loss.py`).

use serde_json::Value;
use tch::{Kind, Tensor};

use super::arguments::Arguments;
use super::function::{Elements, Outcome};
use crate::error::{Error, Result};

/// What becomes of the values of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// Their sum divided by their number, or by the number of those that a mask lets through.
    SumOverBatchSize,
    /// Their weighted sum divided by the sum of the weights.
    MeanWithSampleWeight,
    Sum,
    /// They stay as they are: the gradient is that of their sum, and the logs show their mean.
    None,
}

impl Reduction {
    pub(crate) fn read(arguments: &Arguments<'_>) -> Result<Self> {
        if !arguments.is_given("reduction") {
            return Ok(Self::SumOverBatchSize);
        }
        let expected = "sum_over_batch_size, mean, mean_with_sample_weight, sum, none or null";
        arguments.read("reduction", expected, |value| match value {
            Value::Null => Some(Self::None),
            value => match value.as_str()? {
                // "auto" is Keras 2's word for it.
                "sum_over_batch_size" | "mean" | "auto" => Some(Self::SumOverBatchSize),
                "mean_with_sample_weight" => Some(Self::MeanWithSampleWeight),
                "sum" => Some(Self::Sum),
                "none" => Some(Self::None),
                _ => None,
            },
        })
    }

    /// The loss whose two sums over all ranks these are, with its slopes.
    pub(crate) fn outcome(self, sum: f64, divisor: f64) -> Outcome {
        let mean = divide_no_nan(sum, divisor);
        match self {
            Self::SumOverBatchSize | Self::MeanWithSampleWeight => Outcome {
                // Keras multiplies what a mask keeps out by 0, which leaves NaN as it is.
                value: match self {
                    Self::SumOverBatchSize if divisor == 0.0 => sum * 0.0,
                    _ => mean,
                },
                slopes: vec![divide_no_nan(1.0, divisor), 0.0],
            },
            Self::Sum => Outcome {
                value: sum,
                slopes: vec![1.0, 0.0],
            },
            Self::None => Outcome {
                value: mean,
                slopes: vec![1.0, 0.0],
            },
        }
    }
}

/// TensorFlow's division, in which 0 is what comes of dividing by 0.
pub(crate) fn divide_no_nan(dividend: f64, divisor: f64) -> f64 {
    if divisor == 0.0 {
        0.0
    } else {
        dividend / divisor
    }
}

/// How one batch's values are weighted and reduced.
#[derive(Debug)]
pub(crate) struct Weighing<'a> {
    pub(crate) reduction: Reduction,
    /// The rows' weights, of any kind.
    pub(crate) sample_weight: Option<&'a Tensor>,
    /// The output's mask.
    pub(crate) mask: Option<&'a Tensor>,
    /// Names the loss in errors.
    pub(crate) place: &'a str,
}

/// Values after weighting.
#[derive(Debug)]
pub(crate) struct Weighted {
    /// Values times weights, of the values' kind.
    pub(crate) values: Tensor,
    /// What this rank adds to the divisor: float64, a scalar.
    pub(crate) divisor: Tensor,
}

impl Weighing<'_> {
    /// Whether anything but 1 can be a weight.
    pub(crate) fn is_weighted(&self) -> bool {
        self.sample_weight.is_some() || self.mask.is_some()
    }

    /// The two sums of a loss that is a quotient: float64, `[2]`.
    pub(crate) fn sums(&self, elements: &Elements) -> Result<Tensor> {
        let weighted = self.weigh(elements)?;
        let sum = weighted.values.f_sum(Kind::Double)?;
        Ok(Tensor::f_stack(&[sum, weighted.divisor], 0)?)
    }

    /// Applies weights and masks.
    pub(crate) fn weigh(&self, elements: &Elements) -> Result<Weighted> {
        let kind = elements.values.kind();
        let mask = both(self.mask, elements.mask.as_ref())?;
        let weights = masked(self.sample_weight, mask.as_ref(), kind, self.place)?;
        let Some(weights) = weights else {
            let values = elements.values.shallow_clone();
            let divisor = number(&values, count(&values))?;
            return Ok(Weighted { values, divisor });
        };
        let (values, weights) = same_rank(elements.values.shallow_clone(), weights, true)?;
        let values = times(&values, &weights, self.place)?;
        let divisor = match (self.reduction, &mask) {
            // Keras multiplies by all / valid and divides by the number of values.
            (Reduction::SumOverBatchSize, Some(mask)) => mask
                .f_sum(Kind::Double)?
                .f_mul_scalar(count(&values) / count(mask).max(1.0))?,
            (Reduction::MeanWithSampleWeight, _) => weights.f_sum(Kind::Double)?,
            _ => number(&values, count(&values))?,
        };
        Ok(Weighted { values, divisor })
    }
}

/// Sample weights times a mask, in `kind`; none if there is neither.
pub(crate) fn masked(
    sample_weight: Option<&Tensor>,
    mask: Option<&Tensor>,
    kind: Kind,
    place: &str,
) -> Result<Option<Tensor>> {
    let weights = sample_weight
        .map(|weights| weights.f_to_kind(kind))
        .transpose()?;
    let mask = mask.map(|mask| mask.f_to_kind(kind)).transpose()?;
    Ok(match (mask, weights) {
        (Some(mask), Some(weights)) => {
            let (mask, weights) = same_rank(mask, weights, true)?;
            Some(times(&weights, &mask, place)?)
        }
        (weights, None) | (None, weights) => weights,
    })
}

/// Where both masks let through.
fn both(one: Option<&Tensor>, other: Option<&Tensor>) -> Result<Option<Tensor>> {
    Ok(match (one, other) {
        (Some(one), Some(other)) => Some(one.f_logical_and(other)?),
        (mask, None) | (None, mask) => mask.map(Tensor::shallow_clone),
    })
}

/// Keras's `squeeze_or_expand_to_same_rank`: if the ranks differ by one, a last axis of 1 is
/// dropped, or added to the other where that has no axis but the batch's.
pub(crate) fn same_rank(one: Tensor, other: Tensor, expand: bool) -> Result<(Tensor, Tensor)> {
    let (a, b) = (one.size(), other.size());
    Ok(match (&a[..], &b[..]) {
        ([_, 1], [_]) if expand => (one, other.f_unsqueeze(-1)?),
        ([_], [_, 1]) if expand => (one.f_unsqueeze(-1)?, other),
        ([.., 1], _) if a.len() == b.len() + 1 => (one.f_squeeze_dim(-1)?, other),
        (_, [.., 1]) if b.len() == a.len() + 1 => (one, other.f_squeeze_dim(-1)?),
        _ => (one, other),
    })
}

/// `values * weights`. Keras broadcasts from the last axis backwards, so that row weights on an
/// output of several steps are an error there or, if the numbers happen to agree, nonsense; here
/// they are an error.
pub(crate) fn times(values: &Tensor, weights: &Tensor, place: &str) -> Result<Tensor> {
    let (a, b) = (values.size(), weights.size());
    let fits = a.len() == b.len()
        && a.first() == b.first()
        && a.iter().zip(&b).all(|(a, b)| a == b || *a == 1 || *b == 1);
    if !(fits || a.is_empty() || b.is_empty()) {
        return Err(Error::ShapeMismatch {
            place: place.to_owned(),
            reason: format!(
                "weights or masks of shape {b:?} do not fit values of shape {a:?}; give one \
                 weight for each row or, where an output has several steps, for each step"
            ),
        });
    }
    Ok(values.f_mul(weights)?)
}

/// Number of elements.
pub(crate) fn count(values: &Tensor) -> f64 {
    values.size().iter().product::<i64>() as f64
}

/// A float64 scalar on the device of `like`.
pub(crate) fn number(like: &Tensor, value: f64) -> Result<Tensor> {
    Ok(Tensor::f_full(
        [0_i64; 0],
        value,
        (Kind::Double, like.device()),
    )?)
}
