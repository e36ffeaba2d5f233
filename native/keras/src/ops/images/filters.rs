//! `GaussianBlur` and `SobelEdges`: pixels mixed with those around, each channel for itself.

use tch::{Kind, Tensor};

use super::{on_images, require_images};
use crate::config::Options;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::layers::preprocessing::images::filter::blurred;
use crate::literals::number;
use crate::ops::shaped;
use crate::scope::Scope;

pub(super) fn gaussian_blur(scope: &mut Scope<'_>) -> Result<Built> {
    let size = scope.options.pair("kernel_size")?.unwrap_or([3, 3]);
    let sigmas = sigmas(scope.options)?;
    on_images(
        scope,
        |x, layout| {
            x.require_float()?;
            require_images(layout, x).map(|_| x.dims.clone())
        },
        move |x| {
            let computed = if x.kind() == Kind::Double {
                Kind::Double
            } else {
                Kind::Float
            };
            let sigmas = Tensor::f_from_slice(&sigmas)?.f_to_kind(computed)?;
            blurred(x, size, &sigmas.f_to_device(x.device())?)
        },
    )
}

/// Option `sigma`: the standard deviations along width and height.
fn sigmas(options: &Options<'_>) -> Result<[f64; 2]> {
    let Some(value) = options.value("sigma") else {
        return Ok([1.0, 1.0]);
    };
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match items
        .iter()
        .map(number)
        .collect::<Option<Vec<_>>>()
        .as_deref()
    {
        Some(&[first, second]) => Ok([first, second]),
        _ => Err(options.unsupported("sigma", value, "two numbers")),
    }
}

/// The slopes down and to the right of each pixel, on an axis at the end; images go on beyond their
/// edges as their own mirror images.
pub(super) fn sobel_edges(scope: &mut Scope<'_>) -> Result<Built> {
    let layout = Layout::read(scope.options)?;
    Ok(shaped(
        |x| {
            x.require_rank(4)?;
            x.require_float()?;
            Ok([x.dims.as_slice(), &[Some(2)]].concat())
        },
        move |x| {
            let second = layout.channels_second(x)?;
            let (rows, channels, height, width) = second.size4()?;
            let planes = second.f_reshape([rows * channels, 1, height, width])?;
            let down = Tensor::f_from_slice(&[-1_i64, -2, -1, 0, 0, 0, 1, 2, 1])?;
            let down = down.f_view([3, 3])?;
            let kernel = Tensor::f_stack(&[&down, &down.f_transpose(0, 1)?], 0)?;
            let kernel = kernel.f_unsqueeze(1)?.f_to_kind(x.kind())?;
            let edges = planes
                .f_reflection_pad2d([1, 1, 1, 1])?
                .f_conv2d::<Tensor>(
                    &kernel.f_to_device(x.device())?,
                    None,
                    [1, 1],
                    [0, 0],
                    [1, 1],
                    1,
                )?
                .f_view([rows, channels, 2, height, width])?;
            let axes = match layout {
                Layout::ChannelsFirst => [0, 1, 3, 4, 2],
                Layout::ChannelsLast => [0, 3, 4, 1, 2],
            };
            Ok(edges.f_permute(axes)?)
        },
    ))
}
