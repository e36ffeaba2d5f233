//! `AdaptiveAveragePooling` and `AdaptiveMaxPooling` in 1 to 3 dimensions: `output_size` windows
//! along each spatial axis, the i-th of n from `floor(i * length / n)` to
//! `ceil((i + 1) * length / n)`.

use tch::{Kind, Tensor};

use crate::context::Context;
use crate::dtype::is_float;
use crate::error::Result;
use crate::layer::{Built, Scope, Unary};
use crate::layers::layout::{Layout, sizes, spatial_rank};
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct AdaptivePooling {
    max: bool,
    output_size: Vec<i64>,
    layout: Layout,
}

pub(super) fn build_average(scope: &mut Scope<'_>) -> Result<Built> {
    build(scope, false)
}

pub(super) fn build_max(scope: &mut Scope<'_>) -> Result<Built> {
    build(scope, true)
}

fn build(scope: &Scope<'_>, max: bool) -> Result<Built> {
    let options = scope.options;
    let output_size = sizes(options, "output_size", spatial_rank(scope.class))?;
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

    fn maximum(&self, x: &Tensor) -> Result<Tensor> {
        let size = self.output_size.as_slice();
        let (maxima, _) = match size.len() {
            1 => x.f_adaptive_max_pool1d(size)?,
            2 => x.f_adaptive_max_pool2d(size)?,
            _ => x.f_adaptive_max_pool3d(size)?,
        };
        Ok(maxima)
    }
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
