//! Keras's accuracies: which share of a row's predictions is right.

use tch::{Kind, Tensor};

use super::mean::RowValue;
use crate::config::Options;
use crate::error::Result;
use crate::losses::{class_ids, mean_per_row, values_like};
use crate::output::Output;

/// The greatest score is at the class id.
#[derive(Debug)]
pub(super) struct SparseCategorical;

impl RowValue for SparseCategorical {
    fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let y = output.values()?;
        let ids = class_ids(y_true, y, "sparse_categorical_accuracy")?;
        matches(&y.f_argmax(-1, false)?.f_eq_tensor(&ids)?)
    }
}

/// The greatest score is where the greatest label is.
#[derive(Debug)]
pub(super) struct Categorical;

impl RowValue for Categorical {
    fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let y = output.values()?;
        let y_true = values_like(y_true, y, "categorical_accuracy")?;
        matches(
            &y.f_argmax(-1, false)?
                .f_eq_tensor(&y_true.f_argmax(-1, false)?)?,
        )
    }
}

/// The output is above the threshold exactly where the label is 1.
#[derive(Debug)]
pub(super) struct Binary {
    threshold: f64,
}

impl Binary {
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        Ok(Self {
            threshold: options.f64("threshold", 0.5)?,
        })
    }
}

impl RowValue for Binary {
    fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let y = output.values()?;
        let y_true = values_like(y_true, y, "binary_accuracy")?;
        matches(
            &y.f_gt(self.threshold)?
                .f_to_kind(Kind::Float)?
                .f_eq_tensor(&y_true)?,
        )
    }
}

/// Fewer than `k` scores exceed the score at the class id; a row with a score that is not finite
/// does not count, as in TensorFlow's `in_top_k`.
#[derive(Debug)]
pub(super) struct SparseTopK {
    k: i64,
}

impl SparseTopK {
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        Ok(Self {
            k: options.i64("k", 5)?,
        })
    }
}

impl RowValue for SparseTopK {
    fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let y = output.values()?;
        let ids = class_ids(y_true, y, "sparse_top_k_categorical_accuracy")?;
        let score = y.f_gather(-1, &ids.f_unsqueeze(-1)?, false)?;
        let above = y
            .f_gt_tensor(&score)?
            .f_sum_dim_intlist(-1, false, Kind::Int64)?;
        let finite = y.f_isfinite()?.f_all_dim(-1, false)?;
        matches(&above.f_lt(self.k)?.f_logical_and(&finite)?)
    }
}

fn matches(hits: &Tensor) -> Result<Tensor> {
    mean_per_row(&hits.f_to_kind(Kind::Float)?)
}
