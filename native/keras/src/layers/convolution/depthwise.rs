//! `DepthwiseConv1D` and `DepthwiseConv2D`: `depth_multiplier` filters for each channel, kernels
//! `[...sizes, inputs, depth_multiplier]`.

use tch::Tensor;

use super::geometry::{Geometry, depthwise_view};
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

#[derive(Debug)]
pub(crate) struct DepthwiseConv {
    pub(crate) geometry: Geometry,
    pub(crate) filters: i64,
    pub(crate) kernel: Handle,
    pub(crate) bias: Option<Handle>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let geometry = Geometry::read(scope, &["valid", "same"])?;
    let multiplier = options.integer("depth_multiplier", 1)?;
    if multiplier < 1 {
        return Err(options.invalid(format!("depth_multiplier = {multiplier} must be positive")));
    }
    let filters = geometry.channels * multiplier;
    let shape = [
        geometry.window.size.as_slice(),
        &[geometry.channels, multiplier],
    ]
    .concat();
    let kernel = scope.weight("kernel", "depthwise", &shape, "glorot_uniform")?;
    let use_bias = options.flag("use_bias", true)?;
    let conv = DepthwiseConv {
        geometry,
        filters,
        kernel,
        bias: scope.weight_if(use_bias, "bias", "bias", &[filters], "zeros")?,
    };
    Ok(Built::unary(conv).then(Activation::read(options, "activation")?))
}

impl Unary for DepthwiseConv {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.geometry.infer(input, self.filters)
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kernel = depthwise_view(&context.variable(self.kernel)?)?;
        let bias = context.optional(self.bias)?;
        let geometry = &self.geometry;
        let y = geometry.convolve(x, &kernel, bias.as_ref(), geometry.channels)?;
        geometry.layout.restore(&y)
    }
}
