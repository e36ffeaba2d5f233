//! `Concatenate`: inputs side by side along one axis.

use tch::{Kind, Tensor};

use super::promotion::{listed, promoted};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Concatenate {
    /// As in Keras, counted with the batch.
    axis: i64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.integer("axis", -1)?;
    Ok(Built::layer(Concatenate { axis }))
}

impl Layer for Concatenate {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = listed(args)?;
        let first = inputs[0];
        let axis = first.axis(self.axis)?;
        if axis == 0 {
            return Err("cannot concatenate along the batch, axis 0".to_owned());
        }
        let mut dims = first.dims.clone();
        for other in &inputs[1..] {
            let fits = other.rank() == dims.len()
                && (1..dims.len()).all(|i| {
                    let (a, b) = (dims[i], other.dims[i]);
                    i == axis || a.is_none() || b.is_none() || a == b
                });
            if !fits {
                let axis = self.axis;
                return Err(format!(
                    "inputs differ outside axis {axis}: {first} and {other}"
                ));
            }
            for (i, dim) in dims.iter_mut().enumerate().skip(1) {
                *dim = match (*dim, other.dims[i]) {
                    (Some(a), Some(b)) if i == axis => Some(a + b),
                    _ if i == axis => None,
                    (known, None) | (None, known) => known,
                    (known, _) => known,
                };
            }
        }
        Ok(Tree::Leaf(Spec::new(dims, promoted(&inputs))))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = args.inputs();
        let inputs = inputs.iter().map(|value| value.y());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        Ok(Tree::Leaf(Tensor::f_cat(&inputs, self.axis)?.into()))
    }

    /// Inputs without a mask count as all valid; a mask without the features holds for each of them.
    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        let inputs = args.inputs();
        if inputs.iter().all(|value| value.mask().is_none()) {
            return Ok(None);
        }
        let mut masks = Vec::new();
        for value in inputs {
            let size = value.size();
            masks.push(match value.mask() {
                None => value.y()?.f_ones_like()?.f_to_kind(Kind::Bool)?,
                Some(mask) if mask.dim() < size.len() => {
                    mask.f_unsqueeze(-1)?.f_expand(size.as_slice(), false)?
                }
                Some(mask) => mask.shallow_clone(),
            });
        }
        Ok(Some(
            Tensor::f_cat(&masks, self.axis)?.f_any_dim(-1, false)?,
        ))
    }
}
