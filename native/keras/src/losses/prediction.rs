//! An output as the functions of losses and metrics see it, after Keras's conversions.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::value::Value as Output;

/// How an output is brought to the rank of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    AsIs,
    /// Its last axis, of 1, is dropped.
    Squeezed,
    /// An axis of 1 is added at the end.
    Expanded,
}

/// An output cast and fitted to labels. It stays what the model gave only if neither changes it;
/// else Keras has a new tensor, without the logits of the final activation.
#[derive(Debug)]
pub(crate) struct Prediction<'a> {
    output: &'a Output,
    kind: Kind,
    fit: Fit,
    differentiable: bool,
}

impl<'a> Prediction<'a> {
    pub(crate) fn new(output: &'a Output, kind: Kind, fit: Fit) -> Self {
        Self {
            output,
            kind,
            fit,
            differentiable: true,
        }
    }

    /// The same without a graph.
    pub(crate) fn detached(self) -> Self {
        Self {
            differentiable: false,
            ..self
        }
    }

    /// The values.
    pub(crate) fn y(&self) -> Result<Tensor> {
        let y = if self.differentiable {
            self.output.y()?
        } else {
            self.output.values()?
        };
        let y = y.f_to_kind(self.kind)?;
        Ok(match self.fit {
            Fit::AsIs => y,
            Fit::Squeezed => y.f_squeeze_dim(-1)?,
            Fit::Expanded => y.f_unsqueeze(-1)?,
        })
    }

    /// The values before a final softmax or sigmoid, where Keras still knows them.
    pub(crate) fn logits(&self) -> Result<Option<Tensor>> {
        match self.output.logits() {
            Some(logits) if self.fit == Fit::AsIs && logits.kind() == self.kind => {
                Ok(Some(if self.differentiable {
                    logits.shallow_clone()
                } else {
                    logits.f_detach()?
                }))
            }
            _ => Ok(None),
        }
    }

    /// Its shape, known without computing it.
    pub(crate) fn size(&self) -> Vec<i64> {
        let mut size = self.output.size();
        match self.fit {
            Fit::AsIs => {}
            Fit::Squeezed => {
                size.pop();
            }
            Fit::Expanded => size.push(1),
        }
        size
    }

    /// Axes as counted from the front; an error if one is the batch's or out of range.
    pub(crate) fn axes(&self, axes: &[i64], place: &str) -> Result<Vec<i64>> {
        let rank = self.size().len() as i64;
        axes.iter()
            .map(|&axis| {
                let front = if axis < 0 { axis + rank } else { axis };
                if (1..rank).contains(&front) {
                    return Ok(front);
                }
                Err(Error::ShapeMismatch {
                    place: place.to_owned(),
                    reason: format!(
                        "axis {axis} is the batch's or beyond an output of shape {:?}",
                        self.size()
                    ),
                })
            })
            .collect()
    }
}
