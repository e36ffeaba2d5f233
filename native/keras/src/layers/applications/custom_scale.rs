//! `CustomScaleLayer` of InceptionResNetV2: `first + second * scale` of two inputs.

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};
use crate::value::Value;

#[derive(Debug)]
struct CustomScale {
    scale: f64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let scale = scope.options.f64("scale", 1.0)?;
    Ok(Built::layer(CustomScale { scale }))
}

impl Layer for CustomScale {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = args.inputs();
        let [first, second] = inputs.as_slice() else {
            return Err(format!("takes two inputs, got {}", inputs.len()));
        };
        first.require_float()?;
        second.require_float()?;
        let dims = broadcast(&first.dims, &second.dims).ok_or_else(|| {
            format!("needs inputs whose shapes broadcast, got {first} and {second}")
        })?;
        Ok(Tree::Leaf(first.with_dims(dims)))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = args.inputs();
        let [first, second] = inputs.as_slice() else {
            return Err(Error::values("two inputs are needed"));
        };
        let scaled = second.y()?.f_mul_scalar(self.scale)?;
        Ok(Tree::Leaf(first.y()?.f_add(&scaled)?.into()))
    }
}
