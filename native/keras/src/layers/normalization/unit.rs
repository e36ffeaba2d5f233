//! `UnitNormalization`: divided by the Euclidean norm over `axis`.

use tch::{Kind, Tensor};

use super::axes::Axes;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct UnitNormalization {
    axes: Axes,
    dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let axes = Axes::read(scope.options)?;
    let dtype = scope.policy.compute;
    Ok(Built::unary(UnitNormalization { axes, dtype }))
}

impl Unary for UnitNormalization {
    fn infer(&self, input: &Spec) -> SpecResult {
        let places = self.axes.places(input.rank());
        if places.len() != self.axes.len() {
            let axes = &self.axes;
            return Err(format!("normalizes {axes:?}, which {input} does not have"));
        }
        Ok(input.with_dtype(self.dtype))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let x = x.f_to_kind(context.compute())?;
        let places = self.axes.places(x.dim());
        let squares = x.f_square()?;
        let sum = squares.f_sum_dim_intlist(places.as_slice(), true, None::<Kind>)?;
        // Keras's bound: a norm below 1e-12 counts as that; the largest float16 is lower.
        let inverse = sum.f_rsqrt()?;
        if x.f_kind()? == Kind::Half {
            return Ok(x.f_mul(&inverse)?);
        }
        Ok(x.f_mul(&inverse.f_clamp_max(1e12)?)?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
