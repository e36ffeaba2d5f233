//! What the state of a metric is made of: sums over rows, so that ranks can add theirs up.

use std::fmt::Debug;

use tch::{Kind, Tensor};

use super::value::MetricValue;
use crate::error::Result;
use crate::losses::LabelSpec;
use crate::losses::prediction::Prediction;
use crate::value::Value as Output;

/// A metric without its name.
pub(super) trait Accumulator: Debug + Send {
    /// The labels that it compares with.
    fn label(&self) -> LabelSpec;

    /// Number of sums in the state.
    fn state_len(&self) -> usize;

    /// What a batch adds to the state: float64, `[state_len]`.
    fn update(&self, batch: &Batch<'_>) -> Result<Tensor>;

    /// The value over all that was added.
    fn result(&self, state: &[f64]) -> MetricValue;
}

/// What a metric sees of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) y_true: &'a Tensor,
    pub(super) output: &'a Output,
    size: &'a [i64],
    pub(super) sample_weight: Option<&'a Tensor>,
    /// The output's mask, which only means of functions honour.
    pub(super) mask: Option<&'a Tensor>,
    /// Names the metric in errors.
    pub(super) place: &'a str,
}

impl<'a> Batch<'a> {
    /// `size` is the output's.
    pub(super) fn new(
        y_true: &'a Tensor,
        output: &'a Output,
        size: &'a [i64],
        sample_weight: Option<&'a Tensor>,
        place: &'a str,
    ) -> Self {
        Self {
            y_true,
            output,
            size,
            sample_weight,
            mask: output.mask(),
            place,
        }
    }

    /// The same without the output's mask.
    pub(super) fn without_mask(self) -> Self {
        Self { mask: None, ..self }
    }

    /// The same labels with another output, of the same shape.
    pub(super) fn of<'b>(&'b self, output: &'b Output) -> Batch<'b> {
        Batch { output, ..*self }
    }

    /// The output's shape without the batch.
    pub(super) fn output_shape(&self) -> &[i64] {
        self.size.get(1..).unwrap_or_default()
    }

    /// Labels and output, brought to one shape and, if one is given, to a kind; else to the kind
    /// that the output has.
    pub(super) fn fit(
        &self,
        label: &LabelSpec,
        kind: Option<Kind>,
    ) -> Result<(Tensor, Prediction<'a>)> {
        let own = || match self.output.kind() {
            kind @ (Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) => kind,
            _ => Kind::Float,
        };
        let kind = kind.unwrap_or_else(own);
        let (y_true, y) = label.fit(self.y_true, self.output, kind, self.place)?;
        Ok((y_true, y.detached()))
    }
}
