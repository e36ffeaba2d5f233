//! The activation functions on tensors, with TensorFlow's gradients also where a function has a
//! kink: libtorch's own functions differ there, so some are put together from simpler ones.

use tch::{TchError, Tensor};

type Result<T = Tensor> = std::result::Result<T, TchError>;

pub(crate) fn leaky_relu(x: &Tensor, slope: f64) -> Result {
    let weight = Tensor::f_full([1], slope, (x.f_kind()?, x.device()))?;
    x.f_prelu(&weight)
}

/// Keras's `relu(x, negative_slope, max_value, threshold)`, step by step.
pub(crate) fn bounded_relu(
    x: &Tensor,
    negative_slope: f64,
    max_value: Option<f64>,
    threshold: f64,
) -> Result {
    if negative_slope != 0.0 && max_value.is_none() && threshold == 0.0 {
        return leaky_relu(x, negative_slope);
    }
    let positive = if threshold != 0.0 {
        x.f_where_scalarother(&x.f_gt(threshold)?, 0)?
    } else if max_value == Some(6.0) {
        x.f_relu6()?
    } else {
        x.f_relu()?
    };
    let positive = match max_value {
        Some(max) if max != 6.0 || threshold != 0.0 => positive.f_clamp(0.0, max)?,
        _ => positive,
    };
    if negative_slope == 0.0 {
        return Ok(positive);
    }
    let negative = x.f_neg()?.f_add_scalar(threshold)?.f_relu()?;
    positive.f_sub(&negative.f_mul_scalar(negative_slope)?)
}

pub(crate) fn elu(x: &Tensor, alpha: f64) -> Result {
    let elu = x.f_elu()?;
    if alpha == 1.0 {
        return Ok(elu);
    }
    elu.f_where_self(&x.f_gt(0.0)?, &elu.f_mul_scalar(alpha)?)
}

pub(crate) fn selu(x: &Tensor) -> Result {
    // At 0 libtorch's own has the slope of the negative side.
    const ALPHA: f64 = 1.673_263_242_354_377_2;
    const SCALE: f64 = 1.050_700_987_355_480_5;
    let negative = x.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(ALPHA * SCALE)?;
    negative.f_where_self(&x.f_lt(0.0)?, &x.f_mul_scalar(SCALE)?)
}

pub(crate) fn celu(x: &Tensor, alpha: f64) -> Result {
    let negative = x.f_clamp_max(0.0)?.f_div_scalar(alpha)?.f_expm1()?;
    x.f_clamp_min(0.0)?.f_add(&negative.f_mul_scalar(alpha)?)
}

pub(crate) fn hard_silu(x: &Tensor) -> Result {
    x.f_mul(&x.f_hardsigmoid()?)
}

pub(crate) fn hard_shrink(x: &Tensor, threshold: f64) -> Result {
    x.f_where_scalarother(&x.f_abs()?.f_gt(threshold)?, 0)
}

pub(crate) fn soft_shrink(x: &Tensor, threshold: f64) -> Result {
    let below = x.f_add_scalar(threshold)?;
    let below = below.f_where_scalarother(&x.f_lt(-threshold)?, 0)?;
    let above = x.f_sub_scalar(threshold)?;
    above.f_where_self(&x.f_gt(threshold)?, &below)
}

pub(crate) fn softsign(x: &Tensor) -> Result {
    x.f_div(&x.f_abs()?.f_add_scalar(1.0)?)
}

pub(crate) fn sparse_plus(x: &Tensor) -> Result {
    let curve = x.f_add_scalar(1.0)?.f_square()?.f_mul_scalar(0.25)?;
    let upper = curve.f_where_self(&x.f_lt(1.0)?, x)?;
    upper.f_where_scalarother(&x.f_gt(-1.0)?, 0)
}

pub(crate) fn sparse_sigmoid(x: &Tensor) -> Result {
    let line = x.f_add_scalar(1.0)?.f_mul_scalar(0.5)?;
    let upper = line.f_where_scalarother(&x.f_lt(1.0)?, 1)?;
    upper.f_where_scalarother(&x.f_gt(-1.0)?, 0)
}

pub(crate) fn squareplus(x: &Tensor, b: f64) -> Result {
    let root = x.f_square()?.f_add_scalar(b)?.f_sqrt()?;
    x.f_add(&root)?.f_mul_scalar(0.5)
}

/// The nearest point of the simplex (Martins and Astudillo, 2016): what is above a threshold `tau`
/// that makes the rest sum to 1.
pub(crate) fn sparsemax(x: &Tensor, axis: i64) -> Result {
    let kind = x.f_kind()?;
    let (sorted, _) = x.f_sort(axis, true)?;
    let sums = sorted.f_cumsum(axis, kind)?;
    let ranks = sorted.f_ones_like()?.f_cumsum(axis, kind)?;
    let means = sums.f_sub_scalar(1.0)?.f_div(&ranks)?;
    let support = sorted.f_sub(&means)?.f_gt(0.0)?;
    let count = support.f_sum_dim_intlist(axis, true, kind)?;
    let total = sums.f_where_scalarother(&support, 0)?;
    let total = total.f_sum_dim_intlist(axis, true, kind)?;
    let tau = total.f_sub_scalar(1.0)?.f_div(&count)?;
    x.f_sub(&tau)?.f_clamp_min(0.0)
}
