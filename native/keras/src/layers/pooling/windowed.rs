//! `MaxPooling` and `AveragePooling` in 1 to 3 dimensions: with "same", padding never wins a
//! maximum and is left out of averages.
//!
//! One dimension runs as two of which one is 1: libtorch keeps channels last only in two and three.

use flambeau_libtorch::max_pool3d;
use tch::{Kind, Tensor};

use crate::context::Context;
use crate::dtype::is_float;
use crate::error::Result;
use crate::layer::{Built, Single, Unary};
use crate::layers::layout::{Layout, spatial_rank};
use crate::layers::window::Window;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
pub(crate) struct Pooling {
    pub(crate) window: Window,
    pub(crate) layout: Layout,
}

#[derive(Debug)]
pub(crate) struct MaxPooling(pub(crate) Pooling);

#[derive(Debug)]
pub(crate) struct AveragePooling(pub(crate) Pooling);

/// Whether the layer is a max-pooling, which commutes with every function that never falls.
pub(crate) fn is_max_pooling(built: &Built) -> bool {
    built.downcast::<Single<MaxPooling>>().is_some()
}

pub(crate) fn build_max(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(MaxPooling(Pooling::read(scope)?)))
}

pub(crate) fn build_average(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(AveragePooling(Pooling::read(scope)?)))
}

impl Pooling {
    fn read(scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            window: Window::of_pool(scope.options, spatial_rank(scope))?,
            layout: Layout::read(scope.options)?,
        })
    }

    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.window.rank() + 2)?;
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
        let layout = self.0.layout;
        let kind = x.f_kind()?;
        if !is_float(kind) {
            // libtorch pools no integers; float64 holds all of 32 bits.
            let pooled = self.call_float(&x.f_to_kind(Kind::Double)?)?;
            return Ok(layout.restore(&pooled)?.f_to_kind(kind)?);
        }
        layout.restore(&self.call_float(x)?)
    }
}

impl MaxPooling {
    /// The maxima with their channels second.
    fn call_float(&self, x: &Tensor) -> Result<Tensor> {
        let Pooling { window, layout } = &self.0;
        let (x, padding) = window.pad(*layout, x, f64::NEG_INFINITY)?;
        let (size, strides) = (window.size.as_slice(), window.strides.as_slice());
        Ok(match (size, strides, padding.as_slice()) {
            (&[size], &[stride], &[padding]) => x
                .f_unsqueeze(2)?
                .f_max_pool2d([1, size], [1, stride], [0, padding], [1, 1], false)?
                .f_squeeze_dim(2)?,
            (size, strides, padding) if size.len() == 2 => {
                x.f_max_pool2d(size, strides, padding, [1, 1], false)?
            }
            (size, strides, padding) => max_pool3d(&x, size, strides, padding)?,
        })
    }
}

impl Unary for AveragePooling {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_float()?;
        self.0.infer(input)
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let Pooling { window, layout } = &self.0;
        let (padded, padding) = window.pad(*layout, x, 0.0)?;
        let mean = average(&padded, window, &padding)?;
        if padded.numel() == x.numel() {
            return layout.restore(&mean);
        }
        // The zeros padded explicitly were counted; this is the share of real elements.
        let size = x.size();
        let spatial = layout.between(&size);
        let shape: Vec<i64> = [1, 1].iter().chain(spatial).copied().collect();
        let ones = Tensor::f_ones(shape, (x.f_kind()?, x.device()))?;
        let (ones, _) = window.pad(Layout::ChannelsFirst, &ones, 0.0)?;
        layout.restore(&mean.f_div(&average(&ones, window, &padding)?)?)
    }
}

/// The mean of each window, of which libtorch's own padding is no part.
fn average(x: &Tensor, window: &Window, padding: &[i64]) -> Result<Tensor> {
    let (size, strides) = (window.size.as_slice(), window.strides.as_slice());
    Ok(match (size, strides, padding) {
        (&[size], &[stride], &[padding]) => x
            .f_unsqueeze(2)?
            .f_avg_pool2d([1, size], [1, stride], [0, padding], false, false, None)?
            .f_squeeze_dim(2)?,
        (size, strides, padding) if size.len() == 2 => {
            x.f_avg_pool2d(size, strides, padding, false, false, None)?
        }
        (size, strides, padding) => x.f_avg_pool3d(size, strides, padding, false, false, None)?,
    })
}
