//! Intersection over union of classes, from a confusion matrix.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::accumulator::{Accumulator, Batch};
use super::value::MetricValue;
use crate::error::{Error, Result};
use crate::losses::LabelSpec;
use crate::losses::arguments::{Arguments, list, nullable};
use crate::ops::argmax;

/// `keras.backend.epsilon()`.
const EPSILON: f64 = 1e-7;

/// `IoU`, `MeanIoU`, their one-hot kin and `BinaryIoU`. State: the confusion matrix, labels by rows.
#[derive(Debug)]
pub(super) struct Iou {
    num_classes: i64,
    targets: Vec<usize>,
    ignore_class: Option<i64>,
    sparse_y_true: bool,
    sparse_y_pred: bool,
    /// Above which an output is class 1 and not 0.
    threshold: Option<f64>,
    /// Keras counts in integers by default, to which it also cuts the weights.
    whole: bool,
    label: LabelSpec,
}

impl Iou {
    pub(super) fn of_classes(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let sparse_y_true = arguments.bool("sparse_y_true")?;
        let targets = targets(arguments)?;
        Self::build(arguments, output_shape, Some(targets), sparse_y_true)
    }

    pub(super) fn mean(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let sparse_y_true = arguments.bool("sparse_y_true")?;
        Self::build(arguments, output_shape, None, sparse_y_true)
    }

    pub(super) fn one_hot(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let targets = targets(arguments)?;
        Self::build(arguments, output_shape, Some(targets), false)
    }

    pub(super) fn one_hot_mean(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Self::build(arguments, output_shape, None, false)
    }

    pub(super) fn binary(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let ids = same_shape(output_shape);
        Ok(Box::new(Self {
            num_classes: 2,
            targets: in_range(arguments, &targets(arguments)?, 2)?,
            ignore_class: None,
            sparse_y_true: true,
            sparse_y_pred: true,
            threshold: Some(arguments.f64("threshold")?),
            whole: is_whole(arguments)?,
            label: ids,
        }))
    }

    fn build(
        arguments: &Arguments<'_>,
        output_shape: &[i64],
        targets: Option<Vec<i64>>,
        sparse_y_true: bool,
    ) -> Result<Box<dyn Accumulator>> {
        let num_classes = arguments.i64("num_classes")?;
        let sparse_y_pred = arguments.bool("sparse_y_pred")?;
        let axis = arguments.i64("axis")?;
        if axis != -1 {
            return Err(Error::Unsupported {
                place: arguments.place().to_owned(),
                what: format!("axis = {axis}"),
                supported: "-1, as Keras fails with others when it computes the result".to_owned(),
            });
        }
        let targets = targets.unwrap_or_else(|| (0..num_classes).collect());
        let label = match (sparse_y_true, sparse_y_pred) {
            (true, false) => match LabelSpec::class(output_shape) {
                LabelSpec::Class { shape, .. } => any_id(shape),
                label => label,
            },
            (true, true) => same_shape(output_shape),
            (false, false) => LabelSpec::values(output_shape),
            (false, true) => LabelSpec::values(&[output_shape, &[num_classes]].concat()),
        };
        Ok(Box::new(Self {
            num_classes,
            targets: in_range(arguments, &targets, num_classes)?,
            ignore_class: arguments.optional_i64("ignore_class")?,
            sparse_y_true,
            sparse_y_pred,
            threshold: None,
            whole: is_whole(arguments)?,
            label,
        }))
    }
}

fn targets(arguments: &Arguments<'_>) -> Result<Vec<i64>> {
    arguments.read("target_class_ids", "a list of integers", |value| {
        list(value, Value::as_i64)
    })
}

fn in_range(arguments: &Arguments<'_>, targets: &[i64], classes: i64) -> Result<Vec<usize>> {
    let ids = targets.iter().map(|&id| {
        let place = usize::try_from(id).ok().filter(|_| id < classes);
        place.ok_or_else(|| {
            arguments.invalid(format!("target class {id} is out of range, [0, {classes})"))
        })
    });
    ids.collect()
}

