//! The crossentropies of Keras on TensorFlow. Logits kept from a final softmax or sigmoid are used
//! whatever `from_logits` says; other outputs are probabilities, clipped at Keras's epsilon.

use tch::{Reduction, Tensor};

use super::arguments::Arguments;
use super::function::{Elements, Function};
use super::label::LabelSpec;
use super::prediction::Prediction;
use crate::error::{Error, Result};

/// `keras.backend.epsilon()`.
pub(super) const EPSILON: f64 = 1e-7;

/// What a crossentropy works on.
pub(crate) enum Scores {
    Logits(Tensor),
    Probabilities(Tensor),
}

impl Scores {
    fn of(y: &Prediction<'_>, from_logits: bool) -> Result<Self> {
        Self::new(y.logits()?, from_logits, || y.y())
    }

    /// The logits that were kept, or else what `y` gives, which are some if `from_logits` says so.
    pub(crate) fn new(
        kept: Option<Tensor>,
        from_logits: bool,
        y: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Self> {
        Ok(match kept {
            Some(logits) => Self::Logits(logits),
            None if from_logits => Self::Logits(y()?),
            None => Self::Probabilities(y()?),
        })
    }
}

/// Keeps probabilities away from 0 and 1.
pub(super) fn clipped(probabilities: &Tensor) -> Result<Tensor> {
    Ok(probabilities.f_clamp(EPSILON, 1.0 - EPSILON)?)
}

/// Class ids against scores on the last axis.
#[derive(Debug)]
pub(super) struct Sparse {
    from_logits: bool,
    ignore_class: Option<i64>,
    axis: i64,
    place: String,
}

impl Sparse {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            from_logits: arguments.bool("from_logits")?,
            ignore_class: arguments.optional_i64("ignore_class")?,
            axis: arguments.axis("axis")?,
            place: arguments.place().to_owned(),
        }))
    }
}

/// The loss of each position whose class id is in range, of scores on the last axis.
pub(crate) fn sparse(ids: &Tensor, scores: Scores) -> Result<Tensor> {
    let logits = match scores {
        Scores::Logits(logits) => logits,
        // Clipped probabilities need not sum to 1, so they pass through softmax again.
        Scores::Probabilities(y) => clipped(&y)?.f_log()?,
    };
    Ok(logits
        .f_log_softmax(-1, logits.kind())?
        .f_gather(-1, &ids.f_unsqueeze(-1)?, false)?
        .f_squeeze_dim(-1)?
        .f_neg()?)
}

impl Function for Sparse {
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        match LabelSpec::class(output_shape) {
            LabelSpec::Class { shape, classes, .. } => LabelSpec::Class {
                shape,
                classes,
                ignored: self.ignore_class,
            },
            label => label,
        }
    }

    fn elements(&self, ids: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        if self.axis != -1 && self.axis != y.size().len() as i64 - 1 {
            return Err(Error::Unsupported {
                place: self.place.clone(),
                what: format!("axis = {}", self.axis),
                supported: "-1, the last axis, as in Keras on TensorFlow".to_owned(),
            });
        }
        let Some(ignored) = self.ignore_class else {
            return Ok(sparse(ids, Scores::of(y, self.from_logits)?)?.into());
        };
        // Keras overwrites what does not count, which makes a tensor that has lost its logits.
        let mask = ids.f_ne(ignored)?;
        let ids = ids.f_mul(&mask)?;
        let y = y.y()?;
        let y = y.f_where_self(&mask.f_unsqueeze(-1)?, &y.f_zeros_like()?)?;
        let scores = if self.from_logits {
            Scores::Logits(y)
        } else {
            Scores::Probabilities(y)
        };
        let values = sparse(&ids, scores)?;
        let values = values.f_where_self(&mask, &values.f_zeros_like()?)?;
        Ok(Elements {
            values,
            mask: Some(mask),
        })
    }
}

/// Shares of the classes against scores.
#[derive(Debug)]
pub(super) struct Categorical {
    from_logits: bool,
    label_smoothing: f64,
    axis: i64,
    place: String,
}

impl Categorical {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            from_logits: arguments.bool("from_logits")?,
            label_smoothing: arguments.f64("label_smoothing")?,
            axis: arguments.axis("axis")?,
            place: arguments.place().to_owned(),
        }))
    }
}

impl Function for Categorical {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axis = y.axes(&[self.axis], &self.place)?;
        let y_true = smoothed(y_true, self.label_smoothing, one_of_classes(y_true))?;
        let scores = Scores::of(y, self.from_logits)?;
        Ok(categorical(&y_true, scores, axis[0])?.into())
    }
}

