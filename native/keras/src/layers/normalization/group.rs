//! `GroupNormalization`: mean 0 and variance 1 over each group of channels with all axes but the
//! batch, in float32 whatever the policy.

use tch::{Kind, Tensor};

use super::axes::epsilon;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult, position};
use crate::variables::Handle;

#[derive(Debug)]
struct GroupNormalization {
    groups: i64,
    axis: i64,
    rank: usize,
    channels: i64,
    epsilon: f64,
    gamma: Option<Handle>,
    beta: Option<Handle>,
    dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axis = options.i64("axis", -1)?;
    let channels = scope.input_size(axis)?;
    let input = scope.input()?;
    if input.axis(axis) == Ok(0) {
        return Err(options.invalid(format!("axis = {axis} is the batch's")));
    }
    let groups = match options.i64("groups", 32)? {
        -1 => channels,
        groups => groups,
    };
    if groups <= 0 || channels % groups != 0 {
        return Err(options.invalid(format!(
            "groups = {groups} must be -1 or divide the {channels} channels of the input {input}"
        )));
    }
    let shape = [channels];
    let (scale, center) = (options.bool("scale", true)?, options.bool("center", true)?);
    let layer = GroupNormalization {
        groups,
        axis,
        rank: input.rank(),
        channels,
        epsilon: epsilon(options, 1e-3)?,
        gamma: scope.weight_if(scale, "gamma", "gamma", &shape, "ones")?,
        beta: scope.weight_if(center, "beta", "beta", &shape, "zeros")?,
        dtype: scope.policy.compute,
    };
    Ok(Built::unary(layer).without_autocast())
}

impl Unary for GroupNormalization {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.rank)?;
        let channels = input.size(self.axis)?;
        if channels != self.channels {
            let expected = self.channels;
            return Err(format!("normalizes {expected} channels, got {input}"));
        }
        Ok(input.with_dtype(self.dtype))
    }

    /// Composed of operations: libtorch's `group_norm` writes the gradient of an input laid out
    /// channels last even where none is wanted, by way of a null pointer (2.11).
    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let size = x.size();
        let axis = position(self.axis, self.rank).unwrap_or(0);
        let split = [self.groups, self.channels / self.groups];
        let around = |before: &[i64], after: &[i64]| [before, &split, after].concat();
        let grouped = around(&size[..axis], &size[axis + 1..]);
        let channels = around(&vec![1; axis], &vec![1; self.rank - axis - 1]);
        let others: Vec<i64> = (1..)
            .take(self.rank)
            .filter(|&at| usize::try_from(at) != Ok(axis))
            .collect();

        let x = x.f_to_kind(Kind::Float)?.f_reshape(grouped)?;
        let (variance, mean) = x.f_var_mean_correction(others.as_slice(), 0, true)?;
        let mut scale = variance.f_add_scalar(self.epsilon)?.f_rsqrt()?;
        if let Some(gamma) = self.gamma {
            scale = scale.f_mul(&context.state(gamma).f_view(channels.as_slice())?)?;
        }
        let mut shift = mean.f_mul(&scale)?.f_neg()?;
        if let Some(beta) = self.beta {
            shift = shift.f_add(&context.state(beta).f_view(channels.as_slice())?)?;
        }
        let y = shift.f_addcmul(&x, &scale)?.f_reshape(size)?;
        // By way of the input's dtype: integers lose their fractions, as in Keras.
        Ok(y.f_to_kind(kind)?.f_to_kind(context.compute())?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
