//! `keras.ops.nn`, crossentropies of one position each. As in the losses, logits that a final
//! softmax or sigmoid kept count whatever `from_logits` says.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::operand::{Checked, Operand, checked, device, operands};
use super::{Family, single};
use crate::arguments::Args;
use crate::error::Result;
use crate::layer::Built;
use crate::losses::crossentropy::{Scores, binary, categorical, sparse};
use crate::scope::Scope;
use crate::spec::{Spec, alike};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("BinaryCrossentropy", binary_crossentropy),
    ("CategoricalCrossentropy", categorical_crossentropy),
    ("SparseCategoricalCrossentropy", sparse_crossentropy),
];

fn binary_crossentropy(scope: &mut Scope<'_>) -> Result<Built> {
    let from_logits = scope.options.bool("from_logits", false)?;
    Ok(single(
        |args| {
            let (target, output) = specs(args)?;
            require_alike(&target, &output)?;
            Ok(output)
        },
        move |args| {
            let (target, scores) = given(args, from_logits)?;
            binary(&target, &scores)
        },
    ))
}

fn categorical_crossentropy(scope: &mut Scope<'_>) -> Result<Built> {
    let from_logits = scope.options.bool("from_logits", false)?;
    let axis = scope.options.i64("axis", -1)?;
    Ok(single(
        move |args| {
            let (target, output) = specs(args)?;
            require_alike(&target, &output)?;
            let mut dims = output.dims.clone();
            dims.remove(output.axis(axis)?);
            Ok(output.with_dims(dims))
        },
        move |args| {
            let (target, scores) = given(args, from_logits)?;
            categorical(&target, scores, axis)
        },
    ))
}

/// Class ids against scores on the last axis; ids may have an axis of size 1 more.
fn sparse_crossentropy(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let from_logits = options.bool("from_logits", false)?;
    let axis = options.i64("axis", -1)?;
    let last = |rank: usize| i64::try_from(rank).is_ok_and(|rank| axis == rank - 1);
    if axis != -1
        && !scope
            .args
            .value(1, "output")
            .is_some_and(|output| last(output.rank()))
    {
        let supported = "-1, the last axis, as in Keras on TensorFlow";
        return Err(options.unsupported("axis", &Json::from(axis), supported));
    }
    Ok(single(
        |args| {
            let (target, output) = specs(args)?;
            let [leading @ .., _] = output.dims.as_slice() else {
                return Err(format!("takes scores on a last axis, got shape {output}"));
            };
            let output = output.with_dims(leading);
            require_alike(&squeezed(&target, output.rank()), &output)?;
            Ok(output)
        },
        move |args| {
            let [target, output] = checked(operands(args, ["target", "output"]))?;
            let mut ids = target.tensor(Kind::Int64, device(args))?;
            if ids.dim() == output.dims().len() {
                ids = ids.f_squeeze_dim(-1)?;
            }
            sparse(&ids, scores(&output, from_logits, args)?)
        },
    ))
}

/// The spec without its last axis of size 1, if it has one axis more than `rank`.
fn squeezed(spec: &Spec, rank: usize) -> Spec {
    match spec.dims.as_slice() {
        [leading @ .., Some(1)] if leading.len() == rank => spec.with_dims(leading),
        _ => spec.clone(),
    }
}

fn specs(args: &Args<Spec>) -> Checked<(Spec, Spec)> {
    let [target, output] = operands(args, ["target", "output"])?;
    let output = output.spec()?;
    output.require_float()?;
    Ok((target.spec()?, output))
}

fn require_alike(target: &Spec, output: &Spec) -> Checked<()> {
    if alike(&target.dims, &output.dims) {
        return Ok(());
    }
    Err(format!(
        "takes a target for outputs of shape {output}, got shape {target}"
    ))
}

/// Target and scores in the output's dtype.
fn given(args: &Args<Value>, from_logits: bool) -> Result<(Tensor, Scores)> {
    let [target, output] = checked(operands(args, ["target", "output"]))?;
    let target = target.tensor(checked(output.kind())?, device(args))?;
    Ok((target, scores(&output, from_logits, args)?))
}

fn scores(output: &Operand<'_, Value>, from_logits: bool, args: &Args<Value>) -> Result<Scores> {
    let kept = match output {
        Operand::Value(value) => value.logits().map(Tensor::shallow_clone),
        Operand::Constant(_) => None,
    };
    let kind = checked(output.kind())?;
    Scores::new(kept, from_logits, || output.tensor(kind, device(args)))
}