/// The losses of shares of the classes along `axis`.
pub(crate) fn categorical(y_true: &Tensor, scores: Scores, axis: i64) -> Result<Tensor> {
    match scores {
        Scores::Logits(logits) => softmax_crossentropy(y_true, &logits, axis),
        Scores::Probabilities(y) => {
            let y = y.f_div(&sum(&y, &[axis], true)?)?;
            let hits = y_true.f_mul(&clipped(&y)?.f_log()?)?;
            sum(&hits.f_neg()?, &[axis], false)
        }
    }
}

/// TensorFlow's `softmax_cross_entropy_with_logits`: its gradient is `softmax(logits) - y_true`
/// also where the labels of a row do not sum to 1, where the true gradient would differ. That by
/// the labels is `-log_softmax(logits)`.
fn softmax_crossentropy(y_true: &Tensor, logits: &Tensor, axis: i64) -> Result<Tensor> {
    let value = {
        let log_softmax = logits.f_detach()?.f_log_softmax(axis, logits.kind())?;
        sum(&y_true.f_mul(&log_softmax)?.f_neg()?, &[axis], false)?
    };
    if !logits.requires_grad() {
        return Ok(value);
    }
    let sloped = logits.f_logsumexp(axis, false)?.f_sub(&sum(
        &y_true.f_detach()?.f_mul(logits)?,
        &[axis],
        false,
    )?)?;
    Ok(value.f_add(&sloped.f_sub(&sloped.f_detach()?)?)?)
}

/// Independent probabilities against scores.
#[derive(Debug)]
pub(super) struct Binary {
    from_logits: bool,
    label_smoothing: f64,
    axes: Vec<i64>,
    place: String,
}

impl Binary {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            from_logits: arguments.bool("from_logits")?,
            label_smoothing: arguments.f64("label_smoothing")?,
            axes: arguments.axes("axis")?,
            place: arguments.place().to_owned(),
        }))
    }
}

impl Function for Binary {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axes = y.axes(&self.axes, &self.place)?;
        let y_true = smoothed(y_true, self.label_smoothing, 0.5)?;
        let values = binary(&y_true, &Scores::of(y, self.from_logits)?)?;
        Ok(mean(&values, &axes)?.into())
    }
}

/// The losses of independent probabilities.
pub(crate) fn binary(y_true: &Tensor, scores: &Scores) -> Result<Tensor> {
    match scores {
        Scores::Logits(logits) => sigmoid_crossentropy(y_true, logits),
        Scores::Probabilities(y) => probability_crossentropy(y_true, y),
    }
}

/// Of values before a sigmoid.
pub(super) fn sigmoid_crossentropy(y_true: &Tensor, logits: &Tensor) -> Result<Tensor> {
    Ok(logits.f_binary_cross_entropy_with_logits::<Tensor>(y_true, None, None, Reduction::None)?)
}

/// Of probabilities.
pub(super) fn probability_crossentropy(y_true: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y = clipped(y)?;
    let hit = y_true.f_mul(&y.f_log()?)?;
    let miss = complement(y_true)?.f_mul(&complement(&y)?.f_log()?)?;
    Ok(hit.f_add(&miss)?.f_neg()?)
}

/// `1 - values`.
pub(super) fn complement(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_neg()?.f_add_scalar(1.0)?)
}

/// Labels moved by `smoothing` towards `target`.
pub(super) fn smoothed(y_true: &Tensor, smoothing: f64, target: f64) -> Result<Tensor> {
    if smoothing == 0.0 {
        return Ok(y_true.shallow_clone());
    }
    Ok(y_true
        .f_mul_scalar(1.0 - smoothing)?
        .f_add_scalar(smoothing * target)?)
}

/// The share of each class if all were alike; Keras counts them on the last axis, wherever the
/// classes lie.
pub(super) fn one_of_classes(y_true: &Tensor) -> f64 {
    y_true
        .size()
        .last()
        .map_or(1.0, |&classes| 1.0 / classes as f64)
}

pub(super) fn sum(values: &Tensor, axes: &[i64], keep: bool) -> Result<Tensor> {
    Ok(values.f_sum_dim_intlist(axes, keep, values.kind())?)
}

pub(super) fn mean(values: &Tensor, axes: &[i64]) -> Result<Tensor> {
    Ok(values.f_mean_dim(axes, false, values.kind())?)
}

/// The scores of a focal loss, which it computes itself wherever they are not probabilities yet.
pub(super) fn scores_for_focal(
    y_true: &Tensor,
    y: &Prediction<'_>,
    from_logits: bool,
) -> Result<(Tensor, Tensor)> {
    let given = y.y()?;
    if from_logits {
        let crossentropy = sigmoid_crossentropy(y_true, &given)?;
        return Ok((given.f_sigmoid()?, crossentropy));
    }
    let crossentropy = match y.logits()? {
        Some(logits) => sigmoid_crossentropy(y_true, &logits)?,
        None => probability_crossentropy(y_true, &given)?,
    };
    Ok((given, crossentropy))
}
