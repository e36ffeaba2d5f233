//! `Dense`: `activation(x @ kernel + bias)` on the last axis; kernel `[inputs, units]`.

use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, VariableSpec, single};
use crate::activations::Activation;
use crate::config::Options;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::pass::Pass;

#[derive(Debug)]
struct Dense {
    units: i64,
    kernel: Initializer,
    bias: Option<Initializer>,
    activation: Activation,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    let bias = Initializer::read(options, "bias_initializer", "zeros")?;
    Ok(Box::new(Dense {
        units: options.count("units")?,
        kernel: Initializer::read(options, "kernel_initializer", "glorot_uniform")?,
        bias: options.bool("use_bias", true)?.then_some(bias),
        activation: Activation::read(options, "activation")?,
    }))
}

impl Layer for Dense {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        let mut shape = single(inputs)?.clone();
        let last = shape
            .last_mut()
            .ok_or("needs inputs with at least one axis, got scalars")?;
        *last = self.units;
        Ok(shape)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let width = inputs[0].last().copied().unwrap_or(1);
        let spec = |name, shape, initializer: &Initializer| VariableSpec {
            name,
            shape,
            initializer: initializer.clone(),
            trainable: true,
        };
        let kernel = spec("kernel", vec![width, self.units], &self.kernel);
        let bias = self
            .bias
            .as_ref()
            .map(|bias| spec("bias", vec![self.units], bias));
        std::iter::once(kernel).chain(bias).collect()
    }

    fn forward(
        &self,
        inputs: &[&Tensor],
        variables: &LayerVariables<'_>,
        _: &mut Pass,
    ) -> Result<Tensor> {
        let (x, kernel) = (inputs[0], variables.get(0));
        if self.bias.is_none() {
            return Ok(x.f_matmul(kernel)?);
        }
        let bias = variables.get(1);
        if x.dim() == 2 {
            return Ok(bias.f_addmm(x, kernel)?);
        }
        Ok(x.f_matmul(kernel)?.f_add(bias)?)
    }

    fn activation(&self) -> Activation {
        self.activation
    }
}
