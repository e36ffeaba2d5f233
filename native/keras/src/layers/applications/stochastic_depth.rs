//! `StochasticDepth` of ConvNeXt: in training, a share `drop_path_rate` of the rows becomes 0 and
//! the others are divided by what remains.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::regularization::dropout_mask;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct StochasticDepth {
    rate: f64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let rate = options.f64("drop_path_rate", 0.0)?;
    if !(0.0..1.0).contains(&rate) {
        return Err(options.invalid(format!(
            "drop_path_rate = {rate} must be in 0..1: Keras divides by what remains"
        )));
    }
    Ok(Built::unary(StochasticDepth { rate }))
}

impl Unary for StochasticDepth {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_float()?;
        Ok(input.clone())
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        if !context.training || self.rate == 0.0 {
            return Ok(x.shallow_clone());
        }
        let mut shape = vec![1; x.dim()];
        if let (Some(rows), Some(size)) = (shape.first_mut(), x.size().first()) {
            *rows = *size;
        }
        let mask = dropout_mask(context.rng(), self.rate, &shape)?;
        Ok(x.f_mul(&mask.f_to_device(x.device())?.f_to_kind(x.f_kind()?)?)?)
    }
}
