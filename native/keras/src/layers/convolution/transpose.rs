//! `Conv1DTranspose`, `Conv2DTranspose` and `Conv3DTranspose`: the gradient of a convolution by its
//! input, kernels `[...sizes, filters, inputs]`.
//!
//! Lengths are Keras's (`_get_output_shape_given_tf_padding`); where the windows lie in them is
//! TensorFlow's rule for the convolution whose gradient this is.

use tch::Tensor;

use super::geometry::{Geometry, kernel_view};
use crate::activations::Activation;
use crate::config::Options;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::integers;
use crate::layers::window::{Padding, Window};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

/// How far the windows of a transposed convolution reach.
#[derive(Debug, Clone)]
pub(crate) struct Transposed {
    geometry: Geometry,
    output_padding: Option<Vec<i64>>,
}

#[derive(Debug)]
struct ConvTranspose {
    transposed: Transposed,
    filters: i64,
    kernel: Handle,
    bias: Option<Handle>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let geometry = Geometry::read(scope, &["valid", "same"])?;
    let filters = options.count("filters")?;
    let shape = [
        geometry.window.size.as_slice(),
        &[filters, geometry.channels],
    ]
    .concat();
    let transposed = Transposed::read(options, geometry)?;
    let kernel = scope.weight("kernel", "kernel", &shape, "glorot_uniform")?;
    let use_bias = options.flag("use_bias", true)?;
    let conv = ConvTranspose {
        transposed,
        filters,
        kernel,
        bias: scope.weight_if(use_bias, "bias", "bias", &[filters], "zeros")?,
    };
    Ok(Built::unary(conv).then(Activation::read(options, "activation")?))
}

/// Reads option `output_padding`, which must be below the strides; absent or null is none.
fn output_padding(options: &Options<'_>, window: &Window) -> Result<Option<Vec<i64>>> {
    if options.is_null("output_padding") {
        return Ok(None);
    }
    let Some(padding) = integers(options, "output_padding", window.rank(), 0)? else {
        return Ok(None);
    };
    let strides = &window.strides;
    if padding
        .iter()
        .zip(strides)
        .any(|(padding, stride)| padding >= stride)
    {
        return Err(options.invalid(format!(
            "output_padding = {padding:?} must be below strides = {strides:?}"
        )));
    }
    let uneven = |axis: usize| window.extent(axis) % 2 == 1;
    let fits = |(axis, &padding): (usize, &i64)| padding > 0 || uneven(axis);
    if window.padding == Padding::Same && !padding.iter().enumerate().all(fits) {
        return Err(options.invalid(format!(
            "output_padding = {padding:?} leaves no window for the last element where \
             kernel_size = {:?} is even; TensorFlow refuses it too",
            window.size
        )));
    }
    Ok(Some(padding))
}

impl Transposed {
    /// Reads what a transposed convolution has besides the options of every one.
    pub(crate) fn read(options: &Options<'_>, geometry: Geometry) -> Result<Self> {
        geometry.window.require_strides_or_dilation(options)?;
        Ok(Self {
            output_padding: output_padding(options, &geometry.window)?,
            geometry,
        })
    }

    /// Elements along a spatial axis that is `length` long in the input.
    fn length(&self, axis: usize, length: i64) -> i64 {
        let window = &self.geometry.window;
        let (extent, stride) = (window.extent(axis), window.strides[axis]);
        let extra = self.output_padding.as_ref().map(|padding| padding[axis]);
        let before_last = (length - 1) * stride;
        match (window.padding, extra) {
            (Padding::Same, None) => before_last + stride,
            (Padding::Same, Some(extra)) => before_last + extent % 2 + extra,
            (_, None) => before_last + extent.max(stride),
            (_, Some(extra)) => before_last + extent + extra,
        }
    }

    /// Elements that all windows cover along the axis.
    fn covered(&self, axis: usize, length: i64) -> i64 {
        let window = &self.geometry.window;
        (length - 1) * window.strides[axis] + window.extent(axis)
    }

    /// The spec of the output with `filters` channels.
    pub(crate) fn infer(&self, input: &Spec, filters: i64) -> SpecResult {
        let Geometry { layout, .. } = &self.geometry;
        self.geometry.require(input)?;
        let lengths = layout.spatial(input).into_iter().enumerate();
        let lengths = lengths.map(|(axis, length)| Some(self.length(axis, length?)));
        let spatial: Vec<Option<i64>> = lengths.collect();
        Ok(input.with_dims(layout.join(input.dims[0], &spatial, Some(filters))))
    }

    /// The output for a kernel `[...sizes, filters, inputs]`.
    pub(crate) fn pass(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Geometry { window, layout, .. } = &self.geometry;
        let size = x.size();
        let (mut cut, mut added, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, &length) in layout.between(&size).iter().enumerate() {
            let (wanted, covered) = (self.length(axis, length), self.covered(axis, length));
            // Half of what is too much goes before, and what then lacks is added after.
            let before = if window.padding == Padding::Same {
                (covered - wanted).max(0) / 2
            } else {
                0
            };
            cut.push(before);
            added.push((wanted - (covered - 2 * before)).max(0));
            lengths.push(wanted);
        }
        let mut y = layout.channels_second(x)?.f_convolution(
            &kernel_view(kernel)?,
            bias,
            window.strides.as_slice(),
            cut.as_slice(),
            window.dilation.as_slice(),
            true,
            added.as_slice(),
            1,
        )?;
        // An odd element too much is cut off after.
        for (axis, length) in (2_i64..).zip(lengths) {
            y = y.f_narrow(axis, 0, length)?;
        }
        layout.restore(&y)
    }
}

impl Unary for ConvTranspose {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.transposed.infer(input, self.filters)
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kernel = context.variable(self.kernel)?;
        let bias = context.optional(self.bias)?;
        self.transposed.pass(x, &kernel, bias.as_ref())
    }
}
