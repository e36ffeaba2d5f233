//! `BatchNormalization`, with Keras's rules: the moving variance takes the batch's biased variance,
//! a frozen layer runs in inference mode, and masked steps are left out of the statistics.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, Scope, first_mask};
use crate::spec::{Spec, position};
use crate::value::Value;
use crate::variables::Handle;

#[derive(Debug)]
struct BatchNormalization {
    axis: i64,
    channels: i64,
    momentum: f64,
    epsilon: f64,
    gamma: Option<Handle>,
    beta: Option<Handle>,
    moving_mean: Handle,
    moving_variance: Handle,
    frozen: bool,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    options.require("synchronized", &Json::Bool(false))?;
    options.require("renorm", &Json::Bool(false))?;
    // Keras writes these even when `renorm` is off.
    options.ignore(&[
        "renorm_momentum",
        "renorm_clipping",
        "virtual_batch_size",
        "fused",
    ]);
    let axis = match options.value("axis") {
        None => Some(-1),
        Some(Json::Array(axes)) if axes.len() == 1 => axes[0].as_i64(),
        Some(axis) => axis.as_i64(),
    };
    let axis = axis.ok_or_else(|| options.invalid("axis must be one integer"))?;
    let channels = scope.input_size(axis)?;
    let shape = [channels];
    let (scale, center) = (options.bool("scale", true)?, options.bool("center", true)?);
    let gamma = scope.weight_if(scale, "gamma", "gamma", &shape, "ones")?;
    let beta = scope.weight_if(center, "beta", "beta", &shape, "zeros")?;
    Ok(Built::layer(BatchNormalization {
        axis,
        channels,
        momentum: options.f64("momentum", 0.99)?,
        epsilon: options.f64("epsilon", 1e-3)?,
        gamma,
        beta,
        moving_mean: scope.moving_state("moving_mean", &shape, "zeros")?,
        moving_variance: scope.moving_state("moving_variance", &shape, "ones")?,
        frozen: !scope.place.trainable,
    }))
}

impl Layer for BatchNormalization {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        let channels = input.size(self.axis)?;
        if channels != self.channels {
            let expected = self.channels;
            return Err(format!(
                "has statistics of {expected} channels, got {input}"
            ));
        }
        Ok(Tree::Leaf(input.clone()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let explicit = args.value(1, "mask").map(Value::y).transpose()?;
        let x = value.y()?;
        let training = context.training && !self.frozen;
        let y = match explicit.or(value.mask()) {
            Some(mask) if training => self.masked(x, mask, context)?,
            _ => self.whole(x, training, context)?,
        };
        Ok(Tree::Leaf(y.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}

impl BatchNormalization {
    /// All elements count.
    fn whole(&self, x: &Tensor, training: bool, context: &mut Context<'_>) -> Result<Tensor> {
        let size = x.size();
        let axis = position(self.axis, size.len()).unwrap_or(0);
        // libtorch wants the channels second; a permutation copies nothing.
        let order = channels_second(size.len(), axis);
        // Keras computes in float32 whatever the policy, and gives what the policy says.
        let permuted = x.f_permute(order.as_slice())?.f_to_kind(Kind::Float)?;
        let gamma = self.gamma.map(|handle| context.state(handle));
        let beta = self.beta.map(|handle| context.state(handle));
        let run = |mean: &Tensor, variance: &Tensor, training, share| {
            permuted.f_native_batch_norm(
                gamma.as_ref(),
                beta.as_ref(),
                Some(mean),
                Some(variance),
                training,
                share,
                self.epsilon,
            )
        };
        let y = if training {
            // With momentum 1 libtorch leaves the batch's mean and unbiased variance here.
            let mean = Tensor::f_zeros([self.channels], (Kind::Float, x.device()))?;
            let variance = mean.f_zeros_like()?;
            let (y, _, _) = run(&mean, &variance, true, 1.0)?;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let count = (size.iter().product::<i64>() / self.channels.max(1)) as f64;
            let biased = if count > 1.0 {
                variance.f_mul_scalar((count - 1.0) / count)?
            } else {
                variance.f_zeros_like()?
            };
            self.move_statistics(&mean, &biased, context)?;
            y
        } else {
            let mean = context.state(self.moving_mean);
            let variance = context.state(self.moving_variance);
            run(&mean, &variance, false, 0.0)?.0
        };
        Ok(y.f_permute(inverse(&order))?.f_to_kind(context.compute())?)
    }

    /// Only elements whose step is not masked count (`_moments` with a mask).
    fn masked(&self, x: &Tensor, mask: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let rank = x.dim();
        let axis = position(self.axis, rank).unwrap_or(0);
        let axes: Vec<i64> = (0..rank)
            .filter(|&at| at != axis)
            .filter_map(|at| i64::try_from(at).ok())
            .collect();
        let x32 = x.f_to_kind(Kind::Float)?;
        let mut weights = mask.f_to_kind(Kind::Float)?;
        while weights.dim() < rank {
            weights = weights.f_unsqueeze(-1)?;
        }
        let sum = |x: &Tensor| x.f_sum_dim_intlist(axes.as_slice(), true, Kind::Float);
        let weighted = sum(&x32.f_mul(&weights)?)?;
        let total = sum(&weights.f_expand_as(&x32)?)?;
        // Keras adds its epsilon so that a batch without a valid step divides by no zero.
        let mean = weighted.f_div(&total.f_add_scalar(1e-7)?)?;
        let centered = x32.f_sub(&mean)?;
        let squares = sum(&centered.f_square()?.f_mul(&weights)?)?;
        let variance = squares.f_div(&total.f_add_scalar(1e-7)?)?;
        let flat = |x: &Tensor| x.f_detach()?.f_reshape([self.channels]);
        self.move_statistics(&flat(&mean)?, &flat(&variance)?, context)?;
        let mut y = centered.f_mul(&variance.f_add_scalar(self.epsilon)?.f_rsqrt()?)?;
        let shape: Vec<i64> = (0..rank)
            .map(|at| if at == axis { self.channels } else { 1 })
            .collect();
        if let Some(gamma) = self.gamma {
            y = y.f_mul(&context.state(gamma).f_view(shape.as_slice())?)?;
        }
        if let Some(beta) = self.beta {
            y = y.f_add(&context.state(beta).f_view(shape.as_slice())?)?;
        }
        Ok(y.f_to_kind(context.compute())?)
    }

    fn move_statistics(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (handle, batch) in [(self.moving_mean, mean), (self.moving_variance, variance)] {
            let old = context.state(handle).f_mul_scalar(self.momentum)?;
            let new = old.f_add(&batch.f_mul_scalar(1.0 - self.momentum)?)?;
            context.assign(handle, new);
        }
        Ok(())
    }
}

/// The order of axes that brings `axis` to the second place.
fn channels_second(rank: usize, axis: usize) -> Vec<i64> {
    let others = (0..rank).filter(|&at| at != axis);
    let mut order: Vec<i64> = others.filter_map(|at| i64::try_from(at).ok()).collect();
    order.insert(order.len().min(1), i64::try_from(axis).unwrap_or(0));
    order
}

fn inverse(order: &[i64]) -> Vec<i64> {
    let mut inverse = vec![0; order.len()];
    for (to, &from) in (0..).zip(order) {
        if let Some(slot) = usize::try_from(from)
            .ok()
            .and_then(|at| inverse.get_mut(at))
        {
            *slot = to;
        }
    }
    inverse
}
