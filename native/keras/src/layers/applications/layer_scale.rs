//! `LayerScale` of ConvNeXt: a trained factor for each channel, the last axis.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult, broadcast};
use crate::variables::Handle;

#[derive(Debug)]
struct LayerScale {
    channels: i64,
    gamma: Handle,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let channels = scope.options.count("projection_dim")?;
    let initial = scope.options.f64("init_values", 1e-6)?;
    // Keras gives it no name; its own then is the class's, with a number.
    let initializer = Initializer::constant(initial);
    let gamma = scope.initialized_weight("variable", &[channels], initializer)?;
    Ok(Built::unary(LayerScale { channels, gamma }))
}

impl Unary for LayerScale {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_float()?;
        let factors = [Some(self.channels)];
        let dims = broadcast(&input.dims, &factors).ok_or_else(|| {
            let channels = self.channels;
            format!("has factors for {channels} channels, got {input}")
        })?;
        Ok(input.with_dims(dims))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        Ok(x.f_mul(&context.variable(self.gamma)?)?)
    }
}
