//! Area under a curve, approximated from the confusion matrices at many thresholds.

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::accumulator::{Accumulator, Batch};
use super::confusion::{Buckets, Counts, EPSILON};
use super::value::MetricValue;
use crate::error::Result;
use crate::losses::LabelSpec;
use crate::losses::arguments::Arguments;
use crate::losses::reduction::divide_no_nan;
use crate::value::Value as Output;

/// `AUC`.
#[derive(Debug)]
pub(super) struct Auc {
    buckets: Buckets,
    label: LabelSpec,
    curve: Curve,
    summation: Summation,
    multi_label: bool,
    label_weights: Option<Vec<f64>>,
    from_logits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Curve {
    Roc,
    Pr,
    PrGain,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Summation {
    Interpolation,
    Majoring,
    Minoring,
}

const CURVES: &[&str] = &["ROC", "roc", "PR", "pr", "PRGAIN", "prgain"];
const SUMMATIONS: &[&str] = &[
    "interpolation",
    "Interpolation",
    "majoring",
    "Majoring",
    "minoring",
    "Minoring",
];

impl Auc {
    pub(super) fn build(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let multi_label = arguments.bool("multi_label")?;
        let num_labels = arguments
            .optional_i64("num_labels")?
            .filter(|&number| number != 0);
        let (thresholds, even) = thresholds(arguments)?;
        let mut buckets = Buckets::new(&thresholds, even);
        if multi_label {
            let &[labels] = output_shape else {
                return Err(arguments.invalid(format!(
                    "multi_label needs outputs of shape [labels], not {output_shape:?}"
                )));
            };
            if num_labels.is_some_and(|number| number != labels) {
                let reason = format!("num_labels = {num_labels:?}, but the output has {labels}");
                return Err(arguments.invalid(reason));
            }
            buckets = buckets.by_label(usize::try_from(labels).unwrap_or(0));
        } else if num_labels.is_some() {
            return Err(arguments.invalid("num_labels is needed only when multi_label is true"));
        }
        let label_weights = arguments.optional_numbers("label_weights")?;
        let labels = output_shape.last().copied().unwrap_or(1);
        if let Some(weights) = &label_weights
            && weights.len() as i64 != labels
        {
            let reason = format!("{} label_weights for {labels} labels", weights.len());
            return Err(arguments.invalid(reason));
        }
        Ok(Box::new(Self {
            buckets,
            label: LabelSpec::values(output_shape),
            curve: match arguments.word("curve", CURVES, None)? {
                "ROC" | "roc" => Curve::Roc,
                "PR" | "pr" => Curve::Pr,
                _ => Curve::PrGain,
            },
            summation: match arguments.word("summation_method", SUMMATIONS, None)? {
                "majoring" | "Majoring" => Summation::Majoring,
                "minoring" | "Minoring" => Summation::Minoring,
                _ => Summation::Interpolation,
            },
            multi_label,
            label_weights,
            from_logits: arguments.bool("from_logits")?,
        }))
    }

    /// What Keras's `get_config` makes of the arguments.
    pub(super) fn config(arguments: &Arguments<'_>, config: &mut Map<String, Value>) -> Result<()> {
        let curve = arguments.word("curve", CURVES, None)?.to_uppercase();
        let summation = arguments.word("summation_method", SUMMATIONS, None)?;
        config.insert("curve".to_owned(), curve.into());
        config.insert(
            "summation_method".to_owned(),
            summation.to_lowercase().into(),
        );
        if let Some(mut thresholds) = arguments.optional_numbers("thresholds")? {
            thresholds.sort_by(f64::total_cmp);
            config.insert("num_thresholds".to_owned(), (thresholds.len() + 2).into());
            config.insert("thresholds".to_owned(), thresholds.into());
        } else {
            config.remove("thresholds");
        }
        if let Some(weights) = arguments.optional_numbers("label_weights")? {
            let tensor = json!({"class_name": "__tensor__",
                "config": {"value": weights, "dtype": "float32"}});
            config.insert("label_weights".to_owned(), tensor);
        }
        Ok(())
    }

    /// The area of one label.
    fn area(&self, counts: &Counts) -> f64 {
        if self.curve == Curve::Pr && self.summation == Summation::Interpolation {
            return interpolated_pr(counts);
        }
        let (x, y): (Vec<f64>, Vec<f64>) = (0..self.buckets.len())
            .map(|at| self.point(counts, at))
            .unzip();
        let heights = y.windows(2).map(|pair| match self.summation {
            Summation::Interpolation => (pair[0] + pair[1]) / 2.0,
            Summation::Majoring => pair[0].max(pair[1]),
            Summation::Minoring => pair[0].min(pair[1]),
        });
        let widths = x.windows(2).map(|pair| pair[0] - pair[1]);
        widths
            .zip(heights)
            .map(|(width, height)| width * height)
            .sum()
    }

    /// The point of the curve at one threshold.
    fn point(&self, counts: &Counts, at: usize) -> (f64, f64) {
        let (tp, fp) = (counts.true_positives[at], counts.false_positives[at]);
        let (tn, fnn) = (counts.true_negatives[at], counts.false_negatives[at]);
        let recall = divide_no_nan(tp, tp + fnn);
        match self.curve {
            Curve::Roc => (divide_no_nan(fp, fp + tn), recall),
            Curve::Pr => (recall, divide_no_nan(tp, tp + fp)),
            Curve::PrGain if tp == 0.0 => (0.0, 1.0),
            Curve::PrGain => {
                let scale = divide_no_nan(tp + fnn, tn + fp);
                let recall_gain = 1.0 - scale * divide_no_nan(fnn, tp);
                let precision_gain = 1.0 - scale * divide_no_nan(fp, tp);
                (recall_gain.max(0.0), precision_gain)
            }
        }
    }
}

/// The thresholds, with one on either side of all values, and whether they are evenly spaced.
fn thresholds(arguments: &Arguments<'_>) -> Result<(Vec<f64>, bool)> {
    let (inner, even) = match arguments.optional_numbers("thresholds")? {
        Some(mut given) => {
            given.sort_by(f64::total_cmp);
            let all = [&[0.0], &given[..], &[1.0]].concat();
            (given, Buckets::is_even(&all))
        }
        None => {
            let number = arguments.i64("num_thresholds")?;
            if number <= 1 {
                return Err(arguments.invalid("num_thresholds must be greater than 1"));
            }
            let inner = (1..number - 1).map(|i| i as f64 / (number - 1) as f64);
            (inner.collect(), true)
        }
    };
    Ok(([&[-EPSILON], &inner[..], &[1.0 + EPSILON]].concat(), even))
}

/// Davis and Goadrich's interpolation of the precision-recall curve.
fn interpolated_pr(counts: &Counts) -> f64 {
    let Counts {
        true_positives: tp,
        false_positives: fp,
        false_negatives,
        ..
    } = counts;
    let increment = |at: usize| {
        let next = at + 1;
        let (p, p_next) = (tp[at] + fp[at], tp[next] + fp[next]);
        let dtp = tp[at] - tp[next];
        let slope = divide_no_nan(dtp, (p - p_next).max(0.0));
        let intercept = tp[next] - slope * p_next;
        let ratio = if p > 0.0 && p_next > 0.0 {
            p / p_next
        } else {
            1.0
        };
        let positives = (tp[next] + false_negatives[next]).max(0.0);
        divide_no_nan(slope * (dtp + intercept * ratio.ln()), positives)
    };
    (0..tp.len().saturating_sub(1)).map(increment).sum()
}

impl Accumulator for Auc {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        self.buckets.state_len()
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let weights = self.label_weights.as_deref().filter(|_| !self.multi_label);
        if !self.from_logits {
            return self.buckets.update(batch, weights);
        }
        let y = Output::new(batch.output.values()?.f_sigmoid()?);
        self.buckets.update(&batch.of(&y), weights)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let counts = self.buckets.counts(state);
        let areas: Vec<_> = counts.iter().map(|counts| self.area(counts)).collect();
        let weights = match &self.label_weights {
            Some(weights) if self.multi_label => weights.clone(),
            _ => vec![1.0; areas.len()],
        };
        let sum: f64 = areas
            .iter()
            .zip(&weights)
            .map(|(area, weight)| area * weight)
            .sum();
        MetricValue::Scalar(divide_no_nan(sum, weights.iter().sum()))
    }
}
