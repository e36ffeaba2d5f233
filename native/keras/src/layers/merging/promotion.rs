//! What merging layers demand of their inputs, and the dtype of inputs of several.

use tch::Kind;

use crate::arguments::{Args, Tree};
use crate::dtype::DType;
use crate::spec::Spec;

/// The inputs of a merging layer, which must come in a list.
pub(super) fn listed<T>(args: &Args<T>) -> std::result::Result<Vec<&T>, String> {
    let inputs = args.inputs();
    match args.list.first() {
        Some(Tree::List(_)) if !inputs.is_empty() => Ok(inputs),
        _ => Err("must be called on a list of at least one input".to_owned()),
    }
}

/// The dtype of a result that all inputs go into: one of theirs, or int16 for both kinds of 8 bits.
pub(super) fn promoted(inputs: &[&Spec]) -> DType {
    let wider = |a: DType, b: DType| match (a.kind(), b.kind()) {
        (Some(Kind::Int8), Some(Kind::Uint8)) | (Some(Kind::Uint8), Some(Kind::Int8)) => {
            DType::Tensor(Kind::Int16)
        }
        _ if height(b) > height(a) => b,
        _ => a,
    };
    let dtypes = inputs.iter().map(|input| input.dtype);
    dtypes.reduce(wider).unwrap_or(DType::FLOAT32)
}

fn height(dtype: DType) -> u8 {
    match dtype.kind() {
        Some(Kind::Bool) => 0,
        Some(Kind::Uint8 | Kind::Int8) => 1,
        Some(Kind::Int16) => 2,
        Some(Kind::Int) => 3,
        Some(Kind::Int64) => 4,
        // Floating-point inputs have all been cast to what the layer computes in.
        _ => 5,
    }
}
