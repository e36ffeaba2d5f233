//! `GlobalAveragePooling` and `GlobalMaxPooling` in 1 to 3 dimensions: over all spatial axes. The
//! average of sequences leaves out the steps that are masked.

use tch::{Kind, Tensor};

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::{DType, is_float};
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::layers::layout::{Layout, spatial_rank};
use crate::scope::Scope;
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
        rank: spatial_rank(scope),
        layout: Layout::read(scope.options)?,
        keepdims: scope.options.flag("keepdims", false)?,
    }))
}

impl GlobalPooling {
    /// The positions of the spatial axes.
    fn axes(&self) -> Vec<i64> {
        let axes = self.layout.first_spatial_axis()..;
        axes.take(self.rank).collect()
    }

    fn average(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        // Keras's mean of integers is float32.
        let kind = x.f_kind()?;
        let kind = if is_float(kind) { kind } else { Kind::Float };
        let axes = self.axes();
        let Some(mask) = mask else {
            return Ok(x.f_mean_dim(axes.as_slice(), self.keepdims, kind)?);
        };
        let channels = match self.layout {
            Layout::ChannelsLast => 2,
            Layout::ChannelsFirst => 1,
        };
        let mask = mask.f_to_kind(Kind::Bool)?.f_unsqueeze(channels)?;
        let sum = |x: &Tensor| x.f_sum_dim_intlist(axes.as_slice(), self.keepdims, kind);
        let valid = x.f_where_scalarother(&mask, 0)?;
        Ok(sum(&valid)?.f_div(&sum(&mask)?)?)
    }
}

impl Layer for GlobalPooling {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        input.require_rank(self.rank + 2)?;
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        let ones = vec![Some(1); if self.keepdims { self.rank } else { 0 }];
        let dims = self.layout.join(input.dims[0], &ones, channels);
        let mut output = input.with_dims(dims);
        if !self.max && !input.dtype.is_float() {
            output.dtype = DType::FLOAT32;
        }
        Ok(Tree::Leaf(output))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let x = value.y()?;
        if self.max {
            return Ok(Tree::Leaf(x.f_amax(self.axes(), self.keepdims)?.into()));
        }
        let explicit = args.value(1, "mask").map(Value::y).transpose()?;
        let mask = explicit.or(value.mask()).filter(|_| self.rank == 1);
        Ok(Tree::Leaf(self.average(x, mask)?.into()))
    }
}
