//! `keras.ops.image`, and `keras.ops.nn` on images: one or a batch of them.

mod blocks;
mod colours;
mod coordinates;
mod filters;
mod margins;
mod noise;
mod scaling;
mod similarity;
mod warping;

use tch::Tensor;

use super::operand::Checked;
use super::{Family, shaped};
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) const OPS: Family = &[
    ("DepthToSpace", |scope| blocks::blocks(scope, true)),
    ("SpaceToDepth", |scope| blocks::blocks(scope, false)),
    ("Resize", scaling::resize),
    ("ScaleAndTranslate", scaling::scale_and_translate),
    ("RGBToGrayscale", colours::grayscale),
    ("RGBToHSV", colours::to_hsv),
    ("HSVToRGB", colours::to_rgb),
    ("AffineTransform", warping::affine),
    ("PerspectiveTransform", warping::perspective),
    ("ElasticTransform", warping::elastic),
    ("MapCoordinates", coordinates::map_coordinates),
    ("PadImages", margins::pad),
    ("CropImages", margins::crop),
    ("GaussianBlur", filters::gaussian_blur),
    ("SobelEdges", filters::sobel_edges),
    ("PSNR", similarity::psnr),
    ("SSIM", similarity::ssim),
];

/// The positions of height, width and channels in `rank` axes.
fn places(layout: Layout, rank: usize) -> [usize; 3] {
    match layout {
        Layout::ChannelsFirst => [rank - 2, rank - 1, rank - 3],
        Layout::ChannelsLast => [rank - 3, rank - 2, rank - 1],
    }
}

/// As [`places`] in one image or a batch.
///
/// # Errors
/// It is neither.
fn require_images(layout: Layout, x: &Spec) -> Checked<[usize; 3]> {
    if matches!(x.rank(), 3 | 4) {
        return Ok(places(layout, x.rank()));
    }
    Err(format!(
        "takes one image of 3 axes or a batch of 4, got shape {x}"
    ))
}

/// Demands one image or a batch of `allowed` channels.
///
/// # Errors
/// There are others.
fn require_channels(layout: Layout, x: &Spec, allowed: &[i64]) -> Checked<[usize; 3]> {
    let places = require_images(layout, x)?;
    match x.dims[places[2]] {
        Some(channels) if !allowed.contains(&channels) => Err(format!(
            "takes images of {allowed:?} channels, got shape {x}"
        )),
        _ => Ok(places),
    }
}

/// What `change` makes of a batch with its channels last, in the layout of the images.
fn on_channels_last(
    layout: Layout,
    x: &Tensor,
    change: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let single = x.dim() == 3;
    let mut batch = if single {
        x.f_unsqueeze(0)?
    } else {
        x.shallow_clone()
    };
    if layout == Layout::ChannelsFirst {
        batch = batch.f_permute([0, 2, 3, 1])?;
    }
    let mut y = change(&batch)?;
    if layout == Layout::ChannelsFirst {
        y = y.f_permute([0, 3, 1, 2])?;
    }
    Ok(if single { y.f_squeeze_dim(0)? } else { y })
}

/// An operation on one image or a batch that keeps the dtype: `infer` gives the axes of the
/// results, `call` the results of a batch with its channels last.
fn on_images(
    scope: &Scope<'_>,
    infer: impl Fn(&Spec, Layout) -> Checked<Vec<Option<i64>>> + Send + 'static,
    call: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
) -> Result<Built> {
    let layout = Layout::read(scope.options)?;
    Ok(shaped(
        move |x| infer(x, layout),
        move |x| on_channels_last(layout, x, &call),
    ))
}
