//! `SeparableConv1D` and `SeparableConv2D`: a depthwise convolution, kernel `[...sizes, inputs,
//! depth_multiplier]`, and one of size 1 over its channels, kernel `[1.., inputs *
//! depth_multiplier, filters]`.

use tch::Tensor;

use super::geometry::{Geometry, depthwise_view, kernel_view};
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

#[derive(Debug)]
struct SeparableConv {
    geometry: Geometry,
    filters: i64,
    depthwise: Handle,
    pointwise: Handle,
    bias: Option<Handle>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let geometry = Geometry::read(scope, &["valid", "same"])?;
    let filters = options.count("filters")?;
    let multiplier = options.integer("depth_multiplier", 1)?;
    if multiplier < 1 {
        return Err(options.invalid(format!("depth_multiplier = {multiplier} must be positive")));
    }
    let Geometry {
        channels, window, ..
    } = &geometry;
    let shape = [window.size.as_slice(), &[*channels, multiplier]].concat();
    let ones = vec![1; window.rank()];
    let point = [ones.as_slice(), &[channels * multiplier, filters]].concat();
    let initializer = "glorot_uniform";
    let depthwise = scope.weight("depthwise_kernel", "depthwise", &shape, initializer)?;
    let pointwise = scope.weight("pointwise_kernel", "pointwise", &point, initializer)?;
    let use_bias = options.flag("use_bias", true)?;
    let conv = SeparableConv {
        geometry,
        filters,
        depthwise,
        pointwise,
        bias: scope.weight_if(use_bias, "bias", "bias", &[filters], "zeros")?,
    };
    Ok(Built::unary(conv).then(Activation::read(options, "activation")?))
}

impl Unary for SeparableConv {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.geometry.infer(input, self.filters)
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let depthwise = context.variable(self.depthwise)?;
        let pointwise = context.variable(self.pointwise)?;
        let bias = context.optional(self.bias)?;
        separable(&self.geometry, x, &depthwise, &pointwise, bias.as_ref())
    }
}

/// The pass with kernels of the shapes above.
pub(crate) fn separable(
    geometry: &Geometry,
    x: &Tensor,
    depthwise: &Tensor,
    pointwise: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let kernel = depthwise_view(depthwise)?;
    let spread = geometry.convolve(x, &kernel, None, geometry.channels)?;
    let rank = geometry.window.rank();
    let (ones, zeros) = (vec![1; rank], vec![0; rank]);
    let y = spread.f_convolution(
        &kernel_view(pointwise)?,
        bias,
        ones.as_slice(),
        zeros.as_slice(),
        ones.as_slice(),
        false,
        zeros.as_slice(),
        1,
    )?;
    geometry.layout.restore(&y)
}
