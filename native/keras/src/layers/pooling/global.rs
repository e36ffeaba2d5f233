//! `GlobalAveragePooling` and `GlobalMaxPooling` in 1 to 3 dimensions: over all spatial axes. The
//! average of sequences leaves out the steps that are masked.

use tch::Tensor;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, Scope};
use crate::layers::layout::{Layout, spatial_rank};
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct GlobalPooling {
    max: bool,
    rank: usize,
    layout: Layout,
    keepdims: bool,
}

pub(super) fn build_average(scope: &mut Scope<'_>) -> Result<Built> {
    build(scope, false)
}

pub(super) fn build_max(scope: &mut Scope<'_>) -> Result<Built> {
    build(scope, true)
}

fn build(scope: &Scope<'_>, max: bool) -> Result<Built> {
    Ok(Built::layer(GlobalPooling {
        max,
        rank: spatial_rank(scope.class),
        layout: Layout::read(scope.options)?,
        keepdims: scope.options.bool("keepdims", false)?,
    }))
}

impl GlobalPooling {
    fn first_axis(&self) -> i64 {
        match self.layout {
            Layout::ChannelsLast => 1,
            Layout::ChannelsFirst => 2,
        }
    }
}

impl Layer for GlobalPooling {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        input.require_rank(self.rank + 2)?;
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        let ones = vec![Some(1); if self.keepdims { self.rank } else { 0 }];
        let dims = self.layout.join(input.dims[0], &ones, channels);
        Ok(Tree::Leaf(input.with_dims(dims)))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let x = value.y()?;
        let rank = i64::try_from(self.rank).unwrap_or(0);
        let axes: Vec<i64> = (self.first_axis()..self.first_axis() + rank).collect();
        let explicit = args.value(1, "mask").map(Value::y).transpose()?;
        let mask = explicit.or(value.mask()).filter(|_| self.rank == 1);
        let y = if self.max {
            x.f_amax(axes.as_slice(), self.keepdims)?
        } else if let Some(mask) = mask {
            let at = if self.first_axis() == 1 { 2 } else { 1 };
            let mask = mask.f_to_kind(x.f_kind()?)?.f_unsqueeze(at)?;
            let sum = |x: &Tensor| x.f_sum_dim_intlist(axes.as_slice(), self.keepdims, x.f_kind()?);
            sum(&x.f_mul(&mask)?)?.f_div(&sum(&mask)?)?
        } else {
            x.f_mean_dim(axes.as_slice(), self.keepdims, x.f_kind()?)?
        };
        Ok(Tree::Leaf(y.into()))
    }
}
