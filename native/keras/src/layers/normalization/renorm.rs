//! Batch renormalization (Ioffe, 2017) within `BatchNormalization`: in training, normalized values
//! are corrected towards what moving statistics would give.

use serde_json::Value as Json;
use tch::Tensor;

use super::batch::{Affine, Statistics, moved};
use crate::context::Context;
use crate::error::Result;
use crate::scope::Scope;
use crate::variables::Handle;

/// Statistics that move faster than those for inference, and the bounds of the correction.
#[derive(Debug)]
pub(super) struct Renorm {
    /// Of the standard deviation, from which the moving variance follows.
    moving_stddev: Handle,
    mean: Handle,
    stddev: Handle,
    momentum: f64,
    rmin: Option<f64>,
    rmax: Option<f64>,
    dmax: Option<f64>,
}

impl Renorm {
    /// Reads the options and declares the states, if option `renorm` is on.
    pub(super) fn read(scope: &mut Scope<'_>, shape: &[i64]) -> Result<Option<Self>> {
        let options = scope.options;
        if !options.bool("renorm", false)? {
            // Keras writes them in any case.
            options.ignore(&["renorm_momentum", "renorm_clipping"]);
            return Ok(None);
        }
        let clipping = options.value("renorm_clipping");
        let bound = |key: &str| match clipping.and_then(|clipping| clipping.get(key)) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| {
                options.invalid(format!("renorm_clipping: {key} = {value} must be a number"))
            }),
        };
        let (rmin, rmax, dmax) = (bound("rmin")?, bound("rmax")?, bound("dmax")?);
        let known = |key: &String| ["rmin", "rmax", "dmax"].contains(&key.as_str());
        let empty = serde_json::Map::new();
        let keys = clipping.map_or(Some(&empty), Json::as_object);
        if !keys.is_some_and(|map| map.keys().all(known)) {
            return Err(options.invalid("renorm_clipping must be of rmin, rmax and dmax"));
        }
        let mean = scope.initializer("moving_mean", "zeros")?;
        let variance = scope.initializer("moving_variance", "ones")?;
        let stddev = variance.square_root().ok_or_else(|| {
            let value = options
                .value("moving_variance_initializer")
                .unwrap_or(&Json::Null);
            options.unsupported(
                "moving_variance_initializer",
                value,
                "Ones, Zeros or Constant where renorm is on",
            )
        })?;
        let moving_stddev = scope.initialized_state("moving_stddev", shape, stddev.clone());
        Ok(Some(Self {
            moving_stddev,
            mean: scope.initialized_state("renorm_mean", shape, mean),
            stddev: scope.initialized_state("renorm_stddev", shape, stddev),
            momentum: options.f64("renorm_momentum", 0.99)?,
            rmin,
            rmax,
            dmax,
        }))
    }

    /// Scale and shift of normalized values, with the correction in them: `r * gamma` and
    /// `d * gamma + beta`, where no gradient flows through `r` and `d`.
    pub(super) fn corrected(
        &self,
        batch: &Statistics,
        epsilon: f64,
        affine: Affine,
        context: &Context<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let least = Tensor::f_scalar_tensor(epsilon.sqrt(), (tch::Kind::Float, tch::Device::Cpu))?;
        let least = least.f_to_device(batch.mean.device())?;
        let stddev = context.state(self.stddev).f_maximum(&least)?;
        let mut r = deviation(&batch.variance, epsilon)?.f_div(&stddev)?;
        let mut d = batch
            .mean
            .f_sub(&context.state(self.mean))?
            .f_div(&stddev)?;
        if let Some(rmin) = self.rmin {
            r = r.f_clamp_min(rmin)?;
        }
        if let Some(rmax) = self.rmax {
            r = r.f_clamp_max(rmax)?;
        }
        if let Some(dmax) = self.dmax {
            d = d.f_clamp(-dmax, dmax)?;
        }
        let (gamma, beta) = affine;
        if let Some(gamma) = gamma {
            (r, d) = (r.f_mul(&gamma)?, d.f_mul(&gamma)?);
        }
        if let Some(beta) = beta {
            d = d.f_add(&beta)?;
        }
        Ok((r, d))
    }

    /// Moves the statistics, and gives the new moving variance.
    pub(super) fn moved(
        &self,
        batch: &Statistics,
        epsilon: f64,
        momentum: f64,
        context: &mut Context<'_>,
    ) -> Result<Tensor> {
        let stddev = deviation(&batch.variance, epsilon)?;
        moved(self.mean, &batch.mean, self.momentum, context)?;
        moved(self.stddev, &stddev, self.momentum, context)?;
        moved(self.moving_stddev, &stddev, momentum, context)?;
        let moving = context.state(self.moving_stddev);
        Ok(moving.f_square()?.f_sub_scalar(epsilon)?.f_relu()?)
    }
}

fn deviation(variance: &Tensor, epsilon: f64) -> Result<Tensor> {
    Ok(variance.f_add_scalar(epsilon)?.f_sqrt()?)
}
