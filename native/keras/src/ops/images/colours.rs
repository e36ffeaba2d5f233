//! Images in shades of gray, and as hue, saturation and value.

use tch::Tensor;

use super::{on_images, require_channels};
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::layers::preprocessing::images::grayscale::gray;
use crate::layers::preprocessing::images::hue::{hsv, rgb};
use crate::ops::operand::Checked;
use crate::ops::promotion::floating;
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) fn grayscale(scope: &mut Scope<'_>) -> Result<Built> {
    on_images(
        scope,
        |x, layout| {
            let [.., channels] = require_channels(layout, x, &[1, 3])?;
            let mut dims = x.dims.clone();
            dims[channels] = Some(1);
            Ok(dims)
        },
        |x| {
            let kind = x.kind();
            Ok(gray(&x.f_to_kind(floating(kind))?)?.f_to_kind(kind)?)
        },
    )
}

fn coloured(x: &Spec, layout: Layout) -> Checked<Vec<Option<i64>>> {
    x.require_float()?;
    require_channels(layout, x, &[3]).map(|_| x.dims.clone())
}

pub(super) fn to_hsv(scope: &mut Scope<'_>) -> Result<Built> {
    on_images(scope, coloured, |x| {
        let plain = x.f_detach()?;
        let colours = Tensor::f_cat(&hsv(&plain)?, -1)?;
        if !x.requires_grad() {
            return Ok(colours);
        }
        let change = x.f_sub(&plain)?.f_unsqueeze(-1)?;
        let path = slopes(&plain)?.f_matmul(&change)?.f_squeeze_dim(-1)?;
        Ok(colours.f_add(&path)?)
    })
}

/// TensorFlow gives no gradient of it.
pub(super) fn to_rgb(scope: &mut Scope<'_>) -> Result<Built> {
    on_images(scope, coloured, |x| {
        let x = x.f_detach()?;
        let channel = |at| x.f_narrow(-1, at, 1);
        rgb(&channel(0)?, &channel(1)?, &channel(2)?)
    })
}

/// The derivatives of hue, saturation and value by red, green and blue, `[..., 3, 3]`, as
/// TensorFlow has them: of equal colours the first counts as the largest and the last as the
/// smallest, and what divides by zero, or a colour that is not positive, as 0.
fn slopes(x: &Tensor) -> Result<Tensor> {
    let kind = x.kind();
    let colour = [x.f_select(-1, 0)?, x.f_select(-1, 1)?, x.f_select(-1, 2)?];
    let (largest, smallest) = (x.f_amax(-1, false)?, x.f_amin(-1, false)?);
    let range = largest.f_sub(&smallest)?;
    let inverse = |divisor: &Tensor| -> Result<Tensor> {
        let zero = divisor.f_eq(0.0)?;
        Ok(divisor.f_reciprocal()?.f_masked_fill(&zero, 0.0)?)
    };
    let by_largest = inverse(&largest)?;
    let by_range = inverse(&range.f_square()?)?.f_div_scalar(6.0)?;
    // Of the colours: whether it is the largest, the smallest, and positive.
    let (mut is_largest, mut is_smallest, mut positive) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..3 {
        let mut most = colour[at].f_eq_tensor(&largest)?;
        let mut least = colour[at].f_eq_tensor(&smallest)?;
        for before in &colour[..at] {
            most = most.f_logical_and(&before.f_ne_tensor(&largest)?)?;
        }
        for after in &colour[at + 1..] {
            least = least.f_logical_and(&after.f_ne_tensor(&smallest)?)?;
        }
        is_largest.push(most.f_to_kind(kind)?);
        is_smallest.push(least.f_to_kind(kind)?);
        positive.push(colour[at].f_gt(0.0)?.f_to_kind(kind)?);
    }
    let mut hue = [
        range.f_zeros_like()?,
        range.f_zeros_like()?,
        range.f_zeros_like()?,
    ];
    let mut saturation = Vec::new();
    for at in 0..3 {
        let (next, last) = ((at + 1) % 3, (at + 2) % 3);
        // Hue is a sector's beginning and (next - last) / (largest - smallest) / 6.
        let share = is_largest[at].f_mul(&positive[at])?.f_mul(&by_range)?;
        let mut add = |to: usize, slope: Tensor| -> Result<()> {
            hue[to] = hue[to].f_add(&slope.f_mul(&share)?)?;
            Ok(())
        };
        add(at, colour[last].f_sub(&colour[next])?)?;
        let up = is_smallest[next].f_mul(&colour[at].f_sub(&colour[last])?)?;
        add(next, up.f_add(&is_smallest[last].f_mul(&range)?)?)?;
        let down = is_smallest[last].f_mul(&colour[at].f_sub(&colour[next])?)?;
        add(
            last,
            down.f_add(&is_smallest[next].f_mul(&range)?)?.f_neg()?,
        )?;
        // Saturation is 1 - smallest / largest.
        let as_largest = is_largest[at].f_mul(&smallest)?.f_mul(&by_largest)?;
        let slope = as_largest.f_sub(&is_smallest[at])?.f_mul(&by_largest)?;
        saturation.push(slope.f_mul(&positive[at])?);
    }
    let rows = [
        Tensor::f_stack(&hue, -1)?,
        Tensor::f_stack(&saturation, -1)?,
        Tensor::f_stack(&is_largest, -1)?,
    ];
    Ok(Tensor::f_stack(&rows, -2)?)
}
