//! `Cropping1D`, `Cropping2D` and `Cropping3D`: without the first and last elements of each spatial
//! axis.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::{Layout, margins, spatial_rank};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct Cropping {
    amounts: Vec<(i64, i64)>,
    layout: Layout,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let rank = spatial_rank(scope);
    let default = if rank == 2 { (0, 0) } else { (1, 1) };
    let amounts = margins(scope.options, "cropping", rank)?;
    Ok(Built::unary(Cropping {
        amounts: amounts.unwrap_or_else(|| vec![default; rank]),
        layout: match rank {
            1 => Layout::ChannelsLast,
            _ => Layout::read(scope.options)?,
        },
    }))
}

impl Unary for Cropping {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.amounts.len() + 2)?;
        let mut spatial = self.layout.spatial(input);
        for (length, (before, after)) in spatial.iter_mut().zip(&self.amounts) {
            let left = length.map(|length| length - before - after);
            if left.is_some_and(|left| left <= 0) {
                let amounts = &self.amounts;
                return Err(format!("cropping = {amounts:?} leaves nothing of {input}"));
            }
            *length = left;
        }
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        Ok(input.with_dims(self.layout.join(input.dims[0], &spatial, channels)))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let mut y = x.shallow_clone();
        let size = x.size();
        let lengths = self.layout.between(&size).iter().zip(&self.amounts);
        for (axis, (length, (before, after))) in (self.layout.first_spatial_axis()..).zip(lengths) {
            // A view.
            y = y.f_narrow(axis, *before, length - before - after)?;
        }
        Ok(y)
    }
}
