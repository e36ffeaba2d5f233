//! `keras.ops.nn`, convolutions: the passes of the layers with kernels that are arguments.
//!
//! Keras 3.15 cannot run a recorded `ConvTranspose`, for it mixes up two arguments; here it does
//! what the function does outside of a graph.

use tch::{Kind, Tensor};

use super::operand::{Checked, Described, checked, device, operands, required};
use super::{Family, single};
use crate::arguments::Args;
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::Built;
use crate::layers::convolution::geometry::{Geometry, depthwise_view, kernel_view};
use crate::layers::convolution::separable::separable;
use crate::layers::convolution::transpose::Transposed;
use crate::layers::layout::{Layout, spatial_rank};
use crate::layers::window::Window;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

pub(super) const OPS: Family = &[
    ("Conv", conv),
    ("DepthwiseConv", depthwise_conv),
    ("SeparableConv", separable_conv),
    ("ConvTranspose", conv_transpose),
];

/// `[...sizes, inputs, filters]`.
fn conv(scope: &mut Scope<'_>) -> Result<Built> {
    let (geometry, [kernel]) = read(scope, ["kernel"], &[1, 2, 3])?;
    geometry.window.require_strides_or_dilation(scope.options)?;
    let [seen, filters] = kernel.last;
    kernel.require_channels(scope, &geometry, seen)?;
    let of_infer = geometry.clone();
    Ok(convolution(
        [kernel],
        true,
        move |x| of_infer.infer(x, filters),
        move |x, kernels| {
            let kernel = kernel_view(&kernels[0])?;
            geometry
                .layout
                .restore(&geometry.convolve(x, &kernel, None, 1)?)
        },
    ))
}

/// `[...sizes, inputs, multiplier]`.
fn depthwise_conv(scope: &mut Scope<'_>) -> Result<Built> {
    let (geometry, [kernel]) = read(scope, ["kernel"], &[1, 2])?;
    let filters = kernel.outputs(scope, &geometry)?;
    let of_infer = geometry.clone();
    Ok(convolution(
        [kernel],
        false,
        move |x| of_infer.infer(x, filters),
        move |x, kernels| {
            let kernel = depthwise_view(&kernels[0])?;
            let y = geometry.convolve(x, &kernel, None, geometry.channels)?;
            geometry.layout.restore(&y)
        },
    ))
}

/// A depthwise kernel, and `[1.., inputs * multiplier, filters]`.
fn separable_conv(scope: &mut Scope<'_>) -> Result<Built> {
    let names = ["depthwise_kernel", "pointwise_kernel"];
    let (geometry, [depthwise, pointwise]) = read(scope, names, &[1, 2])?;
    let spread = depthwise.outputs(scope, &geometry)?;
    if pointwise.last[0] != spread || pointwise.size.iter().any(|&size| size != 1) {
        return Err(scope.mismatch(format!(
            "needs a pointwise_kernel of size 1 for {spread} channels, got {:?} for {}",
            pointwise.size, pointwise.last[0]
        )));
    }
    let filters = pointwise.last[1];
    let of_infer = geometry.clone();
    Ok(convolution(
        [depthwise, pointwise],
        false,
        move |x| of_infer.infer(x, filters),
        move |x, kernels| separable(&geometry, x, &kernels[0], &kernels[1], None),
    ))
}

/// `[...sizes, filters, inputs]`.
fn conv_transpose(scope: &mut Scope<'_>) -> Result<Built> {
    let (geometry, [kernel]) = read(scope, ["kernel"], &[1, 2, 3])?;
    let [filters, seen] = kernel.last;
    kernel.require_channels(scope, &geometry, seen)?;
    let transposed = Transposed::read(scope.options, geometry)?;
    let of_infer = transposed.clone();
    Ok(convolution(
        [kernel],
        true,
        move |x| of_infer.infer(x, filters),
        move |x, kernels| transposed.pass(x, &kernels[0], None),
    ))
}

/// An argument `[...size, ...last]`.
#[derive(Debug, Clone, PartialEq)]
struct Kernel {
    name: &'static str,
    size: Vec<i64>,
    last: [i64; 2],
}

