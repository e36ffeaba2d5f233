//! What all convolutions share: where channels lie, which windows the kernel sees, and the pass
//! over them.

use tch::Tensor;

use crate::error::Result;
use crate::layers::layout::{Layout, spatial_rank};
use crate::layers::window::Window;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

/// Windows over the spatial axes of inputs with a known number of channels.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    /// Channels of the inputs.
    pub(crate) channels: i64,
    pub(crate) window: Window,
    pub(crate) layout: Layout,
}

impl Geometry {
    /// Reads the options of a convolution's windows, whose padding is one of `paddings`, and the
    /// channels of its input.
    pub(crate) fn read(scope: &Scope<'_>, paddings: &[&str]) -> Result<Self> {
        let rank = spatial_rank(scope);
        let layout = Layout::read(scope.options)?;
        let window = Window::of_kernel(scope.options, rank, paddings)?;
        let input = scope.input()?;
        input
            .require_rank(rank + 2)
            .map_err(|reason| scope.mismatch(reason))?;
        Ok(Self {
            channels: scope.input_size(layout.channel_axis())?,
            window,
            layout,
        })
    }

    /// Demands the inputs that the kernel is for.
    pub(crate) fn require(&self, input: &Spec) -> std::result::Result<(), String> {
        input.require_rank(self.window.rank() + 2)?;
        input.require_float()?;
        let channels = input.size(self.layout.channel_axis())?;
        if channels != self.channels {
            let expected = self.channels;
            return Err(format!("has kernels for {expected} channels, got {input}"));
        }
        Ok(())
    }

    /// The spec of a convolution's output with `filters` channels.
    pub(crate) fn infer(&self, input: &Spec, filters: i64) -> SpecResult {
        self.require(input)?;
        let spatial = self.window.counts(&self.layout.spatial(input))?;
        let dims = self.layout.join(input.dims[0], &spatial, Some(filters));
        Ok(input.with_dims(dims))
    }

    /// The convolution of `x`, its channels second whatever the layout, with `kernel` as
    /// [`kernel_view`] gives it.
    pub(crate) fn convolve(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: Option<&Tensor>,
        groups: i64,
    ) -> Result<Tensor> {
        let (x, padding) = self.window.pad(self.layout, x, 0.0)?;
        Ok(x.f_convolution(
            kernel,
            bias,
            self.window.strides.as_slice(),
            padding.as_slice(),
            self.window.dilation.as_slice(),
            false,
            vec![0; self.window.rank()],
            groups,
        )?)
    }
}

/// A kernel `[...sizes, a, b]` as libtorch takes it, `[b, a, ...sizes]`, without a copy.
pub(crate) fn kernel_view(kernel: &Tensor) -> Result<Tensor> {
    let rank = i64::try_from(kernel.dim()).unwrap_or(0) - 2;
    let axes: Vec<i64> = [rank + 1, rank].into_iter().chain(0..rank).collect();
    Ok(kernel.f_permute(axes)?)
}

/// A kernel `[...sizes, channels, multiplier]` that sees one channel at a time, as libtorch takes
/// it: `[channels * multiplier, 1, ...sizes]`, without a copy.
pub(crate) fn depthwise_view(kernel: &Tensor) -> Result<Tensor> {
    let mut shape = kernel.size();
    let filters: i64 = shape
        .split_off(shape.len().saturating_sub(2))
        .iter()
        .product();
    shape.extend([1, filters]);
    kernel_view(&kernel.f_reshape(shape)?)
}
