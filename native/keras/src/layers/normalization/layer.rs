//! `LayerNormalization`: mean 0 and variance 1 over `axis`, in float32 whatever the policy.

use tch::{Kind, Tensor};

use super::axes::{Axes, epsilon};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

#[derive(Debug)]
struct LayerNormalization {
    axes: Axes,
    /// Sizes of the axes in Keras's order.
    shape: Vec<i64>,
    epsilon: f64,
    gamma: Option<Handle>,
    beta: Option<Handle>,
    /// Keras's deprecated option: divides by the standard deviation, but keeps the mean.
    rms_scaling: bool,
    dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::read(options)?;
    let shape = axes.sizes(scope.input()?);
    let shape = shape.map_err(|reason| scope.mismatch(reason))?;
    let rms_scaling = options.bool("rms_scaling", false)?;
    let scale = options.bool("scale", true)? || rms_scaling;
    let center = options.bool("center", true)? && !rms_scaling;
    let layer = LayerNormalization {
        epsilon: epsilon(options, 1e-3)?,
        gamma: scope.weight_if(scale, "gamma", "gamma", &shape, "ones")?,
        beta: scope.weight_if(center, "beta", "beta", &shape, "zeros")?,
        axes,
        shape,
        rms_scaling,
        dtype: scope.policy.compute,
    };
    Ok(Built::unary(layer).without_autocast())
}

impl Unary for LayerNormalization {
    fn infer(&self, input: &Spec) -> SpecResult {
        let shape = self.axes.sizes(input)?;
        if shape != self.shape {
            let expected = &self.shape;
            return Err(format!(
                "normalizes axes of sizes {expected:?}, got {input}"
            ));
        }
        Ok(input.with_dtype(self.dtype))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let places = self.axes.places(x.dim());
        let x = x.f_to_kind(Kind::Float)?;
        let sizes = x.size();
        let normalized: Vec<i64> = (0..)
            .zip(&sizes)
            .filter(|(at, _)| places.contains(at))
            .map(|(_, size)| *size)
            .collect();
        // Keras reshapes its variables to the input's axes, whatever the order of `axis`.
        let variable = |handle: Option<Handle>| {
            let reshape = |handle| context.state(handle).f_reshape(normalized.as_slice());
            handle.map(reshape).transpose()
        };
        let (gamma, beta) = (variable(self.gamma)?, variable(self.beta)?);
        let rest = (0..).take(sizes.len()).filter(|at| !places.contains(at));
        let order: Vec<i64> = rest.chain(places.iter().copied()).collect();
        let last = (0..).zip(&order).all(|(at, &axis)| at == axis);
        let x = if last {
            x
        } else {
            x.f_permute(order.as_slice())?
        };
        let y = if self.rms_scaling {
            let axes: Vec<i64> = (1..).take(normalized.len()).map(|at: i64| -at).collect();
            let variance = x.f_var_correction(axes.as_slice(), 0, true)?;
            let y = x.f_mul(&variance.f_add_scalar(self.epsilon)?.f_rsqrt()?)?;
            match &gamma {
                Some(gamma) => y.f_mul(gamma)?,
                None => y,
            }
        } else {
            let shape = normalized.as_slice();
            x.f_layer_norm(shape, gamma.as_ref(), beta.as_ref(), self.epsilon, false)?
        };
        let y = if last {
            y
        } else {
            y.f_permute(inverse(&order))?
        };
        // By way of the input's dtype: integers lose their fractions, as in Keras.
        Ok(y.f_to_kind(kind)?.f_to_kind(context.compute())?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}

fn inverse(order: &[i64]) -> Vec<i64> {
    let mut places: Vec<(i64, i64)> = order.iter().copied().zip(0..).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, at)| at).collect()
}
