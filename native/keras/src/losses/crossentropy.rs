//! The crossentropies of Keras on TensorFlow. Logits kept from a final softmax or sigmoid are used
//! whatever `from_logits` says; other outputs are probabilities, clipped at Keras's epsilon.

use tch::{Kind, Reduction, Tensor};

use super::{LabelSpec, Rule};
use crate::config::Options;
use crate::error::Result;
use crate::output::Output;

/// `keras.backend.epsilon()`.
const EPSILON: f64 = 1e-7;

/// What a crossentropy works on.
enum Scores<'a> {
    Logits(&'a Tensor),
    Probabilities(&'a Tensor),
}

impl<'a> Scores<'a> {
    fn of(output: &'a Output, from_logits: bool) -> Result<Self> {
        Ok(match output.logits() {
            Some(logits) => Self::Logits(logits),
            None if from_logits => Self::Logits(output.y()?),
            None => Self::Probabilities(output.y()?),
        })
    }
}

fn clipped(probabilities: &Tensor) -> Result<Tensor> {
    Ok(probabilities.f_clamp(EPSILON, 1.0 - EPSILON)?)
}

/// Class ids against scores on the last axis.
#[derive(Debug)]
pub(super) struct Sparse {
    from_logits: bool,
}

impl Sparse {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            from_logits: options.bool("from_logits", false)?,
        }))
    }
}

impl Rule for Sparse {
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        LabelSpec::Class {
            classes: output_shape.last().copied().unwrap_or(1),
        }
    }

    fn values(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let log_softmax = match Scores::of(output, self.from_logits)? {
            Scores::Logits(logits) => logits.f_log_softmax(-1, Kind::Float)?,
            // Clipped probabilities need not sum to 1, so they pass through softmax again.
            Scores::Probabilities(y) => clipped(y)?.f_log()?.f_log_softmax(-1, Kind::Float)?,
        };
        let ids = y_true.f_unsqueeze(-1)?;
        Ok(log_softmax
            .f_gather(-1, &ids, false)?
            .f_squeeze_dim(-1)?
            .f_neg()?)
    }
}

/// Shares of the classes against scores on the last axis.
#[derive(Debug)]
pub(super) struct Categorical {
    from_logits: bool,
    label_smoothing: f64,
}

impl Categorical {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            from_logits: options.bool("from_logits", false)?,
            label_smoothing: options.f64("label_smoothing", 0.0)?,
        }))
    }
}

impl Rule for Categorical {
    fn values(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let classes = y_true.size().last().map_or(1.0, |&classes| classes as f64);
        let y_true = smoothed(y_true, self.label_smoothing, 1.0 / classes)?;
        match Scores::of(output, self.from_logits)? {
            Scores::Logits(logits) => softmax_crossentropy(&y_true, logits),
            Scores::Probabilities(y) => {
                let y = y.f_div(&y.f_sum_dim_intlist(-1, true, Kind::Float)?)?;
                last_axis_sum(&y_true.f_mul(&clipped(&y)?.f_log()?)?.f_neg()?)
            }
        }
    }
}

/// TensorFlow's `softmax_cross_entropy_with_logits`: its gradient is `softmax(logits) - y_true`
/// also where the labels of a row do not sum to 1, where the true gradient would differ.
fn softmax_crossentropy(y_true: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let value = {
        let log_softmax = logits.f_detach()?.f_log_softmax(-1, Kind::Float)?;
        last_axis_sum(&y_true.f_mul(&log_softmax)?.f_neg()?)?
    };
    let sloped = logits
        .f_logsumexp(-1, false)?
        .f_sub(&last_axis_sum(&y_true.f_mul(logits)?)?)?;
    Ok(value.f_add(&sloped.f_sub(&sloped.f_detach()?)?)?)
}

/// Independent probabilities against scores.
#[derive(Debug)]
pub(super) struct Binary {
    from_logits: bool,
    label_smoothing: f64,
}

impl Binary {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            from_logits: options.bool("from_logits", false)?,
            label_smoothing: options.f64("label_smoothing", 0.0)?,
        }))
    }
}

impl Rule for Binary {
    fn values(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let y_true = smoothed(y_true, self.label_smoothing, 0.5)?;
        let values = match Scores::of(output, self.from_logits)? {
            Scores::Logits(logits) => logits.f_binary_cross_entropy_with_logits::<Tensor>(
                &y_true,
                None,
                None,
                Reduction::None,
            )?,
            Scores::Probabilities(y) => {
                let y = clipped(y)?;
                let hit = y_true.f_mul(&y.f_log()?)?;
                let rest = y.f_neg()?.f_add_scalar(1.0)?.f_log()?;
                let miss = y_true.f_neg()?.f_add_scalar(1.0)?.f_mul(&rest)?;
                hit.f_add(&miss)?.f_neg()?
            }
        };
        Ok(values.f_mean_dim(-1, false, Kind::Float)?)
    }
}

/// Labels moved by `smoothing` towards `target`.
fn smoothed(y_true: &Tensor, smoothing: f64, target: f64) -> Result<Tensor> {
    if smoothing == 0.0 {
        return Ok(y_true.shallow_clone());
    }
    Ok(y_true
        .f_mul_scalar(1.0 - smoothing)?
        .f_add_scalar(smoothing * target)?)
}

fn last_axis_sum(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_sum_dim_intlist(-1, false, Kind::Float)?)
}
