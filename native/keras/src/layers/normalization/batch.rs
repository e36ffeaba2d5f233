//! `BatchNormalization`, with Keras's rules: the moving variance takes the batch's biased variance,
//! a frozen layer runs in inference mode, masked steps are left out of the statistics, and these are
//! over the rows of all replicas if synchronized.
//! Everything is computed in float32, whatever the policy.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::moments::Moments;
use super::renorm::Renorm;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, first_mask};
use crate::scope::Scope;
use crate::spec::{Spec, position};
use crate::value::Value;
use crate::variables::{Handle, Variables};

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
    renorm: Option<Renorm>,
    /// Whether statistics are of the rows of all replicas.
    synchronized: bool,
    frozen: bool,
}

/// Scale and shift of each channel.
pub(super) type Affine = (Option<Tensor>, Option<Tensor>);

/// The batch's statistics of each channel, without their graph.
#[derive(Debug)]
pub(super) struct Statistics {
    pub(super) mean: Tensor,
    pub(super) variance: Tensor,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let synchronized = options.bool("synchronized", false)?;
    // Keras 2's, which change nothing in Keras 3.
    options.ignore(&["virtual_batch_size", "fused"]);
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
    let moving_mean = scope.moving_state("moving_mean", &shape, "zeros")?;
    let moving_variance = scope.moving_state("moving_variance", &shape, "ones")?;
    if synchronized && scope.place.trainable {
        scope.sums_over_replicas();
    }
    Ok(Built::layer(BatchNormalization {
        axis,
        channels,
        momentum: options.f64("momentum", 0.99)?,
        epsilon: options.f64("epsilon", 1e-3)?,
        gamma,
        beta,
        moving_mean,
        moving_variance,
        renorm: Renorm::read(scope, &shape)?,
        synchronized,
        frozen: !scope.place.trainable,
    }))
}

