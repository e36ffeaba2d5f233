//! `Permute`: the axes after the batch in another order, `dims`, counted from 1.

use serde_json::Value as Json;
use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

/// For each axis of the output, the batch included, the axis of the input that it is.
#[derive(Debug)]
struct Permute(Vec<usize>);

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let dims = options.value("dims").and_then(Json::as_array);
    let axis = |value: &Json| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let dims = dims.and_then(|dims| dims.iter().map(axis).collect::<Option<Vec<_>>>());
    let mut axes = dims.ok_or_else(|| options.invalid("dims must be a list of axes"))?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(1..=axes.len()) {
        return Err(options.invalid(format!(
            "dims = {axes:?} must hold each axis from 1 to {} once",
            axes.len()
        )));
    }
    axes.insert(0, 0);
    Ok(Built::unary(Permute(axes)))
}

impl Unary for Permute {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.0.len())?;
        let dims: Vec<_> = self.0.iter().map(|&axis| input.dims[axis]).collect();
        Ok(input.with_dims(dims))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let axes = self.0.iter().map(|&axis| i64::try_from(axis).unwrap_or(0));
        Ok(x.f_permute(axes.collect::<Vec<_>>())?)
    }
}
