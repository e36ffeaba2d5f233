//! Scaled dot-product attention of several heads: `softmax(scale * q @ k^T) @ v`.
//!
//! Keras computes it in two ways that differ in rows without any key to attend to. Its fused way
//! (`ops.dot_product_attention`) gives such a row the mean of all values, masked ones too; the way
//! that has scores at hand, for dropout or to return them, gives zeros. libtorch's fused kernel does
//! neither of itself, but both with a large negative number added to masked scores and the queries
//! of such rows set to 0: so its scores are equal, and no gradient comes back.

use tch::{Kind, Tensor};

use crate::context::Context;
use crate::error::Result;
use crate::layers::regularization::dropout::dropout_mask_of_part;
use crate::tensor_group::TensorPart;

/// Rules of one layer.
#[derive(Debug)]
pub(super) struct DotProduct {
    pub(super) scale: f64,
    /// Share of the scores that training drops.
    pub(super) dropout: f64,
    /// Whether Keras takes its fused way where no scores are wanted.
    pub(super) fused: bool,
    /// Which part of the heads a call sees.
    pub(super) part: TensorPart,
}

/// Tensors of one call.
#[derive(Debug)]
pub(super) struct Heads<'a> {
    /// `[batch, heads, T, size]`.
    pub(super) query: &'a Tensor,
    /// `[batch, heads, S, size]`.
    pub(super) key: &'a Tensor,
    /// `[batch, heads, S, value size]`.
    pub(super) value: &'a Tensor,
    /// Where queries may look, broadcast to `[batch, heads, T, S]`.
    pub(super) mask: Option<Tensor>,
    /// Whether query `i` sees only keys up to `i`, besides the mask.
    pub(super) causal: bool,
}

impl DotProduct {
    /// The output `[batch, heads, T, value size]`, and the scores `[batch, heads, T, S]` of all heads of
    /// the layer, before dropout, if they are wanted.
    pub(super) fn attend(
        &self,
        heads: &Heads<'_>,
        with_scores: bool,
        context: &mut Context<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        if with_scores || (context.training && self.dropout > 0.0) {
            let (output, scores) = self.by_scores(heads, context)?;
            if !with_scores {
                return Ok((output, None));
            }
            if self.part == TensorPart::WHOLE {
                return Ok((output, Some(scores)));
            }
            let scores = context.gathered(&scores, 1, self.part)?;
            return Ok((output, Some(scores)));
        }
        Ok((self.by_kernel(heads)?, None))
    }

    fn by_scores(&self, heads: &Heads<'_>, context: &mut Context<'_>) -> Result<(Tensor, Tensor)> {
        let query = heads.query.f_mul_scalar(self.scale)?;
        let mut scores = query.f_matmul(&heads.key.f_transpose(-2, -1)?)?;
        let blocked = heads.whole_mask()?;
        let blocked = blocked.map(|mask| mask.f_logical_not()).transpose()?;
        if let Some(blocked) = &blocked {
            let low = if scores.f_kind()? == Kind::Half {
                -3e4
            } else {
                -1e9
            };
            scores = scores.f_masked_fill(blocked, low)?;
        }
        scores = scores.f_softmax(-1, None)?;
        if let Some(blocked) = &blocked {
            scores = scores.f_masked_fill(blocked, 0.0)?;
        }
        let output = if context.training && self.dropout > 0.0 {
            let size = scores.size();
            let factors = dropout_mask_of_part(context.rng(), self.dropout, &size, 1, self.part)?;
            let factors = factors
                .f_to_device(scores.device())?
                .f_to_kind(scores.f_kind()?)?;
            scores.f_mul(&factors)?.f_matmul(heads.value)?
        } else {
            scores.f_matmul(heads.value)?
        };
        Ok((output, scores))
    }

    fn by_kernel(&self, heads: &Heads<'_>) -> Result<Tensor> {
        let (mut query, mut added, mut blind) = (heads.query.shallow_clone(), None, None);
        let alone = heads.causal && heads.mask.is_none();
        if let (false, Some(mut mask)) = (alone, heads.whole_mask()?) {
            let sees = mask.f_any_dim(-1, true)?;
            if !sees.f_all()?.f_is_nonzero()? {
                let rows = sees.f_logical_not()?;
                // Equal scores give the mean of all values. They must be small: the kernel's
                // backward pass would lose the number of keys beside a huge one.
                query = query.f_masked_fill(&rows, 0.0)?;
                mask = mask.f_logical_or(&rows)?;
                blind = Some(rows);
            }
            added = Some(additive(&mask, query.f_kind()?)?);
        }
        let output = Tensor::f_scaled_dot_product_attention(
            &query,
            heads.key,
            heads.value,
            added,
            0.0,
            alone,
            self.scale,
            false,
        )?;
        match blind {
            Some(rows) if !self.fused => Ok(output.f_masked_fill(&rows, 0.0)?),
            _ => Ok(output),
        }
    }
}

impl Heads<'_> {
    /// The mask with causality in it.
    fn whole_mask(&self) -> Result<Option<Tensor>> {
        let own = self.mask.as_ref();
        if !self.causal {
            return Ok(own.map(Tensor::shallow_clone));
        }
        let axis = |x: &Tensor| x.size().get(2).copied().unwrap_or(0);
        let size = [axis(self.query), axis(self.key)];
        let causal = Tensor::f_ones(size, (Kind::Bool, self.query.device()))?.f_tril(0)?;
        Ok(Some(match own {
            Some(own) => own.f_logical_and(&causal)?,
            None => causal.f_view([1, 1, size[0], size[1]])?,
        }))
    }
}

/// 0 where the mask is true, else a number that no score outweighs: Keras's own in float32.
fn additive(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    let low = if kind == Kind::Half { -6.5e4 } else { -2.37e38 };
    Ok(Tensor::f_where_scalar(mask, 0.0, low)?.f_to_kind(kind)?)
}
