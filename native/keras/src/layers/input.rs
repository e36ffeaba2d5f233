//! `InputLayer`: where a batch enters. Its shape is read by the model; any numeric dtype is cast to
//! f32.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, single};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct Input;

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    options.ignore(&["batch_shape", "dtype"]);
    Ok(Box::new(Input))
}

impl Layer for Input {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        single(inputs).cloned()
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        Ok(inputs[0].shallow_clone())
    }
}
