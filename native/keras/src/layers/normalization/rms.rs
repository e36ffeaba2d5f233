//! `RMSNormalization`: divided by the root mean square over `axis`, times `scale`; in float32
//! whatever the policy.

use tch::{Kind, Tensor};

use super::axes::{Axes, epsilon};
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult, broadcast};
use crate::variables::Handle;

#[derive(Debug)]
struct RmsNormalization {
    axes: Axes,
    shape: Vec<i64>,
    epsilon: f64,
    scale: Handle,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axes = Axes::read(options)?;
    let shape = axes.sizes(scope.input()?);
    let shape = shape.map_err(|reason| scope.mismatch(reason))?;
    Ok(Built::unary(RmsNormalization {
        epsilon: epsilon(options, 1e-6)?,
        scale: scope.weight("scale", "scale", &shape, "ones")?,
        axes,
        shape,
    }))
}

impl Unary for RmsNormalization {
    fn infer(&self, input: &Spec) -> SpecResult {
        let shape = self.axes.sizes(input)?;
        // Keras lines `scale` up with the last axes, whichever were normalized.
        let scale: Vec<Option<i64>> = self.shape.iter().copied().map(Some).collect();
        let fits = broadcast(&input.dims, &scale)
            .is_some_and(|dims| dims.len() == input.rank() && dims.last() == input.dims.last());
        if shape != self.shape || !fits {
            let expected = &self.shape;
            return Err(format!(
                "has a scale of shape {expected:?}, which does not fit the input {input}"
            ));
        }
        Ok(input.clone())
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let x = x.f_to_kind(Kind::Float)?;
        let places = self.axes.places(x.dim());
        let squares = x
            .f_square()?
            .f_mean_dim(places.as_slice(), true, Kind::Float)?;
        let y = x.f_mul(&squares.f_add_scalar(self.epsilon)?.f_rsqrt()?)?;
        let scale = context.variable(self.scale)?.f_to_kind(Kind::Float)?;
        Ok(y.f_mul(&scale)?.f_to_kind(kind)?)
    }
}
