//! `Add` and its like: several inputs of shapes that broadcast, combined element by element.

use tch::Tensor;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, Scope};
use crate::spec::{Spec, broadcast};
use crate::value::Value;

/// How two inputs are combined.
#[derive(Debug, Clone, Copy)]
enum Merge {
    Add,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let merge = match scope.class {
        "Add" => Merge::Add,
        other => return Err(scope.options.invalid(format!("{other} merges nothing"))),
    };
    Ok(Built::layer(merge))
}

impl Layer for Merge {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = args.inputs();
        let [first, _, ..] = inputs.as_slice() else {
            return Err(format!("takes at least two inputs, got {}", inputs.len()));
        };
        let mut dims = first.dims.clone();
        for other in &inputs[1..] {
            let (batch, row) = (dims.split_first(), other.dims.split_first());
            let merged = batch.zip(row).and_then(|((batch, a), (_, b))| {
                // Keras lines the axes up from the end, the batch apart.
                broadcast(a, b).map(|row| [&[*batch], row.as_slice()].concat())
            });
            dims = merged.ok_or_else(|| {
                format!("needs inputs whose shapes broadcast, got {first} and {other}")
            })?;
        }
        Ok(Tree::Leaf(first.with_dims(dims)))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = args.inputs();
        let inputs = inputs.iter().map(|value| value.y());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let rank = inputs.iter().map(|x| x.dim()).max().unwrap_or(0);
        let mut merged: Option<Tensor> = None;
        for x in inputs {
            let x = expanded(x, rank)?;
            merged = Some(match merged {
                None => x,
                Some(merged) => self.combine(&merged, &x)?,
            });
        }
        let merged = merged.ok_or_else(|| Error::values("there are no inputs to merge"))?;
        Ok(Tree::Leaf(merged.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        merged_mask(args)
    }
}

impl Merge {
    fn combine(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Add => a.f_add(b)?,
        })
    }
}

/// Axes of 1 after the batch, until there are `rank`.
fn expanded(x: &Tensor, rank: usize) -> Result<Tensor> {
    let mut x = x.shallow_clone();
    while x.dim() < rank {
        x = x.f_unsqueeze(1)?;
    }
    Ok(x)
}

/// Keras's rule: no mask if an input has none, else true where all are.
fn merged_mask(args: &Args<Value>) -> Result<Option<Tensor>> {
    let mut merged: Option<Tensor> = None;
    for value in args.inputs() {
        let Some(mask) = value.mask() else {
            return Ok(None);
        };
        merged = Some(match merged {
            None => mask.shallow_clone(),
            Some(merged) => merged.f_logical_and(mask)?,
        });
    }
    Ok(merged)
}
