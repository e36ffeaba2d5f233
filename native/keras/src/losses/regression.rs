//! Keras's losses of distance, each a mean over the last axis.

use tch::{Kind, Tensor};

use super::Rule;
use crate::error::Result;
use crate::output::Output;

#[derive(Debug)]
pub(super) struct MeanSquaredError;

impl Rule for MeanSquaredError {
    fn values(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let squares = y_true.f_sub(output.y()?)?.f_square()?;
        Ok(squares.f_mean_dim(-1, false, Kind::Float)?)
    }
}

#[derive(Debug)]
pub(super) struct MeanAbsoluteError;

impl Rule for MeanAbsoluteError {
    fn values(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let distances = y_true.f_sub(output.y()?)?.f_abs()?;
        Ok(distances.f_mean_dim(-1, false, Kind::Float)?)
    }
}
