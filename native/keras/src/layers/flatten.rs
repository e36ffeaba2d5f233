//! `Flatten`: all axes but the batch become one, in row-major order.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, require_channels_last, single};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct Flatten;

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    require_channels_last(options)?;
    Ok(Box::new(Flatten))
}

impl Layer for Flatten {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        Ok(vec![single(inputs)?.iter().product()])
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        let size = inputs[0].size();
        Ok(inputs[0].f_reshape([size[0], size[1..].iter().product()])?)
    }
}
