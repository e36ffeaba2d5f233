//! `Conv1D`, `Conv2D` and `Conv3D`: kernels `[...sizes, inputs / groups, filters]`.

use tch::Tensor;

use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Scope, Unary};
use crate::layers::layout::{Layout, sizes, spatial_rank};
use crate::layers::window::Window;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

#[derive(Debug)]
pub(crate) struct Conv {
    channels: i64,
    filters: i64,
    window: Window,
    groups: i64,
    layout: Layout,
    kernel: Handle,
    bias: Option<Handle>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let rank = spatial_rank(scope.class);
    let layout = Layout::read(options)?;
    let mut window = Window::read(options, "kernel_size", rank, Some(1))?;
    window.dilation = sizes(options, "dilation_rate", rank)?.unwrap_or(window.dilation);
    let above_one = |sizes: &[i64]| sizes.iter().any(|&size| size > 1);
    if above_one(&window.strides) && above_one(&window.dilation) {
        return Err(options.invalid(format!(
            "strides = {:?} and dilation_rate = {:?} cannot both be above 1",
            window.strides, window.dilation
        )));
    }
    let filters = options.count("filters")?;
    let groups = options.i64("groups", 1)?;
    if groups < 1 || filters % groups != 0 {
        return Err(options.invalid(format!(
            "groups = {groups} must be positive and divide filters = {filters}"
        )));
    }
    let input = scope.input()?;
    let wrong = |reason| scope.mismatch(reason);
    input.require_rank(rank + 2).map_err(wrong)?;
    let channels = scope.input_size(layout.channel_axis())?;
    if channels % groups != 0 {
        return Err(scope.mismatch(format!(
            "{channels} channels do not divide into {groups} groups"
        )));
    }
    let shape = [window.size.as_slice(), &[channels / groups, filters]].concat();
    let kernel = scope.weight("kernel", "kernel", &shape, "glorot_uniform")?;
    let use_bias = options.bool("use_bias", true)?;
    let conv = Conv {
        channels,
        filters,
        window,
        groups,
        layout,
        kernel,
        bias: scope.weight_if(use_bias, "bias", "bias", &[filters], "zeros")?,
    };
    Ok(Built::unary(conv).then(Activation::read(options, "activation")?))
}

impl Unary for Conv {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.window.size.len() + 2)?;
        let channels = input.size(self.layout.channel_axis())?;
        if channels != self.channels {
            let expected = self.channels;
            return Err(format!("has kernels for {expected} channels, got {input}"));
        }
        let spatial = self.window.counts(&self.layout.spatial(input))?;
        let dims = self
            .layout
            .join(input.dims[0], &spatial, Some(self.filters));
        Ok(input.with_dims(dims))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kernel = context.variable(self.kernel)?;
        let x = x.f_to_kind(kernel.f_kind()?)?;
        let (x, padding) = self.window.pad(&self.layout.channels_second(&x)?, 0.0)?;
        let rank = i64::try_from(self.window.size.len()).unwrap_or(0);
        let axes: Vec<i64> = [rank + 1, rank].into_iter().chain(0..rank).collect();
        let kernel = kernel.f_permute(axes)?;
        let bias = context.optional(self.bias)?;
        let Window {
            strides, dilation, ..
        } = &self.window;
        let y = x.f_convolution(
            &kernel,
            bias.as_ref(),
            strides.as_slice(),
            padding.as_slice(),
            dilation.as_slice(),
            false,
            vec![0; self.window.size.len()],
            self.groups,
        )?;
        self.layout.restore(&y)
    }
}
