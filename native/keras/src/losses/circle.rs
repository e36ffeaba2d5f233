//! Circle loss: every embedding of a batch against all others, of its own class and of others.

use tch::{Kind, Tensor};

use super::arguments::Arguments;
use super::crossentropy::complement;
use super::function::{Elements, Function};
use super::label::LabelSpec;
use super::prediction::Prediction;
use crate::error::{Error, Result};

/// Embeddings, which should have length 1, with the ids of their classes.
#[derive(Debug)]
pub(super) struct Circle {
    gamma: f64,
    margin: f64,
    remove_diagonal: bool,
    place: String,
}

impl Circle {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            gamma: arguments.f64("gamma")?,
            margin: arguments.f64("margin")?,
            remove_diagonal: arguments.bool("remove_diagonal")?,
            place: arguments.place().to_owned(),
        }))
    }
}

impl Function for Circle {
    fn label(&self, _output_shape: &[i64]) -> LabelSpec {
        LabelSpec::Class {
            shape: Vec::new(),
            classes: None,
            ignored: None,
        }
    }

    /// A row counts only where its loss is above 0: Keras gives the values such a mask.
    fn elements(&self, ids: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let y = y.y()?;
        if y.dim() != 2 {
            return Err(Error::ShapeMismatch {
                place: self.place.clone(),
                reason: format!("outputs must be [rows, embedding], not {:?}", y.size()),
            });
        }
        let distances = complement(&y.f_matmul(&y.f_transpose(0, 1)?)?)?.f_clamp_min(0.0)?;
        let same = ids.f_unsqueeze(1)?.f_eq_tensor(&ids.f_unsqueeze(0)?)?;
        let different = same.f_logical_not()?;
        let same = if self.remove_diagonal {
            let diagonal = Tensor::f_eye(y.size()[0], (Kind::Bool, y.device()))?;
            same.f_logical_and(&diagonal.f_logical_not()?)?
        } else {
            same
        };
        // The weights of pairs are at least 0, and have gradients of their own.
        let near = distances.f_add_scalar(self.margin)?.f_clamp_min(0.0)?;
        let near = near
            .f_mul(&distances.f_neg()?.f_add_scalar(self.margin)?)?
            .f_mul_scalar(-self.gamma)?;
        let far = distances
            .f_neg()?
            .f_add_scalar(1.0 + self.margin)?
            .f_clamp_min(0.0)?;
        let far = far
            .f_mul(&distances.f_neg()?.f_add_scalar(1.0 - self.margin)?)?
            .f_mul_scalar(self.gamma)?;
        // Rows without a partner of either kind have loss 0 and no gradient; theirs are kept out,
        // as a logarithm of nothing has none.
        let paired = same
            .f_any_dim(1, true)?
            .f_logical_and(&different.f_any_dim(1, true)?)?;
        let log_sum = |values: &Tensor, pairs: &Tensor| -> Result<Tensor> {
            let nothing = values.f_full_like(f64::NEG_INFINITY)?;
            let values = values.f_where_self(pairs, &nothing)?;
            let values = values.f_where_self(&paired, &values.f_zeros_like()?)?;
            Ok(values.f_logsumexp([1_i64], true)?)
        };
        let values = log_sum(&near, &same)?
            .f_add(&log_sum(&far, &different)?)?
            .f_softplus()?;
        let values = values
            .f_where_self(&paired, &values.f_zeros_like()?)?
            .f_squeeze_dim(1)?;
        let mask = values.f_gt(0.0)?;
        Ok(Elements {
            values,
            mask: Some(mask),
        })
    }

    fn compares_rows(&self) -> bool {
        true
    }
}
