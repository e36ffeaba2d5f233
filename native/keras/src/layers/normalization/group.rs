//! `GroupNormalization`: mean 0 and variance 1 over each group of channels with all axes but the
//! batch, in float32 whatever the policy.

use tch::{Kind, Tensor};

use super::axes::epsilon;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Scope, Unary};
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

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let axis = position(self.axis, self.rank).and_then(|at| i64::try_from(at).ok());
        let axis = axis.unwrap_or(1);
        // libtorch wants the channels second; moving them copies nothing.
        let moved = x.f_to_kind(Kind::Float)?.f_movedim_int(axis, 1)?;
        let gamma = self.gamma.map(|handle| context.state(handle));
        let beta = self.beta.map(|handle| context.state(handle));
        let y = moved.f_group_norm(self.groups, gamma, beta, self.epsilon, false)?;
        // By way of the input's dtype: integers lose their fractions, as in Keras.
        let y = y.f_movedim_int(1, axis)?.f_to_kind(kind)?;
        Ok(y.f_to_kind(context.compute())?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
