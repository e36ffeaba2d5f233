//! Keras's accuracies: where a prediction is right.

use tch::{Kind, Tensor};

use super::value::single;
use crate::error::Result;
use crate::losses::LabelSpec;
use crate::losses::arguments::Arguments;
use crate::losses::function::{Elements, Function};
use crate::losses::prediction::Prediction;
use crate::ops::argmax;

/// The output equals the label, element by element.
#[derive(Debug)]
pub(super) struct Accuracy;

impl Function for Accuracy {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        hits(&y.y()?.f_eq_tensor(y_true)?)
    }
}

/// The output is above the threshold exactly where the label is 1, element by element.
#[derive(Debug)]
pub(super) struct Binary {
    threshold: f64,
}

impl Binary {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        // Keras compares with a float32 whatever the outputs are.
        let threshold = f64::from(single(arguments.f64("threshold")?));
        Ok(Box::new(Self { threshold }))
    }
}

impl Function for Binary {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let above = y.y()?.f_gt(self.threshold)?;
        hits(&above.f_to_kind(y_true.kind())?.f_eq_tensor(y_true)?)
    }
}

/// The greatest score is where the greatest label is.
#[derive(Debug)]
pub(super) struct Categorical;

impl Function for Categorical {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        hits(&argmax(&y.y()?, -1)?.f_eq_tensor(&argmax(y_true, -1)?)?)
    }
}

/// The greatest score is at the class id.
#[derive(Debug)]
pub(super) struct SparseCategorical;

impl Function for SparseCategorical {
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        LabelSpec::class(output_shape)
    }

    fn elements(&self, ids: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        hits(&argmax(&y.y()?, -1)?.f_eq_tensor(ids)?)
    }
}

/// The greatest label is among the `k` greatest scores.
#[derive(Debug)]
pub(super) struct TopK {
    k: i64,
}

impl TopK {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        let k = arguments.i64("k")?;
        Ok(Box::new(Self { k }))
    }
}

impl Function for TopK {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let ids = argmax(y_true, -1)?.f_to_kind(Kind::Int64)?;
        hits(&in_top_k(&ids, &y.y()?, self.k)?)
    }
}

/// The class id is among the `k` greatest scores, or among the first `k` of an output that lists
/// ids.
#[derive(Debug)]
pub(super) struct SparseTopK {
    k: i64,
    from_sorted_ids: bool,
}

impl SparseTopK {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            k: arguments.i64("k")?,
            from_sorted_ids: arguments.bool("from_sorted_ids")?,
        }))
    }
}

impl Function for SparseTopK {
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        match LabelSpec::class(output_shape) {
            LabelSpec::Class { shape, .. } if self.from_sorted_ids => LabelSpec::Class {
                shape,
                classes: None,
                ignored: None,
            },
            label => label,
        }
    }

    fn elements(&self, ids: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let y = y.y()?;
        if !self.from_sorted_ids {
            return hits(&in_top_k(ids, &y, self.k)?);
        }
        let width = y.size().last().copied().unwrap_or(0);
        let first = y.f_narrow(-1, 0, self.k.clamp(0, width))?;
        hits(
            &first
                .f_eq_tensor(&ids.f_unsqueeze(-1)?)?
                .f_any_dim(-1, false)?,
        )
    }
}

/// TensorFlow's `in_top_k`: fewer than `k` scores exceed that of the class id; never where a score
/// is not finite or the id out of range.
fn in_top_k(ids: &Tensor, y: &Tensor, k: i64) -> Result<Tensor> {
    let classes = y.size().last().copied().unwrap_or(0);
    let known = ids.f_ge(0)?.f_logical_and(&ids.f_lt(classes)?)?;
    let at = ids.f_clamp(0, (classes - 1).max(0))?.f_unsqueeze(-1)?;
    let above = y
        .f_gt_tensor(&y.f_gather(-1, &at, false)?)?
        .f_sum_dim_intlist(-1, false, Kind::Int64)?;
    let finite = y.f_isfinite()?.f_all_dim(-1, false)?;
    Ok(above
        .f_lt(k)?
        .f_logical_and(&finite)?
        .f_logical_and(&known)?)
}

fn hits(hits: &Tensor) -> Result<Elements> {
    Ok(hits.f_to_kind(Kind::Float)?.into())
}
