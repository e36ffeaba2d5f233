//! `GaussianNoise` adds normal noise in training; `GaussianDropout` multiplies with normal noise
//! around 1.

use tch::Tensor;

use super::dropout::rate;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer, first_mask};
use crate::layers::noise::normal;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// Noise by its standard deviation.
#[derive(Debug)]
enum Gaussian {
    Added(f64),
    Multiplied(f64),
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    if scope.class == "GaussianDropout" {
        // At rate 1 the noise would be infinite.
        let rate = rate(options, 0.0..1.0)?;
        return Ok(Built::layer(Gaussian::Multiplied(
            (rate / (1.0 - rate)).sqrt(),
        )));
    }
    // As for Dropout: noise depends on the run's seed.
    options.ignore(&["seed"]);
    let stddev = options.f64("stddev", 0.0)?;
    if !(0.0..=1.0).contains(&stddev) {
        return Err(options.invalid(format!("stddev = {stddev} must be in 0.0..=1.0")));
    }
    Ok(Built::layer(Gaussian::Added(stddev)))
}

impl Layer for Gaussian {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(args.only()?.clone()))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let (Self::Added(stddev) | Self::Multiplied(stddev)) = *self;
        if !context.training || stddev == 0.0 {
            return Ok(Tree::Leaf(value.clone()));
        }
        let x = value.y()?;
        let noise = normal(context.rng(), &x.size())?.f_mul_scalar(stddev)?;
        let noise = noise.f_to_device(x.device())?;
        let compute = context.compute();
        let y = match self {
            Self::Added(_) => x.f_add(&noise.f_to_kind(compute)?)?,
            Self::Multiplied(_) => x.f_mul(&noise.f_add_scalar(1.0)?.f_to_kind(compute)?)?,
        };
        Ok(Tree::Leaf(y.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(first_mask(args))
    }
}
