//! `ActivityRegularization`: the input itself, with `(l1 * sum(|x|) + l2 * sum(x^2)) / rows` added
//! to the loss, in training and when a model is evaluated.

use tch::Tensor;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, first_mask};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct ActivityRegularization {
    l1: f64,
    l2: f64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    Ok(Built::layer(ActivityRegularization {
        l1: options.f64("l1", 0.0)?,
        l2: options.f64("l2", 0.0)?,
    }))
}

impl ActivityRegularization {
    /// The penalty in the tensor's own dtype; `None` if it is 0 whatever the tensor.
    fn penalty(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let kind = x.f_kind()?;
        let mut penalty: Option<Tensor> = None;
        for (factor, l1) in [(self.l1, true), (self.l2, false)] {
            if factor == 0.0 {
                continue;
            }
            let sizes = if l1 { x.f_abs()? } else { x.f_square()? };
            let term = sizes.f_sum(kind)?.f_mul_scalar(factor)?;
            penalty = Some(match penalty {
                Some(penalty) => penalty.f_add(&term)?,
                None => term,
            });
        }
        let rows = x.size().first().copied().unwrap_or(1);
        let rows = rows.max(1);
        penalty
            .map(|penalty| Ok(penalty.f_div_scalar(rows)?))
            .transpose()
    }
}

impl Layer for ActivityRegularization {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(args.only()?.clone()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let x = value.y()?;
        // Keras casts the factors to the input's dtype: of an integer one both are 0.
        if x.is_floating_point()
            && let Some(penalty) = self.penalty(x)?
        {
            context.add_loss(penalty.f_to_kind(tch::Kind::Float)?);
        }
        Ok(Tree::Leaf(value.clone()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}
