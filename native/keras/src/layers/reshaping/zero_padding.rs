//! `ZeroPadding1D`, `ZeroPadding2D` and `ZeroPadding3D`: zeros before and after each spatial axis.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::{Layout, margins, spatial_rank};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct ZeroPadding {
    amounts: Vec<(i64, i64)>,
    layout: Layout,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let rank = spatial_rank(scope);
    let amounts = margins(scope.options, "padding", rank)?;
    Ok(Built::unary(ZeroPadding {
        amounts: amounts.unwrap_or_else(|| vec![(1, 1); rank]),
        layout: Layout::read(scope.options)?,
    }))
}

impl Unary for ZeroPadding {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.amounts.len() + 2)?;
        let spatial = self.layout.spatial(input).into_iter().zip(&self.amounts);
        let padded = spatial.map(|(length, (before, after))| Some(length? + before + after));
        let spatial: Vec<_> = padded.collect();
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        Ok(input.with_dims(self.layout.join(input.dims[0], &spatial, channels)))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        self.layout.pad(x, &self.amounts, 0.0)
    }
}
