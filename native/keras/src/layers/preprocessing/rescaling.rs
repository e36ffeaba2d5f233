//! `Rescaling`: `x * scale + offset`, with one scale and one offset for all elements, or one for
//! each element of the last axis.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct Rescaling {
    scale: Factor,
    offset: Factor,
    dtype: DType,
}

#[derive(Debug)]
enum Factor {
    One(f64),
    Each(Vec<f64>),
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let factor = |key: &str, default| match options.value(key) {
        None => Ok(Factor::One(default)),
        Some(Json::Array(items)) => {
            let numbers = items.iter().map(Json::as_f64).collect::<Option<Vec<_>>>();
            let numbers = numbers
                .ok_or_else(|| options.invalid(format!("{key} must be a number or numbers")))?;
            Ok(Factor::Each(numbers))
        }
        Some(_) => options.f64(key, default).map(Factor::One),
    };
    Ok(Built::unary(Rescaling {
        scale: factor("scale", 1.0)?,
        offset: factor("offset", 0.0)?,
        dtype: scope.policy.compute,
    }))
}

impl Unary for Rescaling {
    fn infer(&self, input: &Spec) -> SpecResult {
        Ok(input.with_dtype(self.dtype))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let kind = self.dtype.kind().unwrap_or(Kind::Float);
        let x = x.f_to_kind(kind)?;
        let scaled = match &self.scale {
            Factor::One(scale) => x.f_mul_scalar(*scale)?,
            Factor::Each(scales) => x.f_mul(&each(scales, &x)?)?,
        };
        Ok(match &self.offset {
            Factor::One(0.0) => scaled,
            Factor::One(offset) => scaled.f_add_scalar(*offset)?,
            Factor::Each(offsets) => scaled.f_add(&each(offsets, &x)?)?,
        })
    }

    fn supports_masking(&self) -> bool {
        true
    }
}

/// Factors of the last axis, as `x` is and where it is.
fn each(factors: &[f64], x: &Tensor) -> Result<Tensor> {
    let factors = Tensor::f_from_slice(factors)?.f_to_device(x.device())?;
    Ok(factors.f_to_kind(x.f_kind()?)?)
}