/// What a BatchNormalization of the last axis does in inference: what each channel is multiplied by,
/// and what is added then; none for other layers.
///
/// # Errors
/// libtorch fails.
pub(crate) fn scale_and_shift(
    built: &Built,
    variables: &Variables,
) -> Result<Option<(Tensor, Tensor)>> {
    let layer = built.downcast::<BatchNormalization>();
    let Some(layer) = layer.filter(|layer| layer.axis == -1 || layer.axis == 3) else {
        return Ok(None);
    };
    let tensor = |handle: Handle| variables.tensor(handle).f_detach();
    let variance = tensor(layer.moving_variance)?;
    let mut scale = variance.f_add_scalar(layer.epsilon)?.f_rsqrt()?;
    if let Some(gamma) = layer.gamma {
        scale = scale.f_mul(&tensor(gamma)?)?;
    }
    let mut shift = tensor(layer.moving_mean)?.f_mul(&scale)?.f_neg()?;
    if let Some(beta) = layer.beta {
        shift = shift.f_add(&tensor(beta)?)?;
    }
    Ok(Some((scale, shift)))
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
        let mask = explicit.or(value.mask());
        if let Some(mask) = mask
            && mask.dim() + 1 != x.dim()
        {
            let (mask, x) = (mask.size(), x.size());
            return Err(Error::values(format!(
                "a mask must have one axis less than the input, got {mask:?} for {x:?}"
            )));
        }
        let synchronized = self.synchronized && context.shares_batch();
        let y = if self.trains(context) && (mask.is_some() || synchronized) {
            self.counted(x, mask, context)?
        } else {
            self.whole(x, context)?
        };
        Ok(Tree::Leaf(y.f_to_kind(context.compute())?.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}

impl BatchNormalization {
    fn trains(&self, context: &Context<'_>) -> bool {
        context.training && !self.frozen
    }

    /// All elements of this replica's rows count.
    fn whole(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let size = x.size();
        let axis = position(self.axis, size.len()).unwrap_or(0);
        // libtorch wants the channels second; a permutation copies nothing.
        let order = channels_second(size.len(), axis);
        let permuted = x.f_permute(order.as_slice())?.f_to_kind(Kind::Float)?;
        let run = |(gamma, beta): Affine, mean: &Tensor, variance: &Tensor, training: bool| {
            let results = permuted.f_native_batch_norm(
                gamma.as_ref(),
                beta.as_ref(),
                Some(mean),
                Some(variance),
                training,
                if training { 1.0 } else { 0.0 },
                self.epsilon,
            );
            results.map(|(y, _, _)| y)
        };
        let y = if self.trains(context) {
            // With momentum 1 libtorch leaves the batch's mean and unbiased variance here.
            let mean = Tensor::f_zeros([self.channels], (Kind::Float, x.device()))?;
            let unbiased = mean.f_zeros_like()?;
            let affine = match self.renorm {
                Some(_) => (None, None),
                None => self.affine(context),
            };
            let y = run(affine, &mean, &unbiased, true)?;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let count = (size.iter().product::<i64>() / self.channels.max(1)) as f64;
            let variance = if count > 1.0 {
                unbiased.f_mul_scalar((count - 1.0) / count)?
            } else {
                unbiased.f_zeros_like()?
            };
            self.finish(&y, 1, &Statistics { mean, variance }, context)?
        } else {
            let mean = context.state(self.moving_mean);
            let variance = context.state(self.moving_variance);
            run(self.affine(context), &mean, &variance, false)?
        };
        Ok(y.f_permute(inverse(&order))?)
    }

    /// Only elements whose step is not masked count, and those of all replicas if synchronized.
    fn counted(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        context: &mut Context<'_>,
    ) -> Result<Tensor> {
        let axis = position(self.axis, x.dim()).unwrap_or(0);
        let x = x.f_to_kind(Kind::Float)?;
        let axes = others(x.dim(), axis);
        let moments = Moments::new(&x, &axes, mask, self.synchronized, context)?;
        let (mean, variance) = (
            moments.mean.f_flatten(0, -1)?,
            moments.variance.f_flatten(0, -1)?,
        );
        let statistics = Statistics {
            mean: mean.f_detach()?,
            variance: variance.f_detach()?,
        };
        let inverse = variance.f_add_scalar(self.epsilon)?.f_rsqrt()?;
        let centered = x.f_sub(&along(&mean, axis, x.dim())?)?;
        let y = scaled(&centered, axis, Some(&inverse), None)?;
        if self.renorm.is_some() {
            return self.finish(&y, axis, &statistics, context);
        }
        let (gamma, beta) = self.affine(context);
        let y = scaled(&y, axis, gamma.as_ref(), beta.as_ref())?;
        self.finish(&y, axis, &statistics, context)
    }

    fn affine(&self, context: &Context<'_>) -> Affine {
        let state = |handle: Option<Handle>| handle.map(|handle| context.state(handle));
        (state(self.gamma), state(self.beta))
    }

    /// Takes the batch's statistics into the moving ones. With renorm, `y` is only normalized so
    /// far, and is corrected, scaled and shifted here, channels at `axis`.
    fn finish(
        &self,
        y: &Tensor,
        axis: usize,
        batch: &Statistics,
        context: &mut Context<'_>,
    ) -> Result<Tensor> {
        let Some(renorm) = &self.renorm else {
            for (handle, batch) in [
                (self.moving_mean, &batch.mean),
                (self.moving_variance, &batch.variance),
            ] {
                moved(handle, batch, self.momentum, context)?;
            }
            return Ok(y.shallow_clone());
        };
        let affine = self.affine(context);
        let (gamma, beta) = renorm.corrected(batch, self.epsilon, affine, context)?;
        moved(self.moving_mean, &batch.mean, self.momentum, context)?;
        let variance = renorm.moved(batch, self.epsilon, self.momentum, context)?;
        context.assign(self.moving_variance, variance);
        scaled(y, axis, Some(&gamma), Some(&beta))
    }
}

/// Assigns the moving mean of a state and the batch's value.
pub(super) fn moved(
    handle: Handle,
    batch: &Tensor,
    momentum: f64,
    context: &mut Context<'_>,
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let old = context.state(handle).f_mul_scalar(momentum)?;
    let new = old.f_add(&batch.f_mul_scalar(1.0 - momentum)?)?;
    context.assign(handle, new);
    Ok(())
}

/// `y * gamma + beta` with channels at `axis`.
fn scaled(
    y: &Tensor,
    axis: usize,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
) -> Result<Tensor> {
    let mut y = y.shallow_clone();
    if let Some(gamma) = gamma {
        y = y.f_mul(&along(gamma, axis, y.dim())?)?;
    }
    if let Some(beta) = beta {
        y = y.f_add(&along(beta, axis, y.dim())?)?;
    }
    Ok(y)
}

/// A value of each channel, shaped to be broadcast with `rank` axes.
fn along(values: &Tensor, axis: usize, rank: usize) -> Result<Tensor> {
    let shape: Vec<i64> = (0..rank)
        .map(|at| if at == axis { -1 } else { 1 })
        .collect();
    Ok(values.f_view(shape.as_slice())?)
}

/// All of `rank` axes but one.
fn others(rank: usize, axis: usize) -> Vec<i64> {
    let others = (0..rank).filter(|&at| at != axis);
    others.filter_map(|at| i64::try_from(at).ok()).collect()
}

/// The order of axes that brings `axis` to the second place.
fn channels_second(rank: usize, axis: usize) -> Vec<i64> {
    let mut order = others(rank, axis);
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
