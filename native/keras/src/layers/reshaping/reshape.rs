//! `Reshape`: the same elements in row-major order under `target_shape`, one of whose axes may be
//! -1.

use serde_json::Value as Json;
use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Scope, Unary};
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct Reshape {
    target: Vec<i64>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = options.value("target_shape").and_then(Json::as_array);
    let target = axes.and_then(|axes| axes.iter().map(Json::as_i64).collect::<Option<Vec<_>>>());
    let target =
        target.ok_or_else(|| options.invalid("target_shape must be a list of integers"))?;
    if target.iter().any(|&axis| axis < -1) || target.iter().filter(|&&axis| axis == -1).count() > 1
    {
        return Err(options.invalid(format!("target_shape {target:?} may hold one -1 at most")));
    }
    Ok(Built::unary(Reshape { target }))
}

impl Unary for Reshape {
    fn infer(&self, input: &Spec) -> SpecResult {
        let batch = *input.dims.first().ok_or("needs a batch axis")?;
        let known: i64 = self.target.iter().filter(|&&axis| axis != -1).product();
        let open = self.target.contains(&-1);
        let rest = match input.row_elements() {
            None => None,
            Some(count) => {
                let fits = if open {
                    known > 0 && count % known == 0
                } else {
                    known == count
                };
                if !fits {
                    let target = &self.target;
                    return Err(format!(
                        "{count} elements do not fit target_shape {target:?}"
                    ));
                }
                Some(count / known.max(1))
            }
        };
        let row = self.target.iter();
        let row = row.map(|&axis| if axis == -1 { rest } else { Some(axis) });
        let dims: Vec<_> = std::iter::once(batch).chain(row).collect();
        Ok(input.with_dims(dims))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let rows = x.size().first().copied().unwrap_or(1);
        // An empty batch leaves nothing from which libtorch could tell what -1 is.
        let shape: Vec<i64> = std::iter::once(rows).chain(self.target.clone()).collect();
        if rows == 0 && self.target.contains(&-1) {
            let row: i64 = x.size().iter().skip(1).product();
            let known: i64 = self.target.iter().filter(|&&axis| axis != -1).product();
            let shape = shape.iter();
            let shape: Vec<i64> = shape
                .map(|&axis| if axis == -1 { row / known.max(1) } else { axis })
                .collect();
            return Ok(x.f_reshape(shape)?);
        }
        Ok(x.f_reshape(shape)?)
    }
}
