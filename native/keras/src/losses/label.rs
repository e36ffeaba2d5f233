//! The labels that go with an output, and how labels and output are brought to one shape.

use tch::{Kind, Tensor};

use super::prediction::{Fit, Prediction};
use crate::error::{Error, Result};
use crate::value::Value as Output;

/// The labels that a loss or a metric wants beside an output. Shapes are without the batch axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSpec {
    /// Class ids, int64.
    Class {
        /// Usually the output's without its last axis, which is then `[]`: one id a row.
        shape: Vec<i64>,
        /// Number of classes, from 0 on; none where any id will do.
        classes: Option<i64>,
        /// The id that marks positions which do not count; it may lie outside the classes.
        ignored: Option<i64>,
    },
    /// float32 values.
    Values {
        /// The output's; for `[1]`, a plain number is also right.
        shape: Vec<i64>,
    },
    /// Sequences of class ids, int64, filled up with zeros behind their ends.
    Sequence {
        /// Steps of the output, which the longest sequence may have at most.
        steps: i64,
        /// Number of classes; ids of the sequence are from 1 on, as 0 is the blank.
        classes: i64,
    },
}

impl LabelSpec {
    /// One class id for each position of an output of `output_shape`.
    pub(crate) fn class(output_shape: &[i64]) -> Self {
        let (classes, shape) = match output_shape {
            [shape @ .., classes] => (*classes, shape),
            [] => (1, output_shape),
        };
        Self::Class {
            shape: shape.to_vec(),
            classes: Some(classes),
            ignored: None,
        }
    }

    /// Values beside an output of `output_shape`.
    pub(crate) fn values(output_shape: &[i64]) -> Self {
        Self::Values {
            shape: match output_shape {
                [] => vec![1],
                shape => shape.to_vec(),
            },
        }
    }

    /// Shape of a row's labels; none where rows differ.
    pub fn shape(&self) -> Option<&[i64]> {
        match self {
            Self::Class { shape, .. } | Self::Values { shape } => Some(shape),
            Self::Sequence { .. } => None,
        }
    }

    /// Whether labels for `self` are right for `other` too: ids are values, and a last axis of 1
    /// may be there or not.
    pub(crate) fn serves(&self, other: &Self) -> bool {
        match (self.shape(), other.shape()) {
            (Some(shape), Some(other)) => without_one(shape) == without_one(other),
            (None, None) => self == other,
            _ => false,
        }
    }

    /// Brings labels to the kind and shape that go with `output`, and the output to theirs, by the
    /// rules of Keras's `squeeze_or_expand_to_same_rank`. The output is cast to `kind`.
    pub(crate) fn fit<'a>(
        &self,
        y_true: &Tensor,
        output: &'a Output,
        kind: Kind,
        place: &str,
    ) -> Result<(Tensor, Prediction<'a>)> {
        let size = output.size();
        match self {
            Self::Class { shape, .. } => {
                let mut wanted = vec![size.first().copied().unwrap_or(0)];
                wanted.extend_from_slice(shape);
                let ids = reshaped(y_true, &wanted, place)?.f_to_kind(Kind::Int64)?;
                Ok((ids, Prediction::new(output, kind, Fit::AsIs)))
            }
            Self::Values { .. } => {
                let (y_true, fit) = same_rank(y_true, &size)?;
                let prediction = Prediction::new(output, kind, fit);
                if y_true.size() != prediction.size() {
                    return Err(mismatch(&y_true, &size, place));
                }
                Ok((y_true.f_to_kind(kind)?, prediction))
            }
            Self::Sequence { .. } => match (&y_true.size()[..], &size[..]) {
                ([labels, _], [rows, _, _]) if labels == rows => {
                    let ids = y_true.f_to_kind(Kind::Int64)?;
                    Ok((ids, Prediction::new(output, kind, Fit::AsIs)))
                }
                _ => Err(Error::ShapeMismatch {
                    place: place.to_owned(),
                    reason: format!(
                        "labels have shape {:?} and the output {size:?}; needed are [rows, \
                         longest sequence] and [rows, steps, classes]",
                        y_true.size()
                    ),
                }),
            },
        }
    }
}

/// The labels, and what is to be done with an output of `size`.
fn same_rank(y_true: &Tensor, size: &[i64]) -> Result<(Tensor, Fit)> {
    let labels = y_true.size();
    Ok(match (&labels[..], size) {
        // Keras would take the mean of such an output over the batch, not over an axis of a row.
        ([_], [_]) => (y_true.f_unsqueeze(-1)?, Fit::Expanded),
        ([_, 1], [_]) => (y_true.shallow_clone(), Fit::Expanded),
        ([_], [_, 1]) => (y_true.f_unsqueeze(-1)?, Fit::AsIs),
        (_, [.., 1]) if labels.len() + 1 == size.len() => (y_true.shallow_clone(), Fit::Squeezed),
        ([.., 1], _) if labels.len() == size.len() + 1 => (y_true.f_squeeze_dim(-1)?, Fit::AsIs),
        _ => (y_true.shallow_clone(), Fit::AsIs),
    })
}

/// Adds or drops a last axis of 1 to get `shape`, which has the batch axis.
fn reshaped(y_true: &Tensor, shape: &[i64], place: &str) -> Result<Tensor> {
    let actual = y_true.size();
    let (Some((rows, actual)), Some((wanted, shape_of_row))) =
        (actual.split_first(), shape.split_first())
    else {
        return Err(mismatch(y_true, shape, place));
    };
    if rows != wanted || without_one(actual) != without_one(shape_of_row) {
        return Err(mismatch(y_true, shape, place));
    }
    Ok(y_true.f_reshape(shape)?)
}

/// A shape without its last axis if that is 1.
fn without_one(shape: &[i64]) -> &[i64] {
    match shape {
        [shape @ .., 1] => shape,
        shape => shape,
    }
}

fn mismatch(y_true: &Tensor, needed: &[i64], place: &str) -> Error {
    Error::ShapeMismatch {
        place: place.to_owned(),
        reason: format!(
            "labels have shape {:?}, but this output needs {needed:?}",
            y_true.size()
        ),
    }
}
