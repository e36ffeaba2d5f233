//! The operations of `keras.ops` that functional models record, on equal terms with layers. A new
//! operation is one line beside its like, or a file and a line in the list of families.
//!
//! An operation is two functions of its arguments: one gives the specs of its outputs, the other
//! the outputs. A file holds the operations that share a rule for shapes.

mod activation;
mod arranging;
mod attention;
mod axes;
mod beam_search;
mod binary;
mod casting;
mod convolution;
mod correlation;
mod crossentropy;
mod ctc;
mod cumulative;
mod decomposition;
mod einsum;
mod elementwise;
mod fourier;
mod gathering;
mod images;
mod indexing;
mod joining;
mod linalg;
mod matmul;
mod moments;
mod normalization;
mod operand;
mod ordering;
mod patches;
mod pooling;
mod promotion;
mod quantiles;
mod reduction;
mod reshaping;
mod segments;
mod selection;
mod sequences;
mod splitting;
mod unique;

use std::fmt;

use tch::{Kind, TchError, Tensor};

pub(crate) use self::reduction::argmax;

use self::operand::{Checked, checked};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::registry::Builder;
use crate::spec::{Spec, SpecResult};
use crate::value::Value;

/// The classes of one family of operations.
type Family = &'static [(&'static str, Builder)];

/// Every operation that there is.
pub(crate) const FAMILIES: &[Family] = &[
    elementwise::OPS,
    activation::OPS,
    binary::OPS,
    reduction::OPS,
    moments::OPS,
    reshaping::OPS,
    arranging::OPS,
    indexing::OPS,
    gathering::OPS,
    joining::OPS,
    splitting::OPS,
    matmul::OPS,
    einsum::OPS,
    ordering::OPS,
    quantiles::OPS,
    unique::OPS,
    selection::OPS,
    sequences::OPS,
    correlation::OPS,
    cumulative::OPS,
    casting::OPS,
    segments::OPS,
    normalization::OPS,
    attention::OPS,
    convolution::OPS,
    pooling::OPS,
    crossentropy::OPS,
    ctc::OPS,
    patches::OPS,
    linalg::OPS,
    decomposition::OPS,
    fourier::OPS,
    images::OPS,
];

/// An operation as two functions.
struct Operation<I, C> {
    infer: I,
    call: C,
}

impl<I, C> fmt::Debug for Operation<I, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operation")
    }
}

impl<I, C> Layer for Operation<I, C>
where
    I: Fn(&Args<Spec>) -> Inferred + Send + 'static,
    C: Fn(&Args<Value>) -> Result<Tree<Value>> + Send + 'static,
{
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        (self.infer)(args)
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        (self.call)(args)
    }
}

/// An operation with any arguments and outputs. Masks end at every operation.
fn operation(
    infer: impl Fn(&Args<Spec>) -> Inferred + Send + 'static,
    call: impl Fn(&Args<Value>) -> Result<Tree<Value>> + Send + 'static,
) -> Built {
    Built::layer(Operation { infer, call })
}

/// An operation with one output.
fn single(
    infer: impl Fn(&Args<Spec>) -> SpecResult + Send + 'static,
    call: impl Fn(&Args<Value>) -> Result<Tensor> + Send + 'static,
) -> Built {
    operation(
        move |args| infer(args).map(Tree::Leaf),
        move |args| Ok(Tree::Leaf(call(args)?.into())),
    )
}

/// An operation on one tensor with one output.
fn unary(
    infer: impl Fn(&Spec) -> SpecResult + Send + 'static,
    call: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
) -> Built {
    single(
        move |args| infer(numeric(args)?),
        move |args| call(checked(args.only())?.y()?),
    )
}

/// An operation on one tensor with several outputs.
fn several(
    infer: impl Fn(&Spec) -> Checked<Vec<Spec>> + Send + 'static,
    call: impl Fn(&Tensor) -> Result<Vec<Tensor>> + Send + 'static,
) -> Built {
    operation(
        move |args| Ok(listed(infer(numeric(args)?)?)),
        move |args| {
            let outputs = call(checked(args.only())?.y()?)?;
            Ok(listed(outputs.into_iter().map(Value::new).collect()))
        },
    )
}

/// An operation on each element of one tensor, cast by `rule` first, which is the output's dtype.
fn elementwise(
    rule: fn(Kind) -> Kind,
    call: impl Fn(&Tensor) -> Result<Tensor, TchError> + Send + 'static,
) -> Built {
    unary(
        move |x| Ok(x.with_dtype(DType::Tensor(rule(kind_of(x)?)))),
        move |x| Ok(call(&x.f_to_kind(rule(x.kind()))?)?),
    )
}

/// As [`unary`] for a change of shape that keeps the dtype.
fn shaped(
    infer: impl Fn(&Spec) -> Checked<Vec<Option<i64>>> + Send + 'static,
    call: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
) -> Built {
    unary(move |x| Ok(x.with_dims(infer(x)?)), call)
}

/// Outputs side by side.
fn listed<T>(items: Vec<T>) -> Tree<T> {
    Tree::List(items.into_iter().map(Tree::Leaf).collect())
}

/// The spec of the only tensor, which must hold numbers.
fn numeric(args: &Args<Spec>) -> Checked<&Spec> {
    let spec = args.only()?;
    kind_of(spec)?;
    Ok(spec)
}

/// The kind of the elements of a tensor of this spec.
fn kind_of(spec: &Spec) -> Checked<Kind> {
    let kind = spec.dtype.kind();
    kind.ok_or_else(|| "takes numbers, got strings".to_owned())
}

/// The rule of operations that keep their dtype.
fn same(kind: Kind) -> Kind {
    kind
}

/// The rule of operations that TensorFlow does not have for booleans.
fn bool_as_int32(kind: Kind) -> Kind {
    if kind == Kind::Bool { Kind::Int } else { kind }
}

/// The rule of operations that keep precision: int64 becomes float64, other integers float32.
fn precise(kind: Kind) -> Kind {
    match kind {
        Kind::Int64 => Kind::Double,
        other => promotion::floating(other),
    }
}

/// An error about arguments while a model runs.
fn failed(reason: impl Into<String>) -> Error {
    Error::values(reason)
}
