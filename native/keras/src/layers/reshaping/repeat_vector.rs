//! `RepeatVector`: each row `n` times, as the steps of a sequence.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct RepeatVector(i64);

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(RepeatVector(scope.options.count("n")?)))
}

impl Unary for RepeatVector {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(2)?;
        Ok(input.with_dims([input.dims[0], Some(self.0), input.dims[1]]))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        // A view: the steps share their memory.
        Ok(x.f_unsqueeze(1)?.f_expand([-1, self.0, -1], false)?)
    }
}
