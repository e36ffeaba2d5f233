//! `HashedCrossing`: the combination of two categories in one of `num_bins` buckets
//! (`tensorflow/core/kernels/sparse_cross_op.cc`).

use tch::Tensor;

use super::encoding::{Encoding, Mode};
use super::fingerprint::{fingerprint, joined};
use super::tokens::integers;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// The fingerprint that crossing begins with.
const HASH_KEY: u64 = 0x00DE_CAFC_AFFE;

#[derive(Debug)]
struct HashedCrossing {
    buckets: u64,
    encoding: Encoding,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let depth = options.count("num_bins")?;
    let mode = Mode::read(options, "int", &["int", "one_hot"])?;
    let dtype = match (mode, options.value("dtype")) {
        (Mode::Int, None) => DType::INT64,
        _ => scope.policy.compute,
    };
    Ok(Built::layer(HashedCrossing {
        buckets: depth.unsigned_abs(),
        encoding: Encoding { mode, depth, dtype },
    })
    .without_autocast())
}

impl Layer for HashedCrossing {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = args.inputs();
        let [first, second] = inputs.as_slice() else {
            return Err(format!("takes two inputs, got {}", inputs.len()));
        };
        if !matches!(first.dims.as_slice(), [_] | [_, Some(1)]) || first.rank() != second.rank() {
            return Err(format!(
                "takes inputs of one shape, (None,) or (None, 1), got {first} and {second}"
            ));
        }
        if let Some(input) = inputs.iter().find(|input| input.dtype.is_float()) {
            let dtype = input.dtype;
            return Err(format!("takes strings and integers, got {dtype}"));
        }
        Ok(Tree::Leaf(self.encoding.infer(first)?))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = args.inputs();
        let [first, second] = inputs.as_slice() else {
            return Err(Error::values("takes two inputs"));
        };
        let pairs = fingerprints(first)?.into_iter().zip(fingerprints(second)?);
        let crossed = pairs.map(|(first, second)| joined(joined(HASH_KEY, first), second));
        let buckets = crossed.map(|hash| (hash % self.buckets).cast_signed());
        let indices = Tensor::f_from_slice(&buckets.collect::<Vec<i64>>())?;
        let indices = indices.f_view(first.size().as_slice())?;
        Ok(Tree::Leaf(self.encoding.encode(&indices, None)?.into()))
    }
}

/// Of each element: the hash of a string, an integer as it is.
fn fingerprints(value: &Value) -> Result<Vec<u64>> {
    if value.dtype() == DType::String {
        let items = value.strings()?.items().iter();
        return Ok(items.map(|item| fingerprint(item)).collect());
    }
    let numbers = integers(value.y()?)?.into_iter();
    Ok(numbers.map(i64::cast_unsigned).collect())
}
