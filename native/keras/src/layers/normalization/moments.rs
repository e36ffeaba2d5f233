//! Mean and variance of what a mask lets through, over the rows of all replicas.

use tch::{Kind, Tensor};

use crate::context::Context;
use crate::error::Result;

/// What Keras adds to the number of elements that a mask lets through, so that it divides by no
/// zero.
const EPSILON: f64 = 1e-7;

/// In the dtype of what they are of, with axes of 1 in place of those they are over; differentiable.
#[derive(Debug)]
pub(crate) struct Moments {
    pub(crate) mean: Tensor,
    pub(crate) variance: Tensor,
}

impl Moments {
    /// Those of `x`, of float32 or float64, over `axes`; `synchronized` over all replicas. The bool
    /// `mask` has the axes of `x` but the last.
    pub(crate) fn new(
        x: &Tensor,
        axes: &[i64],
        mask: Option<&Tensor>,
        synchronized: bool,
        context: &mut Context<'_>,
    ) -> Result<Self> {
        let own = sums(x, axes, mask)?;
        let all = if synchronized {
            context.sum(&own)?
        } else {
            own
        };
        let part = |at: i64| all.f_get(at);
        let (total, squares, count) = (part(0)?, part(1)?, part(2)?);
        let divisor = match mask {
            Some(_) => count.f_add_scalar(EPSILON)?,
            None => count.shallow_clone(),
        };
        let mean = total.f_div(&divisor)?;
        // Of the squares of differences: `sum x^2 - 2 mean sum x + count mean^2`.
        let squares = squares
            .f_sub(&mean.f_mul(&total)?.f_mul_scalar(2.0)?)?
            .f_add(&mean.f_square()?.f_mul(&count)?)?;
        let variance = squares.f_clamp_min(0.0)?.f_div(&divisor)?;
        Ok(Self {
            mean: mean.f_to_kind(x.kind())?,
            variance: variance.f_to_kind(x.kind())?,
        })
    }
}

/// Sums of the elements, of their squares and of ones: float64 `[3, ..]` with axes of 1 in place of
/// those summed over.
fn sums(x: &Tensor, axes: &[i64], mask: Option<&Tensor>) -> Result<Tensor> {
    let hidden = match mask {
        Some(mask) => Some(
            mask.f_to_kind(Kind::Bool)?
                .f_logical_not()?
                .f_unsqueeze(-1)?,
        ),
        None => None,
    };
    let sum = |values: &Tensor| -> Result<Tensor> {
        let values = match &hidden {
            Some(hidden) => values.f_masked_fill(hidden, 0.0)?,
            None => values.shallow_clone(),
        };
        Ok(values.f_sum_dim_intlist(axes, true, Kind::Double)?)
    };
    let one = Tensor::f_ones([1], (x.kind(), x.device()))?;
    let (total, count) = (sum(x)?, sum(&one.f_expand_as(x)?)?);
    // Squares around any number give those around 0; this one leaves float32 all of its digits.
    let center = total.f_detach()?.f_div(&count.f_clamp_min(1.0)?)?;
    let center = center.f_to_kind(x.kind())?;
    let around = sum(&x.f_sub(&center)?.f_square()?)?;
    let center = center.f_to_kind(Kind::Double)?;
    let squares = around
        .f_add(&total.f_mul(&center)?.f_mul_scalar(2.0)?)?
        .f_sub(&center.f_square()?.f_mul(&count)?)?;
    Ok(Tensor::f_stack(&[total, squares, count], 0)?)
}
