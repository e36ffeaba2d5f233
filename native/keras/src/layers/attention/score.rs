//! How `Attention` and `AdditiveAttention` score a query against a key.

use tch::{Kind, Tensor};

use crate::context::Context;
use crate::error::Result;
use crate::scope::Scope;
use crate::variables::Handle;

/// A rule with its variables.
#[derive(Debug)]
pub(super) enum Score {
    /// `scale * q . k`.
    Dot { scale: Option<Handle> },
    /// `weight * sum(tanh(scale * (q + k)))`.
    Concat {
        scale: Option<Handle>,
        weight: Handle,
    },
    /// `sum(scale * tanh(q + k))`, with a scale for each feature.
    Additive { scale: Option<Handle> },
}

impl Score {
    /// Reads the options of the scope's class, and declares the variables.
    pub(super) fn read(scope: &mut Scope<'_>) -> Result<Self> {
        let options = scope.options;
        let additive = scope.class == "AdditiveAttention";
        let use_scale = options.bool("use_scale", additive)?;
        if additive {
            let scale = if use_scale {
                let query = scope.args.inputs();
                let size = query.first().map_or(Ok(0), |query| query.size(-1));
                let size = size.map_err(|reason| scope.mismatch(reason))?;
                Some(scope.weight("scale", "scale", &[size], "glorot_uniform")?)
            } else {
                None
            };
            return Ok(Self::Additive { scale });
        }
        let concat = options.choice("score_mode", "dot", &["dot", "concat"])? == "concat";
        let scale = if use_scale {
            Some(scope.weight("scale", "scale", &[], "ones")?)
        } else {
            None
        };
        if !concat {
            return Ok(Self::Dot { scale });
        }
        let name = "concat_score_weight";
        let weight = scope.weight(name, name, &[], "ones")?;
        Ok(Self::Concat { scale, weight })
    }

    /// `[.., T, S]` for a query `[.., T, size]` and a key `[.., S, size]`.
    pub(super) fn compute(
        &self,
        query: &Tensor,
        key: &Tensor,
        context: &Context<'_>,
    ) -> Result<Tensor> {
        let sums = || query.f_unsqueeze(-2)?.f_add(&key.f_unsqueeze(-3)?);
        match self {
            Self::Dot { scale } => {
                let scores = query.f_matmul(&key.f_transpose(-2, -1)?)?;
                Ok(match context.optional(*scale)? {
                    Some(scale) => scores.f_mul(&scale)?,
                    None => scores,
                })
            }
            Self::Concat { scale, weight } => {
                let sums = match context.optional(*scale)? {
                    Some(scale) => sums()?.f_mul(&scale)?,
                    None => sums()?,
                };
                let axis: &[i64] = &[-1];
                let scores = sums
                    .f_tanh()?
                    .f_sum_dim_intlist(axis, false, None::<Kind>)?;
                Ok(scores.f_mul(&context.variable(*weight)?)?)
            }
            Self::Additive { scale } => {
                let squashed = sums()?.f_tanh()?;
                let axis: &[i64] = &[-1];
                Ok(match context.optional(*scale)? {
                    Some(scale) => squashed.f_matmul(&scale)?,
                    None => squashed.f_sum_dim_intlist(axis, false, None::<Kind>)?,
                })
            }
        }
    }
}
