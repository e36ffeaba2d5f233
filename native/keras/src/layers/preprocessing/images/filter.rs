//! `RandomSharpness` and `RandomGaussianBlur`: pixels mixed with those around, each channel for
//! itself.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, ValueRange};
use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// From smoothed at factor 0 by unchanged at 0.5 to sharpened at 1.
#[derive(Debug)]
pub(super) struct Sharpness {
    pub(super) factor: Range,
    pub(super) values: ValueRange,
}

/// Some images blurred, all of a batch by the same kernel.
#[derive(Debug)]
struct GaussianBlur {
    factor: Range,
    /// Height and width of the kernel.
    size: [i64; 2],
    sigma: Range,
    values: ValueRange,
}

pub(super) fn build_sharpness(scope: &mut Scope<'_>) -> Result<Built> {
    let factor = Range::read(scope.options, "factor", [0.0, 1.0], None)?;
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Sharpness { factor, values })
}

pub(super) fn build_blur(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let blur = GaussianBlur {
        factor: Range::read(options, "factor", [0.0, 1.0], Some(1.0))?,
        size: kernel_size(options)?,
        sigma: Range::read(options, "sigma", [0.0, 1.0], Some(1.0))?,
        values: ValueRange::read(options)?,
    };
    in_training(scope, blur)
}

/// Option `kernel_size`, one odd number or two.
fn kernel_size(options: &Options<'_>) -> Result<[i64; 2]> {
    let size = options.pair("kernel_size")?.unwrap_or([3, 3]);
    if size.iter().all(|length| length % 2 == 1) {
        return Ok(size);
    }
    let value = options.value("kernel_size").unwrap_or(&Json::Null);
    Err(options.invalid(format!("kernel_size = {value} must be odd")))
}

impl Augmentation for Sharpness {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let factor = self.factor.draw_each(rng, images)?.f_mul_scalar(2.0)?;
        let smooth = factor.f_to_kind(images.f_kind()?)?;
        let smooth = smooth.f_neg()?.f_add_scalar(1.0)?;
        let mut kernel = [1.0_f32 / 13.0; 9];
        kernel[4] = 5.0 / 13.0;
        let kernel = Tensor::f_from_slice(&kernel)?.f_view([3, 3])?;
        let change = filtered(images, &kernel)?.f_sub(images)?;
        self.values.clip(&images.f_add(&smooth.f_mul(&change)?)?)
    }
}

impl Augmentation for GaussianBlur {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let happens = self.factor.happens(rng, images)?;
        // The first is the width's.
        let sigmas = self.sigma.draw(rng, &[2])?.f_add_scalar(1e-6)?;
        let blurred = blurred(images, self.size, &sigmas)?;
        self.values.clip(&blurred.f_where_self(&happens, images)?)
    }
}

/// The images correlated with a Gaussian kernel of a size, by two standard deviations of which the
/// first is the width's.
pub(crate) fn blurred(images: &Tensor, size: [i64; 2], sigmas: &Tensor) -> Result<Tensor> {
    let along_width = gaussian(size[0], &sigmas.f_get(0)?)?;
    let along_height = gaussian(size[1], &sigmas.f_get(1)?)?;
    // Keras lays out height by width what has the lengths of width by height.
    let kernel = along_height.f_outer(&along_width)?.f_reshape(size)?;
    filtered(images, &kernel)
}

/// The weights of `length` pixels, which sum to 1, by the standard deviation.
pub(crate) fn gaussian(length: i64, sigma: &Tensor) -> Result<Tensor> {
    let x = Tensor::f_arange(length, (sigma.f_kind()?, sigma.device()))?;
    #[expect(clippy::cast_precision_loss, reason = "kernels are small")]
    let x = x.f_sub_scalar((length - 1) as f64 / 2.0)?.f_div(sigma)?;
    let weights = x.f_square()?.f_mul_scalar(-0.5)?.f_exp()?;
    Ok(weights.f_div(&weights.f_sum(weights.f_kind()?)?)?)
}

/// The images correlated with a kernel, with zeros around them so that they keep their sizes, the
/// odd one after. Half precision is computed in float32.
fn filtered(images: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let kind = images.f_kind()?;
    let computed = if kind == Kind::Double {
        kind
    } else {
        Kind::Float
    };
    let channels = images.size().last().copied().unwrap_or(1);
    let (height, width) = kernel.size2()?;
    let kernel = kernel.f_to_device(images.device())?.f_to_kind(computed)?;
    let kernel = kernel.f_expand([channels, 1, height, width], false)?;
    let second = images.f_to_kind(computed)?.f_permute([0, 3, 1, 2])?;
    // What libtorch pads is the same on both sides.
    let second = second.f_constant_pad_nd([0, (width + 1) % 2, 0, (height + 1) % 2])?;
    let padding = [(height - 1) / 2, (width - 1) / 2];
    let none = None::<Tensor>;
    let result = second.f_conv2d(&kernel, none, [1, 1], padding, [1, 1], channels)?;
    Ok(result.f_permute([0, 2, 3, 1])?.f_to_kind(kind)?)
}