impl Kernel {
    /// The argument at `position` of a call, for `rank` axes between batch and channels.
    fn of<T: Described>(
        args: &Args<T>,
        position: usize,
        name: &'static str,
        rank: usize,
    ) -> Checked<Self> {
        let spec = required(args, position, name)?.spec()?;
        let known = spec.dims.iter().map(|dim| dim.filter(|&size| size > 0));
        let known: Option<Vec<i64>> = known.collect();
        match known.as_deref() {
            Some([size @ .., a, b]) if size.len() == rank => Ok(Self {
                name,
                size: size.to_vec(),
                last: [*a, *b],
            }),
            _ => Err(format!(
                "needs a {name} of {} axes of known sizes, got shape {spec}",
                rank + 2
            )),
        }
    }

    /// Channels of the results, where the kernel sees one channel at a time.
    fn outputs(&self, scope: &Scope<'_>, geometry: &Geometry) -> Result<i64> {
        let [channels, multiplier] = self.last;
        self.require_channels(scope, geometry, channels)?;
        Ok(channels * multiplier)
    }

    fn require_channels(&self, scope: &Scope<'_>, geometry: &Geometry, seen: i64) -> Result<()> {
        let (name, channels) = (self.name, geometry.channels);
        if seen == channels {
            return Ok(());
        }
        Err(scope.mismatch(format!("has a {name} for {seen} channels, got {channels}")))
    }
}

/// The kernels called `names`, and the windows of the first of them over inputs that have one of
/// `ranks` axes between batch and channels.
fn read<const N: usize>(
    scope: &Scope<'_>,
    names: [&'static str; N],
    ranks: &[usize],
) -> Result<(Geometry, [Kernel; N])> {
    let rank = spatial_rank(scope);
    if !ranks.contains(&rank) {
        let input = scope.input()?;
        return Err(scope.mismatch(format!(
            "takes inputs with {ranks:?} axes between batch and channels, got shape {input}"
        )));
    }
    let mut kernels = names.map(|name| Kernel {
        name,
        size: Vec::new(),
        last: [0, 0],
    });
    for (position, kernel) in kernels.iter_mut().enumerate() {
        let found = Kernel::of(scope.args, position + 1, kernel.name, rank);
        *kernel = found.map_err(|reason| scope.mismatch(reason))?;
    }
    let layout = Layout::read(scope.options)?;
    let size = kernels.first().map(|kernel| kernel.size.clone());
    let geometry = Geometry {
        channels: scope.input_size(layout.channel_axis())?,
        window: Window::of_size(size.unwrap_or_default(), scope.options, &["valid", "same"])?,
        layout,
    };
    Ok((geometry, kernels))
}

/// The operation of inputs and kernels of the shapes of its first call; `integers` if TensorFlow
/// has it for int32 too, which is along one or two axes.
fn convolution<const N: usize>(
    kernels: [Kernel; N],
    integers: bool,
    infer: impl Fn(&Spec) -> SpecResult + Send + 'static,
    pass: impl Fn(&Tensor, &[Tensor]) -> Result<Tensor> + Send + 'static,
) -> Built {
    let names = kernels.clone().map(|kernel| kernel.name);
    single(
        move |args| {
            for (position, kernel) in (1..).zip(&kernels) {
                let found = Kernel::of(args, position, kernel.name, kernel.size.len())?;
                if found != *kernel {
                    let name = kernel.name;
                    return Err(format!("was first called with a {name} of another shape"));
                }
            }
            let [x] = operands(args, ["inputs"])?;
            let x = x.spec()?;
            let whole = integers && x.dtype == DType::Tensor(Kind::Int) && x.rank() < 5;
            let computed = if whole {
                DType::Tensor(Kind::Double)
            } else {
                x.dtype
            };
            Ok(infer(&x.with_dtype(computed))?.with_dtype(x.dtype))
        },
        move |args| {
            let device = device(args);
            let [x] = checked(operands(args, ["inputs"]))?;
            let kind = checked(x.kind())?;
            // float64 holds all sums of products of small integers.
            let compute = if is_float(kind) { kind } else { Kind::Double };
            let named = (1..).zip(names);
            let kernels = named.map(|(position, name)| {
                checked(required(args, position, name))?.tensor(compute, device)
            });
            let kernels = kernels.collect::<Result<Vec<_>>>()?;
            let y = pass(&x.tensor(compute, device)?, &kernels)?;
            // Sums beyond int32 wrap.
            let whole = if is_float(kind) { kind } else { Kind::Int64 };
            Ok(y.f_to_kind(whole)?.f_to_kind(kind)?)
        },
    )
}
