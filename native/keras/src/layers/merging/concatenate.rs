//! `Concatenate`: inputs side by side along one axis.

use tch::Tensor;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Inferred, Layer, Scope};
use crate::spec::{Spec, position};
use crate::value::Value;

#[derive(Debug)]
struct Concatenate {
    /// As in Keras, counted with the batch.
    axis: i64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.i64("axis", -1)?;
    Ok(Built::layer(Concatenate { axis }))
}

impl Layer for Concatenate {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = args.inputs();
        let [first, ..] = inputs.as_slice() else {
            return Err("takes at least one input, got none".to_owned());
        };
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
            for i in 1..dims.len() {
                dims[i] = match (dims[i], other.dims[i]) {
                    (Some(a), Some(b)) if i == axis => Some(a + b),
                    _ if i == axis => None,
                    (known, None) | (None, known) => known,
                    (known, _) => known,
                };
            }
        }
        Ok(Tree::Leaf(first.with_dims(dims)))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = args.inputs();
        let inputs = inputs.iter().map(|value| value.y());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        Ok(Tree::Leaf(Tensor::f_cat(&inputs, self.axis)?.into()))
    }

    /// Inputs without a mask count as all valid; a mask without the joined axis holds for each of
    /// its elements (`Concatenate.compute_mask`).
    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        let inputs = args.inputs();
        if inputs.iter().all(|value| value.mask().is_none()) {
            return Ok(None);
        }
        let rank = inputs.first().map_or(0, |value| value.size().len());
        let axis = position(self.axis, rank).unwrap_or(0);
        let mut masks = Vec::new();
        for value in inputs {
            let size = value.size();
            let mask = match value.mask() {
                None => value.y()?.f_ones_like()?.f_to_kind(tch::Kind::Bool)?,
                Some(mask) => {
                    let mut mask = mask.shallow_clone();
                    while mask.dim() < rank {
                        mask = mask.f_unsqueeze(-1)?;
                    }
                    mask.f_expand(size.as_slice(), false)?
                }
            };
            masks.push(mask);
        }
        let joined = Tensor::f_cat(&masks, i64::try_from(axis).unwrap_or(0))?;
        Ok(Some(joined.f_all_dim(-1, false)?))
    }
}
