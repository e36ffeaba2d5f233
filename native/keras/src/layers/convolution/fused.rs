//! Convolutions as inference runs them: a batch normalization behind them is part of their kernel
//! and bias, a sum and a relu of their last pass over the output, and the kernel lies as oneDNN
//! wants it.

use flambeau_libtorch::convolution::{self, End};
use tch::Tensor;

use super::conv::Conv;
use super::depthwise::DepthwiseConv;
use super::geometry::{depthwise_view, kernel_view};
use crate::activations::Activation;
use crate::dtype::Policy;
use crate::error::Result;
use crate::layer::{Built, Single};
use crate::layers::layout::Layout;
use crate::layers::window;
use crate::spec::Spec;
use crate::variables::Variables;

/// oneDNN is slow with channels that do not fill a vector, of which images of one have the fewest.
const LEAST_CHANNELS: i64 = 3;
/// Rows for which kernels are laid out.
const ROWS: i64 = 8;

/// A convolution with what follows it.
#[derive(Debug)]
pub(crate) struct FusedConvolution {
    kernel: Tensor,
    bias: Option<Tensor>,
    window: window::Window,
    groups: i64,
    end: End,
    /// Whether what is added is nobody's any more, so that the sum may take its memory.
    pub(crate) sums_in_place: bool,
    channels: i64,
}

impl FusedConvolution {
    /// The convolution of a layer, if it is one over images in float32 with their channels last.
    ///
    /// # Errors
    /// libtorch fails.
    pub(crate) fn of(built: &Built, variables: &Variables) -> Result<Option<Self>> {
        let (geometry, kernel, bias, groups) =
            if let Some(Single(conv)) = built.downcast::<Single<Conv>>() {
                let kernel = kernel_view(variables.tensor(conv.kernel))?;
                (&conv.geometry, kernel, conv.bias, conv.groups)
            } else if let Some(Single(conv)) = built.downcast::<Single<DepthwiseConv>>() {
                let kernel = depthwise_view(variables.tensor(conv.kernel))?;
                (&conv.geometry, kernel, conv.bias, conv.geometry.channels)
            } else {
                return Ok(None);
            };
        let fits = geometry.layout == Layout::ChannelsLast
            && geometry.window.rank() == 2
            && geometry.channels >= LEAST_CHANNELS
            && built.policy == Policy::FLOAT32
            && built.activity.is_none();
        if !fits {
            return Ok(None);
        }
        Ok(Some(Self {
            kernel: kernel.f_detach()?,
            bias: bias
                .map(|bias| variables.tensor(bias).f_detach())
                .transpose()?,
            window: geometry.window.clone(),
            groups,
            end: End::Linear,
            sums_in_place: false,
            channels: geometry.channels,
        }))
    }

    /// Takes in what scales and shifts each channel of the output.
    pub(crate) fn scale_and_shift(&mut self, scale: &Tensor, shift: &Tensor) -> Result<()> {
        self.kernel = self.kernel.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        self.bias = Some(match &self.bias {
            Some(bias) => bias.f_mul(scale)?.f_add(shift)?,
            None => shift.shallow_clone(),
        });
        Ok(())
    }

    /// Takes in an activation, if it is one that oneDNN applies to its results, of sums if the
    /// convolution `adds`.
    pub(crate) fn takes(&mut self, activation: Activation, adds: bool) -> bool {
        let most = match activation {
            Activation::Relu => f64::INFINITY,
            Activation::Relu6 => 6.0,
            Activation::BoundedRelu {
                negative_slope: 0.0,
                threshold: 0.0,
                max_value,
            } => max_value.unwrap_or(f64::INFINITY),
            _ => return false,
        };
        if adds && most.is_finite() {
            return false;
        }
        self.end = End::Relu(most);
        true
    }

    /// Lays the kernel out for inputs of this spec; false if this libtorch does not.
    pub(crate) fn pack(&mut self, input: &Spec) -> bool {
        let size = |axis: usize| input.dims.get(axis).copied().flatten().unwrap_or(ROWS);
        let size = [ROWS, self.channels, size(1), size(2)];
        let (kernel, window) = (self.kernel.f_contiguous(), self.geometry(&[0, 0]));
        let packed = kernel.and_then(|kernel| convolution::packed_kernel(&kernel, &window, size));
        packed.map(|packed| self.kernel = packed).is_ok()
    }

    fn geometry(&self, padding: &[i64]) -> convolution::Window {
        let two = |values: &[i64]| match *values {
            [rows, columns] => [rows, columns],
            _ => [1, 1],
        };
        convolution::Window {
            padding: two(padding),
            strides: two(&self.window.strides),
            dilation: two(&self.window.dilation),
            groups: self.groups,
        }
    }

    /// The output for images `x`, with `other` added to it.
    pub(crate) fn call(&self, x: &Tensor, other: Option<&Tensor>) -> Result<Tensor> {
        let (x, padding) = self.window.pad(Layout::ChannelsLast, x, 0.0)?;
        let window = self.geometry(&padding);
        let bias = self.bias.as_ref();
        let y = match other {
            None => convolution::convolution(&x, &self.kernel, bias, &window, self.end)?,
            Some(other) => {
                let other = if self.sums_in_place {
                    other.shallow_clone()
                } else {
                    let mut copy = other.f_contiguous()?.f_empty_like()?;
                    copy.f_copy_(other)?;
                    copy
                };
                let mut sum = Layout::ChannelsLast.channels_second(&other)?;
                let relu = self.end != End::Linear;
                convolution::convolution_sum(&x, &mut sum, &self.kernel, bias, &window, relu)?
            }
        };
        Layout::ChannelsLast.restore(&y)
    }
}
