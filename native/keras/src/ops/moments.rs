//! `Moments`: mean and biased variance over axes, of the rows of this replica or of all.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::axes::{Axes, reduced_dims, signed};
use super::operand::checked;
use super::promotion::at_least_float32;
use super::reduction::{mean, over, variance};
use super::{Family, listed, numeric};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Inferred, Layer};
use crate::layers::normalization::Moments as Joined;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

pub(super) const OPS: Family = &[("Moments", build)];

/// What moments of half precision are kept within.
const FLOAT16_MAX: f64 = 65504.0;

#[derive(Debug)]
struct Moments {
    axes: Axes,
    keepdims: bool,
    /// Whether they are over the rows of all replicas in training.
    synchronized: bool,
}

fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let moments = Moments {
        axes: Axes::read(options, "axes")?,
        keepdims: options.bool("keepdims", false)?,
        synchronized: options.bool("synchronized", false)?,
    };
    if moments.synchronized {
        let positions = moments.axes.positions(scope.input()?.rank());
        let positions = positions.map_err(|reason| scope.mismatch(reason))?;
        if !positions.contains(&0) {
            let supported = "false, or axes with that of the batch";
            return Err(options.unsupported("synchronized", &Json::Bool(true), supported));
        }
        scope.sums_over_replicas();
    }
    Ok(Built::layer(moments))
}

impl Layer for Moments {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let x = numeric(args)?;
        if !x.dtype.is_float() {
            return Err(format!("takes floating-point numbers, got {}", x.dtype));
        }
        let dims = reduced_dims(&x.dims, &self.axes.positions(x.rank())?, self.keepdims);
        Ok(listed(vec![x.with_dims(dims); 2]))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let x = checked(args.only())?.y()?;
        let kind = x.kind();
        // Half precision is computed in float32.
        let wide = x.f_to_kind(at_least_float32(kind))?;
        let positions = checked(self.axes.positions(x.dim()))?;
        let moments = if self.synchronized {
            let axes = signed(&positions);
            let all = Joined::new(&wide, &axes, None, true, context)?;
            [all.mean, all.variance].map(|moment| match self.keepdims {
                true => Ok(moment),
                false => Ok(moment.f_squeeze_dims(axes.as_slice())?),
            })
        } else {
            [mean, variance].map(|moment| over(&wide, &positions, self.keepdims, moment))
        };
        let moments = moments.into_iter().map(|moment| narrowed(moment?, kind));
        Ok(listed(moments.collect::<Result<_>>()?))
    }
}

/// The moment in the dtype of what it is of.
fn narrowed(moment: Tensor, kind: Kind) -> Result<Value> {
    if matches!(kind, Kind::Half | Kind::BFloat16) {
        let bounded = moment.f_clamp(-FLOAT16_MAX, FLOAT16_MAX)?;
        return Ok(Value::new(bounded.f_to_kind(kind)?));
    }
    Ok(Value::new(moment))
}
