//! `Normalization`: `(x - mean) / sqrt(variance)`, or back, with a mean and a variance for each
//! position of the axes kept. They are given in the config, or variables that `adapt` has set.

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use crate::config::Given;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::layer::{Built, Unary};
use crate::literals;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult, position};
use crate::variables::Handle;

/// `keras.backend.epsilon()`: the least standard deviation.
const LEAST_DEVIATION: f64 = 1e-7;

#[derive(Debug)]
struct Normalization {
    moments: Moments,
    /// The shape in which mean and variance meet the input: 1 on axes that are not kept.
    shape: Vec<i64>,
    invert: bool,
    dtype: DType,
}

#[derive(Debug)]
enum Moments {
    Given { mean: Tensor, variance: Tensor },
    Adapted { mean: Handle, variance: Handle },
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let invert = options.bool("invert", false)?;
    let input = scope.input()?;
    let rank = input.dims.len();
    let kept = kept_axes(scope, rank)?;
    let mut shape = vec![1; rank];
    for &axis in &kept {
        shape[axis] = scope.input_size(i64::try_from(axis).unwrap_or(0))?;
    }
    let given = |key: &str| options.value(key).filter(|value| !value.is_null());
    let moments = match (given("mean"), given("variance")) {
        (Some(mean), Some(variance)) => Moments::Given {
            mean: aligned(scope, "mean", mean, &kept, &shape)?,
            variance: aligned(scope, "variance", variance, &kept, &shape)?,
        },
        (None, None) => {
            let sizes: Vec<i64> = kept.iter().map(|&axis| shape[axis]).collect();
            let (zero, one) = (Initializer::constant(0.0), Initializer::constant(1.0));
            let mean = scope.constant("mean", &sizes, Kind::Float, zero.clone());
            let variance = scope.constant("variance", &sizes, Kind::Float, one);
            // Read by Keras only, which counts the rows that it adapts to.
            scope.constant("count", &[], Kind::Int64, zero);
            Moments::Adapted { mean, variance }
        }
        _ => return Err(options.invalid("mean and variance must be given together".to_owned())),
    };
    Ok(Built::unary(Normalization {
        moments,
        shape,
        invert,
        dtype: scope.policy.compute,
    }))
}

/// The axes kept, in ascending order; null is none of them, as an empty list is.
fn kept_axes(scope: &Scope<'_>, rank: usize) -> Result<Vec<usize>> {
    let options = scope.options;
    let axes: Option<Vec<i64>> = match options.given("axis") {
        Given::Absent => Some(vec![-1]),
        Given::Null => Some(Vec::new()),
        Given::Value(Json::Array(axes)) => axes.iter().map(Json::as_i64).collect(),
        Given::Value(axis) => axis.as_i64().map(|axis| vec![axis]),
    };
    let axes = axes.ok_or_else(|| options.invalid("axis must be an integer, several or null"))?;
    let places = axes.into_iter().map(|axis| {
        let missing = || scope.mismatch(format!("axis {axis} is not one of {rank} axes"));
        position(axis, rank).ok_or_else(missing)
    });
    let mut kept = places.collect::<Result<Vec<_>>>()?;
    kept.sort_unstable();
    Ok(kept)
}

/// A given mean or variance in the shape of the input: one number, or axes that are the last ones
/// of those kept.
fn aligned(
    scope: &Scope<'_>,
    key: &str,
    value: &Json,
    kept: &[usize],
    shape: &[i64],
) -> Result<Tensor> {
    let invalid = || {
        let reason = format!("{key} must be numbers that fit the axes kept");
        scope.options.invalid(reason)
    };
    let value = match literals::array(value) {
        Some(array) => array?.f_to_kind(Kind::Float)?,
        None => {
            literals::shape(value).ok_or_else(invalid)?;
            literals::tensor(value, Kind::Float, Device::Cpu)?
        }
    };
    let own = value.size();
    let skipped = kept.len().checked_sub(own.len()).ok_or_else(invalid)?;
    let mut expanded = vec![1; shape.len()];
    for (&axis, &size) in kept.iter().skip(skipped).zip(&own) {
        expanded[axis] = size;
    }
    let value = value.f_view(expanded.as_slice())?;
    value.f_expand(shape, false).map_err(|_| invalid())
}

impl Unary for Normalization {
    fn infer(&self, input: &Spec) -> SpecResult {
        Ok(input.with_dtype(self.dtype))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kind = self.dtype.kind().unwrap_or(Kind::Float);
        let shaped = |value: &Tensor| -> Result<Tensor> {
            Ok(value.f_to_kind(kind)?.f_view(self.shape.as_slice())?)
        };
        let (mean, variance) = match &self.moments {
            Moments::Given { mean, variance } => {
                let [mean, variance] = [mean, variance].map(|given| given.f_to_device(x.device()));
                (mean?.f_to_kind(kind)?, variance?.f_to_kind(kind)?)
            }
            Moments::Adapted { mean, variance } => (
                shaped(&context.state(*mean))?,
                shaped(&context.state(*variance))?,
            ),
        };
        let deviation = variance.f_sqrt()?.f_clamp_min(LEAST_DEVIATION)?;
        let x = x.f_to_kind(kind)?;
        if self.invert {
            return Ok(x.f_mul(&deviation)?.f_add(&mean)?);
        }
        Ok(x.f_sub(&mean)?.f_div(&deviation)?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
