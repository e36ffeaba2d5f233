//! `UpSampling1D`, `UpSampling2D` and `UpSampling3D`: each spatial axis `size` times as long, by
//! repeating elements or, for images, by interpolating between them.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::{Layout, sizes, spatial_rank};
use crate::resize::{Interpolation, Resize};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct UpSampling {
    size: Vec<i64>,
    layout: Layout,
    interpolation: Interpolation,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let rank = spatial_rank(scope);
    let (layout, interpolation) = match rank {
        1 => (Layout::ChannelsLast, Interpolation::Nearest),
        2 => (
            Layout::read(options)?,
            Interpolation::read(options, "nearest")?,
        ),
        _ => (Layout::read(options)?, Interpolation::Nearest),
    };
    Ok(Built::unary(UpSampling {
        size: sizes(options, "size", rank)?.unwrap_or_else(|| vec![2; rank]),
        layout,
        interpolation,
    }))
}

impl Unary for UpSampling {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.size.len() + 2)?;
        let spatial = self.layout.spatial(input).into_iter().zip(&self.size);
        let spatial: Vec<_> = spatial.map(|(length, size)| Some(length? * size)).collect();
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        Ok(input.with_dims(self.layout.join(input.dims[0], &spatial, channels)))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        if self.interpolation == Interpolation::Nearest {
            return self.repeated(x);
        }
        let first = self.layout == Layout::ChannelsFirst;
        let images = if first {
            x.f_permute([0, 2, 3, 1])?
        } else {
            x.shallow_clone()
        };
        let size = images.size();
        let target = [size[1] * self.size[0], size[2] * self.size[1]];
        let resized = Resize::stretched(target, self.interpolation).resized(&images)?;
        Ok(if first {
            resized.f_permute([0, 3, 1, 2])?
        } else {
            resized
        })
    }
}

impl UpSampling {
    /// Each element `size` times along each axis, in one copy.
    fn repeated(&self, x: &Tensor) -> Result<Tensor> {
        let mut repeated = x.shallow_clone();
        let mut wide = x.size();
        let mut shape = x.size();
        let first = usize::try_from(self.layout.first_spatial_axis()).unwrap_or(1);
        for (at, &times) in self.size.iter().enumerate().rev() {
            let axis = first + at;
            repeated = repeated.f_unsqueeze(i64::try_from(axis).unwrap_or(0) + 1)?;
            wide.insert(axis + 1, times);
            shape[axis] *= times;
        }
        Ok(repeated.f_expand(wide, false)?.f_reshape(shape)?)
    }
}
