//! The layers that are only an activation.

use tch::Tensor;

use super::Family;
use crate::activations::Activation;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Scope, Unary};
use crate::spec::{Spec, SpecResult};

pub(super) const LAYERS: Family = &[
    ("Activation", build_named),
    ("ReLU", build),
    ("LeakyReLU", build),
    ("ELU", build),
    ("Softmax", build),
];

/// What stands before the activation: nothing.
#[derive(Debug)]
struct Pass;

fn build_named(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(Pass).then(Activation::read(scope.options, "activation")?))
}

fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let activation = Activation::from_layer(scope.class, scope.options)?;
    Ok(Built::unary(Pass).then(activation.unwrap_or(Activation::Linear)))
}

impl Unary for Pass {
    fn infer(&self, input: &Spec) -> SpecResult {
        Ok(input.clone())
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        Ok(x.shallow_clone())
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
