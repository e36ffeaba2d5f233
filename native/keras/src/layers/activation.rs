//! The layers that are only an activation: `Activation`, `ReLU`, `LeakyReLU`, `ELU`, `Softmax`.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, single};
use crate::activations::Activation;
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct ActivationLayer(Activation);

pub(super) fn build_named(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    Ok(Box::new(ActivationLayer(Activation::read(
        options,
        "activation",
    )?)))
}

pub(super) fn build_relu(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    build("ReLU", options)
}

pub(super) fn build_leaky_relu(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    build("LeakyReLU", options)
}

pub(super) fn build_elu(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    build("ELU", options)
}

pub(super) fn build_softmax(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    build("Softmax", options)
}

fn build(class: &str, options: &Options<'_>) -> Result<Box<dyn Layer>> {
    let activation = Activation::from_layer(class, options)?.unwrap_or(Activation::Linear);
    Ok(Box::new(ActivationLayer(activation)))
}

impl Layer for ActivationLayer {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        single(inputs).cloned()
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        Ok(inputs[0].shallow_clone())
    }

    fn activation(&self) -> Activation {
        self.0
    }

    fn is_identity(&self, _training: bool) -> bool {
        true
    }
}
