//! `Add` and `Concatenate`: layers with several inputs.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct Add;

#[derive(Debug)]
struct Concatenate {
    /// As in Keras, counted with the batch.
    axis: i64,
}

pub(super) fn build_add(_: &Options<'_>) -> Result<Box<dyn Layer>> {
    Ok(Box::new(Add))
}

pub(super) fn build_concatenate(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    Ok(Box::new(Concatenate {
        axis: options.i64("axis", -1)?,
    }))
}

fn first(inputs: &[Shape]) -> std::result::Result<&Shape, String> {
    match inputs {
        [first, _, ..] => Ok(first),
        _ => Err(format!("takes at least two inputs, got {}", inputs.len())),
    }
}

impl Layer for Add {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        let shape = first(inputs)?;
        if inputs.iter().any(|other| other != shape) {
            return Err(format!("needs inputs of one shape, got {inputs:?}"));
        }
        Ok(shape.clone())
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        let mut sum = inputs[0].f_add(inputs[1])?;
        for input in &inputs[2..] {
            sum = sum.f_add(input)?;
        }
        Ok(sum)
    }
}

impl Layer for Concatenate {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        let mut shape = first(inputs)?.clone();
        let rank = i64::try_from(shape.len() + 1).unwrap_or(i64::MAX);
        let axis = if self.axis < 0 {
            self.axis + rank
        } else {
            self.axis
        };
        let position = usize::try_from(axis - 1)
            .ok()
            .filter(|&position| position < shape.len());
        let Some(position) = position else {
            return Err(format!(
                "cannot concatenate along axis {} of {shape:?}",
                self.axis
            ));
        };
        for other in &inputs[1..] {
            let fits = other.len() == shape.len()
                && (0..shape.len()).all(|i| i == position || other[i] == shape[i]);
            if !fits {
                return Err(format!(
                    "inputs differ outside axis {}: {inputs:?}",
                    self.axis
                ));
            }
            shape[position] += other[position];
        }
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        Ok(Tensor::f_cat(inputs, self.axis)?)
    }
}
