//! `PReLU`: `x` above 0, else `alpha * x` with an `alpha` for each element of a row; along
//! `shared_axes` there is only one.

use serde_json::Value as Json;
use tch::Tensor;

use crate::config::{Given, Options};
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult, position};
use crate::variables::Handle;

#[derive(Debug)]
struct PReLU {
    alpha: Handle,
    /// Of a row.
    shape: Vec<i64>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let input = scope.input()?;
    let mut row = input.dims.get(1..).unwrap_or_default().to_vec();
    for axis in shared_axes(scope.options)? {
        // As Keras indexes the row: 0 and less count from its end.
        let at = position(axis - 1, row.len());
        let at = at.ok_or_else(|| scope.mismatch(format!("has no axis {axis} in {input}")))?;
        row[at] = Some(1);
    }
    let shape: Option<Vec<i64>> = row.into_iter().collect();
    let shape = shape.ok_or_else(|| {
        scope.mismatch(format!(
            "needs to know the sizes of all axes that are not in shared_axes, got {input}"
        ))
    })?;
    let alpha = scope.weight("alpha", "alpha", &shape, "zeros")?;
    Ok(Built::unary(PReLU { alpha, shape }))
}

/// Reads option `shared_axes`: an axis, a list of them, or null for none.
fn shared_axes(options: &Options<'_>) -> Result<Vec<i64>> {
    let axes = match options.given("shared_axes") {
        Given::Absent | Given::Null => return Ok(Vec::new()),
        Given::Value(Json::Array(axes)) => axes.iter().map(Json::as_i64).collect(),
        Given::Value(axis) => axis.as_i64().map(|axis| vec![axis]),
    };
    axes.ok_or_else(|| options.invalid("shared_axes must be an axis, a list of axes or null"))
}

impl Unary for PReLU {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.shape.len() + 1)?;
        let row = input.dims.iter().skip(1).zip(&self.shape);
        if row
            .clone()
            .any(|(size, &alpha)| alpha != 1 && size.is_some_and(|size| size != alpha))
        {
            let shape = &self.shape;
            return Err(format!(
                "has an alpha for rows of shape {shape:?}, got {input}"
            ));
        }
        Ok(input.clone())
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        // libtorch's own has another gradient at 0.
        let negative = x.f_neg()?.f_relu()?.f_mul(&context.variable(self.alpha)?)?;
        Ok(x.f_relu()?.f_sub(&negative)?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
