//! `PSNR` and `SSIM`: how alike images are.

use tch::{Kind, Tensor};

use super::require_images;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::layers::preprocessing::images::filter::gaussian;
use crate::literals::number;
use crate::ops::operand::{Checked, Described, Operand, checked, device, operands};
use crate::ops::promotion::floating;
use crate::ops::{failed, single};
use crate::scope::Scope;
use crate::spec::{Spec, alike};

/// The peak signal-to-noise ratio of two tensors, one number for all of their elements.
pub(super) fn psnr(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let most = options.value("max_val").and_then(number);
    let most = most.ok_or_else(|| options.invalid("max_val must be a number"))?;
    Ok(single(
        |args| {
            let [x1, x2] = operands(args, ["x1", "x2"])?;
            require_alike(&x1, &x2)?;
            let x1 = x1.spec()?;
            x1.require_float()?;
            Ok(Spec::new([], x1.dtype))
        },
        move |args| {
            let device = device(args);
            let [x1, x2] = checked(operands(args, ["x1", "x2"]))?;
            let kind = checked(x1.kind())?;
            let (x1, x2) = (x1.tensor(kind, device)?, x2.tensor(kind, device)?);
            if x1.size() != x2.size() {
                return Err(failed("takes tensors of the same shape"));
            }
            let error = x1.f_sub(&x2)?.f_square()?.f_mean(kind)?;
            let decibels = error.f_log10()?.f_mul_scalar(-10.0)?;
            Ok(decibels.f_add_scalar(20.0 * most.log10())?)
        },
    ))
}

/// The structural similarity of each image with another: means, variances and the covariance over
/// windows with Gaussian weights.
pub(super) fn ssim(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let most = options.number("max_val", 1.0)?;
    let size = match options.value("filter_size") {
        None => 11,
        Some(_) => options.count("filter_size")?,
    };
    let sigma = options.number("filter_sigma", 1.5)?;
    let steady = |k: f64| (k * most).powi(2);
    let c1 = steady(options.number("k1", 0.01)?);
    let c2 = steady(options.number("k2", 0.03)?);
    let layout = Layout::read(options)?;
    Ok(single(
        move |args| {
            let [image1, image2] = operands(args, ["image1", "image2"])?;
            require_alike(&image1, &image2)?;
            let x = image1.spec()?;
            let [height, width, _] = require_images(layout, &x)?;
            if [height, width]
                .iter()
                .any(|&at| x.dims[at].is_some_and(|n| n < size))
            {
                return Err(format!(
                    "has a window of {size}, which does not fit into {x}"
                ));
            }
            let dims = if x.rank() == 3 { &[] } else { &x.dims[..1] };
            Ok(Spec::new(dims, x.dtype))
        },
        move |args| {
            let device = device(args);
            let [image1, image2] = checked(operands(args, ["image1", "image2"]))?;
            let kind = checked(image1.kind())?;
            let computed = floating(kind);
            // [batch * channels, 1, height, width], and the number of channels.
            let planes = |image: Operand<'_, _>| -> Result<(Tensor, i64)> {
                let x = image.tensor(computed, device)?;
                let x = if x.dim() == 3 { x.f_unsqueeze(0)? } else { x };
                let x = layout.channels_second(&x)?;
                let (_, channels, height, width) = x.size4()?;
                Ok((x.f_reshape([-1, 1, height, width])?, channels))
            };
            let ((a, channels), (b, _)) = (planes(image1)?, planes(image2)?);
            let sigma = Tensor::f_scalar_tensor(sigma, (Kind::Double, device))?;
            let weights = gaussian(size, &sigma)?;
            let kernel = weights.f_outer(&weights)?.f_to_kind(computed)?;
            let kernel = kernel.f_view([1, 1, size, size])?;
            let mean = |x: &Tensor| x.f_conv2d::<Tensor>(&kernel, None, [1, 1], [0, 0], [1, 1], 1);
            let (mean_a, mean_b) = (mean(&a)?, mean(&b)?);
            let squares = mean_a.f_square()?.f_add(&mean_b.f_square()?)?;
            let product = mean_a.f_mul(&mean_b)?;
            let variances = mean(&a.f_square()?)?
                .f_add(&mean(&b.f_square()?)?)?
                .f_sub(&squares)?;
            let covariance = mean(&a.f_mul(&b)?)?.f_sub(&product)?;
            let above = |x: Tensor, c: f64| x.f_mul_scalar(2.0)?.f_add_scalar(c);
            let hits = above(product, c1)?.f_mul(&above(covariance, c2)?)?;
            let all = squares
                .f_add_scalar(c1)?
                .f_mul(&variances.f_add_scalar(c2)?)?;
            let similarity = hits.f_div(&all)?;
            let each = similarity.f_mean_dim([1_i64, 2, 3].as_slice(), false, computed)?;
            let each = each
                .f_view([-1, channels])?
                .f_mean_dim(1_i64, false, computed)?;
            let each = if image1.dims().len() == 3 {
                each.f_squeeze_dim(0)?
            } else {
                each
            };
            Ok(each.f_to_kind(kind)?)
        },
    ))
}

fn require_alike<T: Described>(a: &Operand<'_, T>, b: &Operand<'_, T>) -> Checked<()> {
    if alike(&a.dims(), &b.dims()) {
        return Ok(());
    }
    Err("takes two tensors of the same shape".to_owned())
}
