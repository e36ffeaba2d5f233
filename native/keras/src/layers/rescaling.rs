//! `Rescaling`: `x * scale + offset`, with one scale and one offset for all elements.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, single};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct Rescaling {
    scale: f64,
    offset: f64,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    let scalar = |key, default| match options.value(key) {
        Some(list) if !list.is_number() => Err(options.unsupported(key, list, "one number")),
        _ => options.f64(key, default),
    };
    Ok(Box::new(Rescaling {
        scale: scalar("scale", 1.0)?,
        offset: scalar("offset", 0.0)?,
    }))
}

impl Layer for Rescaling {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        single(inputs).cloned()
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        let scaled = inputs[0].f_mul_scalar(self.scale)?;
        Ok(if self.offset == 0.0 {
            scaled
        } else {
            scaled.f_add_scalar(self.offset)?
        })
    }
}
