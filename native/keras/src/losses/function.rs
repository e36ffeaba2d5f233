//! What a loss computes: Keras's functions of labels and outputs.

use std::fmt::Debug;

use tch::Tensor;

use super::label::LabelSpec;
use super::prediction::Prediction;
use super::reduction::{Reduction, Weighing};
use crate::error::Result;

/// A function of `keras.losses` or `keras.metrics` with its arguments.
pub(crate) trait Function: Debug + Send + Sync {
    /// The labels that go with outputs of `output_shape` (without the batch).
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        LabelSpec::values(output_shape)
    }

    /// What Keras's function returns for the labels and the output of a batch. The labels have the
    /// kind and shape that [`Self::label`] asks for.
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements>;

    /// How it becomes a loss, where it is not a quotient of two sums over the elements.
    fn batchwise(&self) -> Option<&dyn Batchwise> {
        None
    }

    /// Whether every row is compared with all others, which must then lie on the same rank.
    fn compares_rows(&self) -> bool {
        false
    }
}

/// A loss that depends on other sums over a batch than the sum and the number of its elements.
pub(crate) trait Batchwise {
    /// How many sums, for outputs of `output_shape` (without the batch).
    fn sum_count(&self, output_shape: &[i64]) -> usize;

    /// What the rows of one rank add to them: float64, `[sum_count]`, differentiable.
    fn sums(&self, y_true: &Tensor, y: &Prediction<'_>, weighing: &Weighing<'_>) -> Result<Tensor>;

    /// The loss, given the sums over all ranks.
    fn outcome(&self, totals: &[f64], reduction: Reduction) -> Outcome;
}

/// The values of a function, one for each element of a batch.
#[derive(Debug)]
pub(crate) struct Elements {
    pub(crate) values: Tensor,
    /// Bool, of the values' shape: which of them count, where the function itself leaves some out.
    pub(crate) mask: Option<Tensor>,
}

impl From<Tensor> for Elements {
    fn from(values: Tensor) -> Self {
        Self { values, mask: None }
    }
}

/// A loss over the rows of all ranks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What Keras logs.
    pub value: f64,
    /// By how much what is minimised grows with each of the sums.
    pub slopes: Vec<f64>,
}
