//! `Softmax`: exponentials divided by their sum over one axis or several. What a mask leaves out
//! takes no part and is 0.

use tch::{Kind, Tensor};

use crate::activations::{Activation, softmax_axes};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Softmax {
    /// Counted with the batch.
    axes: Vec<i64>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::layer(Softmax {
        axes: softmax_axes(scope.options)?,
    }))
}

impl Softmax {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self.axes.as_slice() {
            [axis] => Activation::Softmax(*axis).apply(x),
            axes => Ok(x.f_sub(&x.f_logsumexp(axes, true)?)?.f_exp()?),
        }
    }

    /// The mask given, or that of the input.
    fn given_mask(args: &Args<Value>) -> Result<Option<Tensor>> {
        if let Some(mask) = args.value(1, "mask") {
            return Ok(Some(mask.y()?.shallow_clone()));
        }
        let input = args.only().map_err(Error::values)?;
        Ok(input.mask().map(Tensor::shallow_clone))
    }
}

impl Layer for Softmax {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        for &axis in &self.axes {
            input.axis(axis)?;
        }
        Ok(Tree::Leaf(input.clone()))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let x = args.only().map_err(Error::values)?.y()?;
        let Some(mask) = Self::given_mask(args)? else {
            return Ok(Tree::Leaf(match self.axes.as_slice() {
                // Losses find the logits behind it.
                [axis] => Value::from_logits(x.shallow_clone(), Activation::Softmax(*axis)),
                _ => self.apply(x)?.into(),
            }));
        };
        let mask = positions(&mask, x)?;
        // Keras's "large negative number".
        let low = if x.f_kind()? == Kind::Half {
            -3e4
        } else {
            -1e9
        };
        let y = self.apply(&x.f_where_scalarother(&mask, low)?)?;
        Ok(Tree::Leaf(y.f_where_scalarother(&mask, 0)?.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Self::given_mask(args)
    }
}

/// Where the mask is true, or above 0.5; its axes lie along the last ones of `x`.
fn positions(mask: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (masked, size) = (mask.size(), x.size());
    let mut axes = masked.iter().rev().zip(size.iter().rev());
    if masked.len() > size.len() || !axes.all(|(mask, size)| *mask == 1 || mask == size) {
        return Err(Error::values(format!(
            "the mask of shape {masked:?} does not broadcast to the input of shape {size:?}"
        )));
    }
    if mask.f_kind()? == Kind::Bool {
        return Ok(mask.shallow_clone());
    }
    Ok(mask.f_gt(0.5)?)
}
