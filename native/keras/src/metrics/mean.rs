//! Keras's `MeanMetricWrapper`: the mean over all rows of a value per row.

use std::fmt::Debug;

use tch::{Kind, Tensor};

use super::Metric;
use crate::error::Result;
use crate::losses::Loss;
use crate::output::Output;

/// A value for each row of a batch.
pub(super) trait RowValue: Debug + Send {
    /// `[N]`, f32.
    fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor>;
}

impl RowValue for Loss {
    fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        Ok(Self::per_row(self, y_true, output)?.f_detach()?)
    }
}

/// State: sum of the rows' values, number of rows.
#[derive(Debug)]
pub(super) struct Mean<V> {
    name: String,
    value: V,
}

impl<V: RowValue + 'static> Mean<V> {
    pub(super) fn boxed(name: String, value: V) -> Box<dyn Metric> {
        Box::new(Self { name, value })
    }
}

impl<V: RowValue> Metric for Mean<V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn state_len(&self) -> usize {
        2
    }

    fn update(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let rows = self.value.per_row(y_true, output)?;
        let count = rows.f_ones_like()?.f_sum(Kind::Float)?;
        Ok(Tensor::f_stack(&[rows.f_sum(Kind::Float)?, count], 0)?)
    }

    fn result(&self, state: &[f64]) -> f64 {
        match *state {
            [total, count] if count > 0.0 => total / count,
            _ => 0.0,
        }
    }
}
