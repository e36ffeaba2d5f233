//! `keras.ops` on images: `[batch, height, width, channels]`, or channels second.

use tch::Tensor;

use super::operand::Checked;
use super::{Family, shaped};
use crate::config::Options;
use crate::error::Result;
use crate::layer::{Built, Scope};
use crate::resize::Resize;
use crate::spec::Spec;

pub(super) const OPS: Family = &[
    ("DepthToSpace", |scope| blocks(scope, true)),
    ("SpaceToDepth", |scope| blocks(scope, false)),
    ("Resize", resize),
];

/// Whether option `data_format` says channels first; null is channels last.
fn channels_first(options: &Options<'_>) -> Result<bool> {
    let known = ["channels_last", "channels_first"];
    Ok(options.choice("data_format", "channels_last", &known)? == "channels_first")
}

/// The positions of height, width and channels in `rank` axes.
fn places(rank: usize, first: bool) -> [usize; 3] {
    if first {
        [rank - 2, rank - 1, rank - 3]
    } else {
        [rank - 3, rank - 2, rank - 1]
    }
}

/// `DepthToSpace` and its inverse: channels are blocks of `block_size` by `block_size` pixels, in
/// rows.
fn blocks(scope: &mut Scope<'_>, to_space: bool) -> Result<Built> {
    let size = scope.options.count("block_size")?;
    let first = channels_first(scope.options)?;
    Ok(shaped(
        move |x| {
            x.require_rank(4)?;
            let [height, width, channels] = places(4, first);
            let mut dims = x.dims.clone();
            let (grow, shrink): (&[usize], &[usize]) = if to_space {
                (&[height, width], &[channels, channels])
            } else {
                (&[channels, channels], &[height, width])
            };
            for &at in grow {
                dims[at] = dims[at].map(|dim| dim * size);
            }
            for &at in shrink {
                if dims[at].is_some_and(|dim| dim % size != 0) {
                    return Err(format!("cannot divide {x} into blocks of {size}"));
                }
                dims[at] = dims[at].map(|dim| dim / size);
            }
            Ok(dims)
        },
        move |x| {
            let last = if first {
                x.f_permute([0, 2, 3, 1])?
            } else {
                x.shallow_clone()
            };
            let moved = moved_blocks(&last, size, to_space)?;
            Ok(if first {
                moved.f_permute([0, 3, 1, 2])?
            } else {
                moved
            })
        },
    ))
}

fn moved_blocks(x: &Tensor, size: i64, to_space: bool) -> Result<Tensor> {
    let (batch, height, width, channels) = x.size4()?;
    if to_space {
        let channels = channels / (size * size);
        let y = x.f_reshape([batch, height, width, size, size, channels])?;
        let y = y.f_permute([0, 1, 3, 2, 4, 5])?;
        return Ok(y.f_reshape([batch, height * size, width * size, channels])?);
    }
    let (height, width) = (height / size, width / size);
    let y = x.f_reshape([batch, height, size, width, size, channels])?;
    let y = y.f_permute([0, 1, 3, 2, 4, 5])?;
    Ok(y.f_reshape([batch, height, width, size * size * channels])?)
}

/// `Resize` to `size`.
fn resize(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let resize = Resize::read(options, options.required_pair("size")?)?;
    let [height, width] = resize.size;
    let first = channels_first(options)?;
    Ok(shaped(
        move |x: &Spec| -> Checked<Vec<Option<i64>>> {
            x.require_rank(4)?;
            let [rows, columns, _] = places(4, first);
            let mut dims = x.dims.clone();
            (dims[rows], dims[columns]) = (Some(height), Some(width));
            Ok(dims)
        },
        move |x| {
            if !first {
                return resize.resized(x);
            }
            let resized = resize.resized(&x.f_permute([0, 2, 3, 1])?)?;
            Ok(resized.f_permute([0, 3, 1, 2])?)
        },
    ))
}
