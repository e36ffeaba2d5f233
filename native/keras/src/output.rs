//! A model's output for one batch, with what Keras attaches to it: the pre-activation values that
//! its crossentropies use, and the mask of valid steps.

use std::cell::OnceCell;

use tch::{Kind, Tensor};

use crate::activations::Activation;
use crate::error::Result;

/// Output of one pass. Keras marks a final softmax or sigmoid with `_keras_logits`, and every
/// crossentropy then works on those; so the final activation is applied only when asked for.
#[derive(Debug)]
pub struct Output {
    raw: Tensor,
    activation: Option<Activation>,
    mask: Option<Tensor>,
    y: OnceCell<Tensor>,
    values: OnceCell<Tensor>,
}

impl Output {
    /// An output that is complete as it is.
    pub fn new(y: Tensor) -> Self {
        Self {
            raw: y,
            activation: None,
            mask: None,
            y: OnceCell::new(),
            values: OnceCell::new(),
        }
    }

    /// An output whose last step, `activation` (softmax or sigmoid), is still to be applied.
    pub fn from_logits(logits: Tensor, activation: Activation) -> Self {
        Self {
            activation: Some(activation),
            ..Self::new(logits)
        }
    }

    /// The same output with a mask: bool, true where a step is valid, of the output's leading axes
    /// (`[N]` or `[N, T]`).
    pub fn with_mask(self, mask: Option<Tensor>) -> Self {
        Self { mask, ..self }
    }

    /// Which steps are valid (Keras's `_keras_mask`); none if all are.
    pub fn mask(&self) -> Option<&Tensor> {
        self.mask.as_ref()
    }

    /// Its shape, known without applying the activation.
    pub fn size(&self) -> Vec<i64> {
        self.raw.size()
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.raw.kind()
    }

    /// The pre-activation values of a final softmax or sigmoid (Keras's `_keras_logits`).
    pub fn logits(&self) -> Option<&Tensor> {
        self.activation.is_some().then_some(&self.raw)
    }

    /// The output, differentiable: for losses that do not work on logits.
    pub fn y(&self) -> Result<&Tensor> {
        fill(&self.y, || match &self.activation {
            Some(activation) => activation.apply(&self.raw),
            None => Ok(self.raw.shallow_clone()),
        })
    }

    /// The output without its graph: for metrics and predictions.
    pub fn values(&self) -> Result<&Tensor> {
        fill(&self.values, || match (&self.activation, self.y.get()) {
            (Some(activation), None) => {
                let _guard = tch::no_grad_guard();
                activation.apply(&self.raw)
            }
            (_, y) => Ok(y.unwrap_or(&self.raw).f_detach()?),
        })
    }
}

fn fill(cell: &OnceCell<Tensor>, make: impl FnOnce() -> Result<Tensor>) -> Result<&Tensor> {
    if let Some(tensor) = cell.get() {
        return Ok(tensor);
    }
    let tensor = make()?;
    Ok(cell.get_or_init(|| tensor))
}
