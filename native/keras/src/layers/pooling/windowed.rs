//! `MaxPooling` and `AveragePooling` in 1 to 3 dimensions: with "same", padding never wins a
//! maximum and is left out of averages.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Scope, Single, Unary};
use crate::layers::layout::{Layout, spatial_rank};
use crate::layers::window::Window;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct Pooling {
    window: Window,
    layout: Layout,
}

#[derive(Debug)]
struct MaxPooling(Pooling);

#[derive(Debug)]
struct AveragePooling(Pooling);

/// Whether the layer is a max-pooling, which commutes with every function that never falls.
pub(crate) fn is_max_pooling(built: &Built) -> bool {
    built.downcast::<Single<MaxPooling>>().is_some()
}

pub(super) fn build_max(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(MaxPooling(Pooling::read(scope)?)))
}

pub(super) fn build_average(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(AveragePooling(Pooling::read(scope)?)))
}

impl Pooling {
    fn read(scope: &Scope<'_>) -> Result<Self> {
        let rank = spatial_rank(scope.class);
        Ok(Self {
            window: Window::read(scope.options, "pool_size", rank, None)?,
            layout: Layout::read(scope.options)?,
        })
    }

    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.window.size.len() + 2)?;
        let spatial = self.window.counts(&self.layout.spatial(input))?;
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        Ok(input.with_dims(self.layout.join(input.dims[0], &spatial, channels)))
    }
}

impl Unary for MaxPooling {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.0.infer(input)
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let Pooling { window, layout } = &self.0;
        let x = layout.channels_second(x)?;
        let (x, padding) = window.pad(&x, f64::NEG_INFINITY)?;
        let (size, strides) = (window.size.as_slice(), window.strides.as_slice());
        let (padding, dilation) = (padding.as_slice(), window.dilation.as_slice());
        let y = match size.len() {
            1 => x.f_max_pool1d(size, strides, padding, dilation, false)?,
            3 => x.f_max_pool3d(size, strides, padding, dilation, false)?,
            _ => x.f_max_pool2d(size, strides, padding, dilation, false)?,
        };
        layout.restore(&y)
    }
}

impl Unary for AveragePooling {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.0.infer(input)
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let Pooling { window, layout } = &self.0;
        let x = layout.channels_second(x)?;
        let (padded, padding) = window.pad(&x, 0.0)?;
        let mean = average(&padded, window, &padding)?;
        if padded.size() == x.size() {
            return layout.restore(&mean);
        }
        // The zeros padded explicitly were counted; this is the share of real elements.
        let size = x.size();
        let shape: Vec<i64> = [1, 1].iter().chain(&size[2..]).copied().collect();
        let ones = Tensor::f_ones(shape, (x.f_kind()?, x.device()))?;
        let share = average(&window.pad(&ones, 0.0)?.0, window, &padding)?;
        layout.restore(&mean.f_div(&share)?)
    }
}

/// The mean of each window, of which libtorch's own padding is no part.
fn average(x: &Tensor, window: &Window, padding: &[i64]) -> Result<Tensor> {
    let (size, strides) = (window.size.as_slice(), window.strides.as_slice());
    Ok(match size.len() {
        1 => x.f_avg_pool1d(size, strides, padding, false, false)?,
        3 => x.f_avg_pool3d(size, strides, padding, false, false, None)?,
        _ => x.f_avg_pool2d(size, strides, padding, false, false, None)?,
    })
}
