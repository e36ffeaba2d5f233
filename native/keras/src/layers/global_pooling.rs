//! `GlobalAveragePooling2D`: the mean over height and width.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, image, require_channels_last};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct GlobalAveragePooling2D {
    keepdims: bool,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    require_channels_last(options)?;
    Ok(Box::new(GlobalAveragePooling2D {
        keepdims: options.bool("keepdims", false)?,
    }))
}

impl Layer for GlobalAveragePooling2D {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        let [_, _, channels] = image(inputs)?;
        Ok(if self.keepdims {
            vec![1, 1, channels]
        } else {
            vec![channels]
        })
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        Ok(inputs[0].f_mean_dim([1_i64, 2].as_slice(), self.keepdims, None)?)
    }
}
