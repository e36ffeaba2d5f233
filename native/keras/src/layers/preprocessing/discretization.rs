//! `Discretization`: the bin that a number is in. A boundary is the least number of the bin above.

use tch::{Kind, Tensor};

use super::encoding::{Encoding, Mode};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::literals;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct Discretization {
    /// As TensorFlow's Bucketize keeps them: rounded to float32, compared in float64.
    boundaries: Tensor,
    encoding: Encoding,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    // They say how `adapt` finds the boundaries.
    options.ignore(&["num_bins", "epsilon"]);
    let modes = ["int", "one_hot", "multi_hot", "count"];
    let mode = Mode::read(options, "int", &modes)?;
    let Some(boundaries) = options.value("bin_boundaries") else {
        return Err(options.invalid(
            "bin_boundaries are missing: give them, or call adapt before the model is saved",
        ));
    };
    let numbers = boundaries.as_array().into_iter().flatten();
    let numbers: Option<Vec<f64>> = numbers.map(literals::number).collect();
    let wrong = || {
        let reason = format!("bin_boundaries = {boundaries} must be rising numbers");
        options.invalid(reason)
    };
    let numbers = numbers
        .filter(|_| boundaries.is_array())
        .ok_or_else(wrong)?;
    if !numbers.is_sorted() {
        return Err(wrong());
    }
    let dtype = match mode {
        Mode::Int => DType::Tensor(Kind::Int),
        _ => scope.policy.compute,
    };
    let depth = i64::try_from(numbers.len()).unwrap_or(i64::MAX - 1) + 1;
    let boundaries = Tensor::f_from_slice(&numbers)?.f_to_kind(Kind::Float)?;
    Ok(Built::unary(Discretization {
        boundaries: boundaries.f_to_kind(Kind::Double)?,
        encoding: Encoding { mode, depth, dtype },
    }))
}

impl Unary for Discretization {
    fn infer(&self, input: &Spec) -> SpecResult {
        self.encoding.infer(input)
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let boundaries = self.boundaries.f_to_device(x.device())?;
        let x = x.f_detach()?.f_to_kind(Kind::Double)?;
        let bins = x.f_bucketize(&boundaries, false, true)?;
        self.encoding.encode(&bins, None)
    }
}
