//! `AdaptiveAveragePooling` and `AdaptiveMaxPooling` in 1 to 3 dimensions: `output_size` windows
//! along each spatial axis, the i-th of n from `floor(i * length / n)` to
//! `ceil((i + 1) * length / n)`.

use flambeau_libtorch::max_pool3d;
use tch::{Kind, Tensor};

use crate::context::Context;
use crate::dtype::is_float;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::{Layout, sizes, spatial_rank};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct AdaptivePooling {
    max: bool,
    output_size: Vec<i64>,
    layout: Layout,
}

pub(crate) fn build_average(scope: &mut Scope<'_>) -> Result<Built> {
    build(scope, false)
}

pub(crate) fn build_max(scope: &mut Scope<'_>) -> Result<Built> {
    build(scope, true)
}

fn build(scope: &Scope<'_>, max: bool) -> Result<Built> {
    let options = scope.options;
    let output_size = sizes(options, "output_size", spatial_rank(scope))?;
    Ok(Built::unary(AdaptivePooling {
        max,
        output_size: output_size.ok_or_else(|| options.invalid("output_size is missing"))?,
        layout: Layout::read(options)?,
    }))
}

impl AdaptivePooling {
    fn average(&self, x: &Tensor) -> Result<Tensor> {
        let size = self.output_size.as_slice();
        Ok(match size.len() {
            1 => x.f_adaptive_avg_pool1d(size)?,
            2 => x.f_adaptive_avg_pool2d(size)?,
            _ => x.f_adaptive_avg_pool3d(size)?,
        })
    }

    /// Along one axis after the other, as Keras pools: of equal maxima, the first along the last
    /// axis gets the gradient.
    fn maximum(&self, x: &Tensor) -> Result<Tensor> {
        let mut size = x.size().split_off(2);
        let mut maxima = x.shallow_clone();
        for (axis, &count) in self.output_size.iter().enumerate() {
            size[axis] = count;
            maxima = match size.as_slice() {
                [_] => maxima.f_adaptive_max_pool1d(size.as_slice())?.0,
                [_, _] => maxima.f_adaptive_max_pool2d(size.as_slice())?.0,
                _ => along(&maxima, axis, count)?,
            };
        }
        Ok(maxima)
    }
}

/// The maxima of `count` windows along one of three axes. They are of two lengths at most.
fn along(x: &Tensor, axis: usize, count: i64) -> Result<Tensor> {
    let length = x.size()[axis + 2];
    // Where windows start and end. A tensor, since memory for an absurd `count` is refused there.
    let numbers = Tensor::f_arange(count, (Kind::Int64, x.device()))?.f_mul_scalar(length)?;
    let start = numbers.f_divide_scalar_mode(count, "floor")?;
    let end = numbers
        .f_add_scalar(length + count - 1)?
        .f_divide_scalar_mode(count, "floor")?;
    let short = (length + count - 1) / count;
    let is_long = end.f_sub(&start)?.f_gt(short)?;
    let maxima = |size: i64| {
        let mut window = [1; 3];
        window[axis] = size;
        max_pool3d(x, &window, &[1; 3], &[0; 3])
    };
    let dim = i64::try_from(axis + 2).unwrap_or(2);
    let mut all = maxima(short)?;
    let shorts = all.size()[axis + 2];
    if is_long.f_any()?.f_int64_value(&[])? != 0 {
        all = Tensor::f_cat(&[all, maxima(short + 1)?], dim)?;
    }
    let places = start.f_add(&is_long.f_to_kind(Kind::Int64)?.f_mul_scalar(shorts)?)?;
    Ok(all.f_index_select(dim, &places)?)
}

impl Unary for AdaptivePooling {
    fn infer(&self, input: &Spec) -> SpecResult {
        if !self.max {
            input.require_float()?;
        }
        input.require_rank(self.output_size.len() + 2)?;
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        let spatial: Vec<_> = self.output_size.iter().copied().map(Some).collect();
        Ok(input.with_dims(self.layout.join(input.dims[0], &spatial, channels)))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let x = self.layout.channels_second(x)?;
        let kind = x.f_kind()?;
        let y = if !self.max {
            self.average(&x)?
        } else if is_float(kind) {
            self.maximum(&x)?
        } else {
            // libtorch pools no integers; float64 holds all of 32 bits.
            self.maximum(&x.f_to_kind(Kind::Double)?)?.f_to_kind(kind)?
        };
        self.layout.restore(&y)
    }
}
