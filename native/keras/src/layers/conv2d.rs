//! `Conv2D`: kernels `[height, width, inputs / groups, filters]`, images channels last.

use tch::Tensor;

use super::window::Window;
use super::{
    Layer, LayerVariables, Shape, ShapeResult, VariableSpec, channels_last, channels_second, image,
    require_channels_last,
};
use crate::activations::Activation;
use crate::config::Options;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::pass::Pass;

#[derive(Debug)]
struct Conv2D {
    filters: i64,
    window: Window,
    groups: i64,
    kernel: Initializer,
    bias: Option<Initializer>,
    activation: Activation,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    require_channels_last(options)?;
    let mut window = Window::read(options, "kernel_size", Some([1, 1]))?;
    window.dilation = options.pair("dilation_rate")?.unwrap_or([1, 1]);
    let filters = options.count("filters")?;
    let groups = options.i64("groups", 1)?;
    if groups < 1 || filters % groups != 0 {
        return Err(options.invalid(format!(
            "groups = {groups} must be positive and divide filters = {filters}"
        )));
    }
    let bias = Initializer::read(options, "bias_initializer", "zeros")?;
    Ok(Box::new(Conv2D {
        filters,
        window,
        groups,
        kernel: Initializer::read(options, "kernel_initializer", "glorot_uniform")?,
        bias: options.bool("use_bias", true)?.then_some(bias),
        activation: Activation::read(options, "activation")?,
    }))
}

impl Layer for Conv2D {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        let [height, width, channels] = image(inputs)?;
        if channels % self.groups != 0 {
            return Err(format!(
                "{channels} channels do not divide into {} groups",
                self.groups
            ));
        }
        Ok(vec![
            self.window.count(0, height)?,
            self.window.count(1, width)?,
            self.filters,
        ])
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let channels = inputs[0].last().copied().unwrap_or(1);
        let [height, width] = self.window.size;
        let spec = |name, shape, initializer: &Initializer| VariableSpec {
            name,
            shape,
            initializer: initializer.clone(),
            trainable: true,
        };
        let shape = vec![height, width, channels / self.groups, self.filters];
        let kernel = spec("kernel", shape, &self.kernel);
        let bias = self
            .bias
            .as_ref()
            .map(|bias| spec("bias", vec![self.filters], bias));
        std::iter::once(kernel).chain(bias).collect()
    }

    fn forward(
        &self,
        inputs: &[&Tensor],
        variables: &LayerVariables<'_>,
        _: &mut Pass,
    ) -> Result<Tensor> {
        let (x, padding) = self.window.pad(&channels_second(inputs[0])?, 0.0)?;
        let kernel = variables.get(0).f_permute([3, 2, 0, 1])?;
        let bias = self.bias.as_ref().map(|_| variables.get(1));
        let Window {
            strides, dilation, ..
        } = self.window;
        channels_last(&x.f_conv2d(&kernel, bias, strides, padding, dilation, self.groups)?)
    }

    fn activation(&self) -> Activation {
        self.activation
    }
}
