//! Metrics of the confusion matrix at thresholds: counts, precision, recall, and one of them at a
//! given value of another.

use tch::Tensor;

use super::accumulator::{Accumulator, Batch};
use super::confusion::{Buckets, Counts, NEG_INF};
use super::value::{MetricValue, single};
use crate::error::Result;
use crate::losses::LabelSpec;
use crate::losses::arguments::Arguments;
use crate::losses::reduction::divide_no_nan;

/// A number for each threshold.
#[derive(Debug)]
pub(super) struct AtThresholds {
    buckets: Buckets,
    label: LabelSpec,
    measure: fn(&Counts) -> Vec<f64>,
}

impl AtThresholds {
    pub(super) fn true_positives(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::count(arguments, output_shape, |counts| {
            counts.true_positives.clone()
        })
    }

    pub(super) fn false_positives(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::count(arguments, output_shape, |counts| {
            counts.false_positives.clone()
        })
    }

    pub(super) fn true_negatives(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::count(arguments, output_shape, |counts| {
            counts.true_negatives.clone()
        })
    }

    pub(super) fn false_negatives(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::count(arguments, output_shape, |counts| {
            counts.false_negatives.clone()
        })
    }

    pub(super) fn precision(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::share(arguments, output_shape, |counts| {
            shares(&counts.true_positives, &counts.false_positives)
        })
    }

    pub(super) fn recall(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::share(arguments, output_shape, |counts| {
            shares(&counts.true_positives, &counts.false_negatives)
        })
    }

    fn count(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
        measure: fn(&Counts) -> Vec<f64>,
    ) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Self {
            buckets: buckets(arguments, 0.5)?,
            label: LabelSpec::values(output_shape),
            measure,
        }))
    }

    fn share(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
        measure: fn(&Counts) -> Vec<f64>,
    ) -> Result<Box<dyn Accumulator>> {
        let top_k = arguments.optional_i64("top_k")?;
        let default = if top_k.is_some() { NEG_INF } else { 0.5 };
        Ok(Box::new(Self {
            buckets: buckets(arguments, default)?.restricted(arguments, true)?,
            label: LabelSpec::values(output_shape),
            measure,
        }))
    }
}

/// Buckets for the argument `thresholds`, or for the one that holds without it.
fn buckets(arguments: &Arguments<'_>, default: f64) -> Result<Buckets> {
    let given = arguments.optional_numbers("thresholds")?;
    if let Some(outside) = given.iter().flatten().find(|t| !(0.0..=1.0).contains(*t)) {
        return Err(arguments.invalid(format!("threshold {outside} must lie in [0, 1]")));
    }
    let thresholds = given.unwrap_or_else(|| vec![default]);
    let even = Buckets::is_even(&thresholds);
    Ok(Buckets::new(&thresholds, even))
}

impl Accumulator for AtThresholds {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        self.buckets.state_len()
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        self.buckets.update(batch, None)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let counts = self.buckets.counts(state);
        MetricValue::of(counts.iter().flat_map(self.measure).collect())
    }
}

/// The greatest value of one measure over the thresholds at which another is great enough.
#[derive(Debug)]
pub(super) struct AtMeasure {
    buckets: Buckets,
    label: LabelSpec,
    bound: f64,
    constrained: Measure,
    wanted: Measure,
}

type Measure = fn(&Counts) -> Vec<f64>;

const SENSITIVITY: Measure = |counts| shares(&counts.true_positives, &counts.false_negatives);
const SPECIFICITY: Measure = |counts| shares(&counts.true_negatives, &counts.false_positives);
const PRECISION: Measure = |counts| shares(&counts.true_positives, &counts.false_positives);

impl AtMeasure {
    pub(super) fn sensitivity_at_specificity(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::build(
            arguments,
            output_shape,
            "specificity",
            SPECIFICITY,
            SENSITIVITY,
        )
    }

    pub(super) fn specificity_at_sensitivity(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::build(
            arguments,
            output_shape,
            "sensitivity",
            SENSITIVITY,
            SPECIFICITY,
        )
    }

    pub(super) fn precision_at_recall(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::build(arguments, output_shape, "recall", SENSITIVITY, PRECISION)
    }

    pub(super) fn recall_at_precision(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::build(arguments, output_shape, "precision", PRECISION, SENSITIVITY)
    }

    fn build(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
        bound: &str,
        constrained: Measure,
        wanted: Measure,
    ) -> Result<Box<dyn Accumulator>> {
        let value = arguments.f64(bound)?;
        if !(0.0..=1.0).contains(&value) {
            return Err(arguments.invalid(format!("{bound} = {value} must lie in [0, 1]")));
        }
        let thresholds = match arguments.i64("num_thresholds")? {
            ..1 => return Err(arguments.invalid("num_thresholds must be at least 1")),
            1 => vec![0.5],
            number => {
                let inner = (1..number - 1).map(|i| i as f64 / (number - 1) as f64);
                [0.0].into_iter().chain(inner).chain([1.0]).collect()
            }
        };
        let buckets = Buckets::new(&thresholds, thresholds.len() > 1);
        Ok(Box::new(Self {
            buckets: buckets.restricted(arguments, false)?,
            label: LabelSpec::values(output_shape),
            bound: value,
            constrained,
            wanted,
        }))
    }
}

impl Accumulator for AtMeasure {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        self.buckets.state_len()
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        self.buckets.update(batch, None)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let mut best = 0.0;
        for counts in self.buckets.counts(state) {
            let constrained = (self.constrained)(&counts);
            let wanted = (self.wanted)(&counts);
            for (constrained, wanted) in constrained.into_iter().zip(wanted) {
                // Keras compares in float32, where a share can meet a bound that it just misses.
                if single(constrained) >= single(self.bound) && wanted > best {
                    best = wanted;
                }
            }
        }
        MetricValue::Scalar(best)
    }
}

/// `one / (one + other)` for each threshold.
fn shares(one: &[f64], other: &[f64]) -> Vec<f64> {
    let pairs = one.iter().zip(other);
    pairs
        .map(|(one, other)| divide_no_nan(*one, one + other))
        .collect()
}