/// Ids beside an output of ids.
fn same_shape(output_shape: &[i64]) -> LabelSpec {
    any_id(output_shape.to_vec())
}

/// Ids that are out of range do not count.
fn any_id(shape: Vec<i64>) -> LabelSpec {
    LabelSpec::Class {
        shape,
        classes: None,
        ignored: None,
    }
}

/// Whether the metric's `dtype` is one of whole numbers, as by default.
fn is_whole(arguments: &Arguments<'_>) -> Result<bool> {
    arguments.read("dtype", "int, int32, int64, float32 or float64", |value| {
        let name = nullable(value, |value| value.as_str().map(str::to_owned))?;
        match name.as_deref() {
            None | Some("int" | "int32" | "int64") => Some(true),
            Some("float32" | "float64") => Some(false),
            Some(_) => None,
        }
    })
}

impl Accumulator for Iou {
    fn label(&self) -> LabelSpec {
        self.label.clone()
    }

    fn state_len(&self) -> usize {
        usize::try_from(self.num_classes * self.num_classes).unwrap_or(0)
    }

    fn update(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let ids = |values: &Tensor, sparse: bool| -> Result<Tensor> {
            let ids = if sparse {
                values.shallow_clone()
            } else {
                argmax(values, -1)?
            };
            Ok(ids.f_to_kind(Kind::Int64)?.f_flatten(0, -1)?)
        };
        let y = batch.output.values()?;
        let y = match self.threshold {
            None => y.shallow_clone(),
            Some(threshold) => y.f_to_kind(Kind::Float)?.f_ge(threshold)?,
        };
        let (y_true, y) = (
            ids(batch.y_true, self.sparse_y_true)?,
            ids(&y, self.sparse_y_pred)?,
        );
        if y_true.size() != y.size() {
            return Err(Error::ShapeMismatch {
                place: batch.place.to_owned(),
                reason: format!(
                    "labels have shape {:?}, which does not go with outputs of shape {:?}",
                    batch.y_true.size(),
                    batch.output.size()
                ),
            });
        }
        let inside = |ids: &Tensor| ids.f_ge(0)?.f_logical_and(&ids.f_lt(self.num_classes)?);
        let mut counts = inside(&y_true)?.f_logical_and(&inside(&y)?)?;
        if let Some(ignored) = self.ignore_class {
            counts = counts.f_logical_and(&y_true.f_ne(ignored)?)?;
        }
        let weights = match batch.sample_weight {
            None => y.f_ones_like()?,
            Some(weights) => weights.f_flatten(0, -1)?,
        };
        let weights = if self.whole {
            weights.f_to_kind(Kind::Int64)?
        } else {
            weights
        };
        if weights.size() != y.size() {
            return Err(Error::ShapeMismatch {
                place: batch.place.to_owned(),
                reason: format!(
                    "{} sample weights for {} labels; give one for each",
                    weights.numel(),
                    y.numel()
                ),
            });
        }
        let weights = weights.f_to_kind(Kind::Double)?.f_mul(&counts)?;
        let cell = y_true
            .f_mul_scalar(self.num_classes)?
            .f_add(&y)?
            .f_mul(&counts)?;
        Ok(cell.f_bincount(Some(weights), self.num_classes * self.num_classes)?)
    }

    fn result(&self, state: &[f64]) -> MetricValue {
        let classes = usize::try_from(self.num_classes).unwrap_or(0);
        let (mut sum, mut valid) = (0.0, 0.0);
        for &class in &self.targets {
            let row: f64 = state[class * classes..(class + 1) * classes].iter().sum();
            let column: f64 = state.iter().skip(class).step_by(classes).sum();
            let both = state[class * classes + class];
            let all = row + column - both;
            if all > 1e-9 {
                sum += both / (all + EPSILON);
                valid += 1.0;
            }
        }
        MetricValue::Scalar(sum / (valid + EPSILON))
    }
}
