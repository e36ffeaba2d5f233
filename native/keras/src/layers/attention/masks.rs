//! Where queries may look: Keras's masks of the inputs, the call's own mask and the sliding window,
//! joined (`_compute_attention_mask`).

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::tensor_group::TensorPart;

/// The masks of one call.
#[derive(Debug, Default)]
pub(super) struct Masks<'a> {
    /// `[batch, T]`: queries that are no padding.
    pub(super) query: Option<&'a Tensor>,
    /// `[batch, S]`: values that are no padding.
    pub(super) value: Option<&'a Tensor>,
    /// `[batch, S]`: keys that are no padding.
    pub(super) key: Option<&'a Tensor>,
    /// The argument `attention_mask`, `[batch, T, S]` or with a place for the heads.
    pub(super) attention: Option<&'a Tensor>,
}

impl Masks<'_> {
    /// All of them as one of at least three axes; `window` leaves each query the keys less than so
    /// many steps away, among `queries` and `keys`.
    pub(super) fn joined(
        &self,
        window: Option<i64>,
        [queries, keys]: [i64; 2],
        device: Device,
    ) -> Result<Option<Tensor>> {
        let mut joined: Option<Tensor> = None;
        let mut join = |mask: Tensor| -> Result<()> {
            joined = Some(match &joined {
                Some(joined) => joined.f_logical_and(&mask)?,
                None => mask,
            });
            Ok(())
        };
        for (mask, axis) in [(self.query, -1), (self.value, -2), (self.key, -2)] {
            if let Some(mask) = mask {
                join(as_bool(mask)?.f_unsqueeze(axis)?)?;
            }
        }
        if let Some(window) = window {
            let band = Tensor::f_ones([queries, keys], (Kind::Bool, device))?;
            let band = band.f_tril(window - 1)?.f_triu(1 - window)?;
            join(band.f_unsqueeze(0)?)?;
        }
        if let Some(mask) = self.attention {
            join(as_bool(mask)?)?;
        }
        Ok(joined)
    }
}

pub(super) fn as_bool(mask: &Tensor) -> Result<Tensor> {
    Ok(mask.f_to_kind(Kind::Bool)?)
}

/// Of a mask with an axis of heads, what is of the heads of `part`.
pub(super) fn of_part(mask: Tensor, axis: usize, part: TensorPart) -> Result<Tensor> {
    if part == TensorPart::WHOLE || mask.size().get(axis).is_none_or(|&heads| heads == 1) {
        return Ok(mask);
    }
    part.narrow(&mask, axis)
}

/// The mask with axes of 1 for what stands before `behind` axes of queries and keys, up to `rank`.
pub(super) fn with_heads(mask: Tensor, rank: usize, behind: usize) -> Result<Tensor> {
    let size = mask.size();
    if size.len() > rank || size.len() < behind {
        return Err(Error::values(format!(
            "a mask of shape {size:?} does not fit attention scores of {rank} axes, of which \
             {behind} are queries and keys"
        )));
    }
    let place = i64::try_from(size.len() - behind).unwrap_or(0);
    let mut mask = mask;
    while mask.dim() < rank {
        mask = mask.f_unsqueeze(place)?;
    }
    Ok(mask)
}
