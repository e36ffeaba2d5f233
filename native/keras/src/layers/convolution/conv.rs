//! `Conv1D`, `Conv2D` and `Conv3D`: kernels `[...sizes, inputs / groups, filters]`.

use tch::Tensor;

use super::geometry::{Geometry, kernel_view};
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

#[derive(Debug)]
pub(crate) struct Conv {
    pub(crate) geometry: Geometry,
    pub(crate) filters: i64,
    pub(crate) groups: i64,
    pub(crate) kernel: Handle,
    pub(crate) bias: Option<Handle>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let paddings: &[&str] = match scope.class {
        "Conv1D" => &["valid", "same", "causal"],
        _ => &["valid", "same"],
    };
    let geometry = Geometry::read(scope, paddings)?;
    geometry.window.require_strides_or_dilation(options)?;
    let filters = options.count("filters")?;
    let groups = options.integer("groups", 1)?;
    if groups < 1 || filters % groups != 0 {
        return Err(options.invalid(format!(
            "groups = {groups} must be positive and divide filters = {filters}"
        )));
    }
    let channels = geometry.channels;
    if channels % groups != 0 {
        return Err(scope.mismatch(format!(
            "{channels} channels do not divide into {groups} groups"
        )));
    }
    let shape = [
        geometry.window.size.as_slice(),
        &[channels / groups, filters],
    ]
    .concat();
    let kernel = scope.weight("kernel", "kernel", &shape, "glorot_uniform")?;
    let use_bias = options.flag("use_bias", true)?;
    let conv = Conv {
        geometry,
        filters,
        groups,
        kernel,
        bias: scope.weight_if(use_bias, "bias", "bias", &[filters], "zeros")?,
    };
    Ok(Built::unary(conv).then(Activation::read(options, "activation")?))
}

impl Unary for Conv {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.geometry.infer(input, self.filters)
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kernel = kernel_view(&context.variable(self.kernel)?)?;
        let bias = context.optional(self.bias)?;
        let geometry = &self.geometry;
        let y = geometry.convolve(x, &kernel, bias.as_ref(), self.groups)?;
        geometry.layout.restore(&y)
    }
}
