//! Operations on all windows of images: `Unfold` and its transpose `Fold`, `ExtractPatches`.

use tch::Kind;

use super::operand::Checked;
use super::{Family, shaped};
use crate::config::{Given, Options};
use crate::dtype::is_float;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::{Layout, integers, sizes};
use crate::layers::window::{Padding, Window};
use crate::scope::Scope;
use crate::spec::Spec;

pub(super) const OPS: Family = &[
    ("Unfold", unfold),
    ("Fold", fold),
    ("ExtractPatches", extract_patches),
];

/// A positive integer or two that must be there.
fn pair(options: &Options<'_>, key: &str) -> Result<Vec<i64>> {
    sizes(options, key, 2)?.ok_or_else(|| options.invalid(format!("{key} is missing")))
}

/// The windows of `Unfold` and `Fold`, and the zeros around the images.
fn torch_windows(options: &Options<'_>) -> Result<(Window, Vec<i64>)> {
    let ones = || vec![1; 2];
    let window = Window {
        size: pair(options, "kernel_size")?,
        strides: sizes(options, "stride", 2)?.unwrap_or_else(ones),
        dilation: sizes(options, "dilation", 2)?.unwrap_or_else(ones),
        padding: Padding::Valid,
    };
    let padding = integers(options, "padding", 2, 0)?.unwrap_or_else(|| vec![0; 2]);
    Ok((window, padding))
}

/// `[batch, channels, height, width]` to `[batch, channels * elements, windows]`.
fn unfold(scope: &mut Scope<'_>) -> Result<Built> {
    let (window, padding) = torch_windows(scope.options)?;
    let [above, before] = [padding[0], padding[1]];
    let elements: i64 = window.size.iter().product();
    let of_infer = window.clone();
    Ok(shaped(
        move |x| {
            x.require_rank(4)?;
            let padded = [
                x.dims[2].map(|height| height + 2 * above),
                x.dims[3].map(|width| width + 2 * before),
            ];
            let counts = of_infer.counts(&padded)?;
            let windows = counts.into_iter().product();
            Ok(vec![x.dims[0], x.dims[1].map(|n| n * elements), windows])
        },
        move |x| {
            let (rows, channels, ..) = x.size4()?;
            let padded = x.f_constant_pad_nd([before, before, above, above])?;
            let y = window.elements(&padded, 2)?.f_permute([0, 1, 4, 5, 2, 3])?;
            Ok(y.f_reshape([rows, channels * elements, -1])?)
        },
    ))
}

/// The transpose of [`unfold`]: elements that lie on one pixel are added.
fn fold(scope: &mut Scope<'_>) -> Result<Built> {
    let output = pair(scope.options, "output_size")?;
    let (window, padding) = torch_windows(scope.options)?;
    let elements: i64 = window.size.iter().product();
    let lengths = output.iter().zip(&padding);
    let lengths: Vec<_> = lengths.map(|(n, padding)| Some(n + 2 * padding)).collect();
    let counts = window.counts(&lengths);
    let counts = counts.map_err(|reason| scope.mismatch(reason))?;
    let count: i64 = counts.into_iter().flatten().product();
    let spatial = [Some(output[0]), Some(output[1])];
    Ok(shaped(
        move |x| {
            x.require_rank(3)?;
            let fits =
                x.dims[1].is_none_or(|n| n % elements == 0) && x.dims[2].is_none_or(|n| n == count);
            if !fits {
                return Err(format!(
                    "takes {count} windows of {elements} elements of each channel, got shape {x}"
                ));
            }
            let channels = x.dims[1].map(|n| n / elements);
            Ok(vec![x.dims[0], channels, spatial[0], spatial[1]])
        },
        move |x| {
            let kind = x.kind();
            // libtorch adds no integers here; float64 holds all sums of small ones.
            let computed = if is_float(kind) { kind } else { Kind::Double };
            let y = x.f_to_kind(computed)?.f_col2im(
                output.as_slice(),
                window.size.as_slice(),
                window.dilation.as_slice(),
                padding.as_slice(),
                window.strides.as_slice(),
            )?;
            Ok(y.f_to_kind(kind)?)
        },
    ))
}

/// The pixels of each window as channels of its own pixel, for images and volumes, one or a batch.
fn extract_patches(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let rank = match options.value("size").and_then(|size| size.as_array()) {
        Some(size) if size.len() == 3 => 3,
        _ => 2,
    };
    let size = sizes(options, "size", rank)?;
    let size = size.ok_or_else(|| options.invalid("size is missing"))?;
    let strides = match options.given("strides") {
        Given::Null => None,
        _ => sizes(options, "strides", rank)?,
    };
    let window = Window {
        strides: strides.unwrap_or_else(|| size.clone()),
        dilation: sizes(options, "dilation_rate", rank)?.unwrap_or_else(|| vec![1; rank]),
        padding: Padding::read(options, &["valid", "same"])?,
        size,
    };
    window.require_strides_or_dilation(options)?;
    let layout = Layout::read(options)?;
    let elements: i64 = window.size.iter().product();
    let of_infer = window.clone();
    Ok(shaped(
        move |x: &Spec| -> Checked<Vec<Option<i64>>> {
            let single = x.rank() == rank + 1;
            let batch = if single {
                x.with_dims([&[Some(1)], x.dims.as_slice()].concat())
            } else {
                x.clone()
            };
            batch.require_rank(rank + 2)?;
            let counts = of_infer.counts(&layout.spatial(&batch))?;
            let channels = batch.dims[batch.axis(layout.channel_axis())?];
            let channels = channels.map(|channels| channels * elements);
            let dims = layout.join(batch.dims[0], &counts, channels);
            Ok(dims[usize::from(single)..].to_vec())
        },
        move |x| {
            let single = x.dim() == rank + 1;
            let batch = if single {
                x.f_unsqueeze(0)?
            } else {
                x.shallow_clone()
            };
            let (padded, symmetric) = window.pad(layout, &batch, 0.0)?;
            let around: Vec<i64> = symmetric.iter().rev().flat_map(|n| [*n, *n]).collect();
            let y = window.elements(&padded.f_constant_pad_nd(around)?, 2)?;
            // From [batch, channels, ...windows, ...elements] to elements of which channels are last.
            let inner = i64::try_from(rank).unwrap_or(2);
            let axes = std::iter::once(0)
                .chain(2 + inner..2 + 2 * inner)
                .chain([1]);
            let axes: Vec<i64> = axes.chain(2..2 + inner).collect();
            let y = y.f_permute(axes)?;
            let size = y.size();
            let shape = [&size[..1], &[-1], &size[rank + 2..]].concat();
            let patches = layout.restore(&y.f_reshape(shape)?)?;
            Ok(if single {
                patches.f_squeeze_dim(0)?
            } else {
                patches
            })
        },
    ))
}
