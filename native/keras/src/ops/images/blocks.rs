//! `DepthToSpace` and `SpaceToDepth`: channels for blocks of pixels.

use tch::Tensor;

use super::{on_channels_last, places};
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::ops::shaped;
use crate::scope::Scope;

/// `DepthToSpace` and its inverse: channels are blocks of `block_size` by `block_size` pixels, in
/// rows.
pub(super) fn blocks(scope: &mut Scope<'_>, to_space: bool) -> Result<Built> {
    let size = scope.options.count("block_size")?;
    let layout = Layout::read(scope.options)?;
    Ok(shaped(
        move |x| {
            x.require_rank(4)?;
            let [height, width, channels] = places(layout, 4);
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
        move |x| on_channels_last(layout, x, |x| moved_blocks(x, size, to_space)),
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
