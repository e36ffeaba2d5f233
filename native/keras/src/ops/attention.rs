//! `DotProductAttention`: of queries `[batch, T, heads, H]` on keys and values
//! `[batch, S, heads, H]`.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::operand::{Operand, checked, converted, device, operands, optional};
use super::promotion::at_least_float32;
use super::{Family, failed, single};
use crate::arguments::Args;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::literals::number;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

pub(super) const OPS: Family = &[("DotProductAttention", attention)];

/// What Keras puts in place of the logits of masked places.
const MASKED: f64 = -0.7 * 3.38953e38;

fn attention(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let causal = options.bool("is_causal", false)?;
    options.require_null("attn_logits_soft_cap")?;
    if options.value("flash_attention") != Some(&Json::Bool(false)) {
        options.require_null("flash_attention")?;
    }
    Ok(single(
        |args| {
            let [query, key, value] = operands(args, ["query", "key", "value"])?;
            let specs = [query.spec()?, key.spec()?, value.spec()?];
            for spec in &specs {
                spec.require_rank(4)?;
            }
            let kind = converted(&[query, key, value])?;
            let mut dims = specs[0].dims.clone();
            dims[3] = specs[2].dims[3];
            Ok(Spec::new(dims, DType::Tensor(kind)))
        },
        move |args| attend(args, causal),
    ))
}

fn attend(args: &Args<Value>, causal: bool) -> Result<Tensor> {
    let device = device(args);
    let given = checked(operands(args, ["query", "key", "value"]))?;
    let kind = checked(converted(&given))?;
    // To [batch, heads, steps, H].
    let heads_first = |operand: Operand<'_, Value>| -> Result<Tensor> {
        Ok(operand.tensor(kind, device)?.f_transpose(1, 2)?)
    };
    let [query, key, value] = given;
    let query = heads_first(query)?;
    let (query_heads, key_heads) = (query.size()[1], given[1].dims()[2].unwrap_or(1));
    let shared = |operand| -> Result<Tensor> {
        let heads = heads_first(operand)?;
        if query_heads > key_heads && key_heads > 1 {
            let times = query_heads / key_heads;
            return Ok(heads.f_repeat_interleave_self_int(times, 1, None)?);
        }
        Ok(heads)
    };
    let (key, value) = (shared(key)?, shared(value)?);
    #[expect(clippy::cast_precision_loss, reason = "a width is small")]
    let width = key.size().last().copied().unwrap_or(1) as f64;
    let scale = match args.get(5, "scale").and_then(|tree| tree.constant()) {
        Some(scale) if !scale.is_null() => {
            number(scale).ok_or_else(|| failed("takes a number as scale"))?
        }
        _ => 1.0 / width.sqrt(),
    };
    let bias = checked(optional(args, 3, "bias"))?;
    let mask = checked(optional(args, 4, "mask"))?;
    let square = query.size()[2] == key.size()[2];
    let equal_heads = query.size()[1] == key.size()[1];
    if bias.is_none() && mask.is_none() && (square || !causal) && equal_heads {
        let none = None::<Tensor>;
        let y = Tensor::f_scaled_dot_product_attention(
            &query, &key, &value, none, 0.0, causal, scale, false,
        )?;
        return Ok(y.f_transpose(1, 2)?);
    }
    let wide = at_least_float32(kind);
    let logits = query.f_matmul(&key.f_transpose(2, 3)?)?.f_to_kind(wide)?;
    let mut logits = logits.f_mul_scalar(scale)?;
    if let Some(bias) = bias {
        logits = logits.f_add(&bias.tensor(kind, device)?.f_to_kind(wide)?)?;
    }
    if let Some(mask) = mask {
        let hidden = mask.tensor(Kind::Bool, device)?.f_logical_not()?;
        logits = logits.f_masked_fill(&hidden, MASKED)?;
    }
    if causal {
        let size = logits.size();
        let seen = Tensor::f_ones(&size[2..], (Kind::Bool, device))?.f_tril(0)?;
        logits = logits.f_masked_fill(&seen.f_logical_not()?, MASKED)?;
    }
    let shares = logits.f_softmax(-1, None)?.f_to_kind(kind)?;
    Ok(shares.f_matmul(&value)?.f_transpose(1, 2)?)
}
