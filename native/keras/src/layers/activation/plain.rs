//! `Activation`, `ReLU`, `LeakyReLU` and `ELU`: a function of the input, which the graph runs as a
//! step of its own.

use tch::Tensor;

use crate::activations::Activation;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, first_mask};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// What stands before the activation: nothing.
#[derive(Debug)]
struct Pass;

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let activation = Activation::from_layer(scope.class, scope.options)?;
    Ok(Built::layer(Pass).then(activation.unwrap_or(Activation::Linear)))
}

/// Whether a layer is nothing but its activation.
pub(crate) fn is_plain(built: &Built) -> bool {
    built.downcast::<Pass>().is_some()
}

impl Layer for Pass {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(args.only()?.clone()))
    }

    /// The input itself, with the logits behind it, as in Keras.
    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        Ok(Tree::Leaf(args.only().map_err(Error::values)?.clone()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}
