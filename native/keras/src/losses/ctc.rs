//! Connectionist temporal classification: unaligned label sequences against steps of logits.

use tch::{Kind, Reduction, Tensor};

use super::function::{Elements, Function};
use super::label::LabelSpec;
use super::prediction::Prediction;
use crate::error::Result;

/// Class 0 is the blank, which also fills up the labels.
const BLANK: i64 = 0;

/// `[rows, steps, classes]` logits against `[rows, longest]` ids.
#[derive(Debug)]
pub(super) struct Ctc;

impl Function for Ctc {
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        match *output_shape {
            [steps, classes] => LabelSpec::Sequence { steps, classes },
            _ => LabelSpec::Sequence {
                steps: 0,
                classes: 0,
            },
        }
    }

    fn elements(&self, ids: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let y = y.y()?;
        let (rows, steps) = (y.size()[0], y.size()[1]);
        let steps = Tensor::f_full([rows], steps, (Kind::Int64, y.device()))?;
        let lengths = ids.f_ne(BLANK)?.f_sum_dim_intlist(-1, false, Kind::Int64)?;
        let values = ctc_loss(&y, &steps, ids, &lengths, BLANK)?;
        Ok(values.f_to_kind(y.kind())?.into())
    }
}

/// The losses in float32, in which TensorFlow computes them whatever the logits are: of the first
/// `lengths` of the ids in each row against the first `steps` of `logits`.
pub(crate) fn ctc_loss(
    logits: &Tensor,
    steps: &Tensor,
    ids: &Tensor,
    lengths: &Tensor,
    blank: i64,
) -> Result<Tensor> {
    if logits.size().first() == Some(&0) {
        // libtorch's own takes no empty batch.
        return Ok(logits.f_sum_dim_intlist([1_i64, 2].as_slice(), false, Kind::Float)?);
    }
    let log_softmax = logits.f_transpose(0, 1)?.f_log_softmax(-1, Kind::Float)?;
    let none = Reduction::None;
    Ok(Tensor::f_ctc_loss_tensor(
        &log_softmax,
        ids,
        steps,
        lengths,
        blank,
        none,
        false,
    )?)
}
