//! `Reshape`: the same elements in row-major order under `target_shape`, one of whose axes may be
//! -1.

use serde_json::Value;
use tch::Tensor;

use super::{Layer, LayerVariables, Shape, ShapeResult, single};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct Reshape {
    target: Shape,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    let target = options
        .value("target_shape")
        .and_then(Value::as_array)
        .and_then(|axes| axes.iter().map(Value::as_i64).collect::<Option<Shape>>())
        .ok_or_else(|| options.invalid("target_shape must be a list of integers"))?;
    if target.iter().any(|&axis| axis < -1) || target.iter().filter(|&&axis| axis == -1).count() > 1
    {
        return Err(options.invalid(format!("target_shape {target:?} may hold one -1 at most")));
    }
    Ok(Box::new(Reshape { target }))
}

impl Reshape {
    /// The target with -1 replaced, for inputs of `count` elements a row.
    fn resolve(&self, count: i64) -> ShapeResult {
        let known: i64 = self.target.iter().filter(|&&axis| axis != -1).product();
        let open = self.target.contains(&-1);
        let fits = if open {
            known > 0 && count % known == 0
        } else {
            known == count
        };
        if !fits {
            return Err(format!(
                "{count} elements do not fit target_shape {:?}",
                self.target
            ));
        }
        let axis = |&axis: &i64| if axis == -1 { count / known } else { axis };
        Ok(self.target.iter().map(axis).collect())
    }
}

impl Layer for Reshape {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        self.resolve(single(inputs)?.iter().product())
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        let size = inputs[0].size();
        let row = self.resolve(size[1..].iter().product()).map_err(|reason| {
            crate::Error::ShapeMismatch {
                place: "Reshape".to_owned(),
                reason,
            }
        })?;
        Ok(inputs[0].f_reshape([&size[..1], &row].concat())?)
    }
}
