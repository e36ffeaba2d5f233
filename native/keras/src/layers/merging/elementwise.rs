//! `Add`, `Subtract`, `Multiply`, `Average`, `Maximum` and `Minimum`: several inputs of shapes that
//! broadcast, combined element by element.
//!
//! `Multiply`, `Maximum` and `Minimum` leave out what a mask marks as padding; the
//! others combine it like everything else.

use tch::{Kind, Tensor};

use super::promotion::{listed, promoted};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::{DType, is_float};
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};
use crate::value::Value;

/// How inputs are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    Add,
    Subtract,
    Multiply,
    Average,
    Maximum,
    Minimum,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let merge = match scope.class {
        "Add" => Merge::Add,
        "Subtract" => Merge::Subtract,
        "Multiply" => Merge::Multiply,
        "Average" => Merge::Average,
        "Maximum" => Merge::Maximum,
        "Minimum" => Merge::Minimum,
        other => return Err(scope.options.invalid(format!("{other} merges nothing"))),
    };
    Ok(Built::layer(merge))
}

/// Whether a layer adds its inputs up.
pub(crate) fn is_sum(built: &Built) -> bool {
    built.downcast::<Merge>() == Some(&Merge::Add)
}

/// An input, and its mask with an axis of 1 for the features.
struct Masked {
    x: Tensor,
    mask: Option<Tensor>,
}

impl Layer for Merge {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = listed(args)?;
        if *self == Self::Subtract && inputs.len() != 2 {
            return Err(format!("takes two inputs, got {}", inputs.len()));
        }
        let first = inputs[0];
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
        let dtype = promoted(&inputs);
        let dtype = match dtype.kind() {
            Some(kind) if *self == Self::Average => DType::Tensor(quotient(kind)),
            _ => dtype,
        };
        Ok(Tree::Leaf(Spec::new(dims, dtype)))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = args.inputs();
        let ranks = inputs.iter().map(|value| value.size().len());
        let rank = ranks.max().unwrap_or(0);
        let inputs = inputs.into_iter().map(|value| input(value, rank));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let merged = match self {
            Self::Add => plain(inputs, Tensor::f_add),
            Self::Subtract => plain(inputs, Tensor::f_sub),
            Self::Average => average(inputs),
            Self::Multiply => product(inputs),
            Self::Maximum => extreme(inputs, maximum),
            Self::Minimum => extreme(inputs, minimum),
        };
        Ok(Tree::Leaf(merged?.into()))
    }

    /// Keras's rule: no mask if an input has none, else true where one is.
    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        let mut merged: Option<Tensor> = None;
        for value in args.inputs() {
            let Some(mask) = value.mask() else {
                return Ok(None);
            };
            merged = Some(match merged {
                None => mask.shallow_clone(),
                Some(merged) => merged.f_logical_or(mask)?,
            });
        }
        Ok(merged)
    }
}

/// An input with axes of 1 after the batch, until there are `rank`; where Keras adds some, it
/// forgets the mask.
fn input(value: &Value, rank: usize) -> Result<Masked> {
    let mut x = value.y()?.shallow_clone();
    let mask = match value.mask() {
        Some(mask) if x.dim() == rank => Some(mask.f_unsqueeze(-1)?),
        _ => None,
    };
    while x.dim() < rank {
        x = x.f_unsqueeze(1)?;
    }
    Ok(Masked { x, mask })
}

type Combine = fn(&Tensor, &Tensor) -> std::result::Result<Tensor, tch::TchError>;

fn none() -> Error {
    Error::values("there are no inputs to merge")
}

fn plain(inputs: Vec<Masked>, combine: Combine) -> Result<Tensor> {
    let mut inputs = inputs.into_iter();
    let first = inputs.next().ok_or_else(none)?.x;
    inputs.try_fold(first, |merged, input| Ok(combine(&merged, &input.x)?))
}

fn average(inputs: Vec<Masked>) -> Result<Tensor> {
    let count = i64::try_from(inputs.len()).unwrap_or(1);
    let sum = plain(inputs, Tensor::f_add)?;
    let kind = quotient(sum.f_kind()?);
    Ok(sum.f_to_kind(kind)?.f_div_scalar(count)?)
}

/// What TensorFlow divides such numbers in.
fn quotient(kind: Kind) -> Kind {
    match kind {
        kind if is_float(kind) => kind,
        Kind::Int | Kind::Int64 => Kind::Double,
        _ => Kind::Float,
    }
}

/// Padding counts as 1, and is 0 where it is padding in all inputs.
fn product(inputs: Vec<Masked>) -> Result<Tensor> {
    let all_masked = inputs.iter().all(|input| input.mask.is_some());
    let mut valid: Option<Tensor> = None;
    let mut merged: Option<Tensor> = None;
    for Masked { x, mask } in inputs {
        let x = match &mask {
            Some(mask) => x.f_where_scalarother(mask, 1)?,
            None => x,
        };
        valid = match (valid, mask) {
            (Some(valid), Some(mask)) => Some(valid.f_logical_or(&mask)?),
            (valid, mask) => mask.or(valid),
        };
        merged = Some(match merged {
            Some(merged) => merged.f_mul(&x)?,
            None => x,
        });
    }
    let merged = merged.ok_or_else(none)?;
    match valid.filter(|_| all_masked) {
        Some(valid) => Ok(merged.f_where_scalarother(&valid, 0)?),
        None => Ok(merged),
    }
}

/// Where one side is padding, the other counts alone.
fn extreme(inputs: Vec<Masked>, combine: Combine) -> Result<Tensor> {
    let mut inputs = inputs.into_iter();
    let Masked {
        x: mut merged,
        mask: mut valid,
    } = inputs.next().ok_or_else(none)?;
    for Masked { x, mask } in inputs {
        let x = match &mask {
            Some(mask) => x.f_where_self(mask, &merged)?,
            None => x,
        };
        if let Some(valid) = &valid {
            merged = merged.f_where_self(valid, &x)?;
        }
        valid = match (valid, mask) {
            (Some(valid), Some(mask)) => Some(valid.f_logical_or(&mask)?),
            _ => None,
        };
        merged = combine(&merged, &x)?;
    }
    Ok(merged)
}

/// The larger of two; as in TensorFlow, the first takes the gradient of a tie.
fn maximum(a: &Tensor, b: &Tensor) -> std::result::Result<Tensor, tch::TchError> {
    if !a.requires_grad() && !b.requires_grad() {
        return a.f_maximum(b);
    }
    let first = a.f_ge_tensor(b)?.f_logical_or(&a.f_isnan()?)?;
    a.f_where_self(&first, b)
}

/// As [`maximum`], the smaller.
fn minimum(a: &Tensor, b: &Tensor) -> std::result::Result<Tensor, tch::TchError> {
    if !a.requires_grad() && !b.requires_grad() {
        return a.f_minimum(b);
    }
    let first = a.f_le_tensor(b)?.f_logical_or(&a.f_isnan()?)?;
    a.f_where_self(&first, b)
}
