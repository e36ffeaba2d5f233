//! `Attention` (Luong) and `AdditiveAttention` (Bahdanau): a list of query, value and perhaps key;
//! `softmax(score(q, k)) @ v`.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::masks::as_bool;
use super::multi_head::{dropout, flag};
use super::score::Score;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::layers::regularization::dropout::dropout_mask;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct DenseAttention {
    score: Score,
    dropout: f64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    options.ignore(&["seed"]);
    // Keras 2's, which became an argument of the call.
    options.require("causal", &Json::Bool(false))?;
    let dropout = dropout(scope)?;
    let score = Score::read(scope)?;
    Ok(Built::layer(DenseAttention { score, dropout }))
}

/// Query, value and key.
fn inputs<T>(args: &Args<T>) -> std::result::Result<[&T; 3], String> {
    args.allow(&[
        "inputs",
        "mask",
        "return_attention_scores",
        "use_causal_mask",
    ])?;
    match args.inputs().as_slice() {
        [query, value] => Ok([query, value, value]),
        [query, value, key] => Ok([query, value, key]),
        others => {
            let count = others.len();
            Err(format!(
                "takes a list of query, value and perhaps key, got {count} tensors"
            ))
        }
    }
}

/// The masks of query and value: those of the argument, else their own.
fn masks(args: &Args<Value>) -> Result<[Option<&Tensor>; 2]> {
    let [query, value, _] = inputs(args).map_err(Error::values)?;
    match args.get(1, "mask") {
        None | Some(Tree::Constant(Json::Null)) => Ok([query.mask(), value.mask()]),
        Some(Tree::Constant(_)) => Ok([None, None]),
        Some(Tree::List(items)) if items.len() >= 2 => {
            let mask = |at: usize| items[at].leaf().map(Value::y).transpose();
            Ok([mask(0)?, mask(1)?])
        }
        Some(_) => Err(Error::values(
            "mask must be a list of the query's and the value's",
        )),
    }
}

impl Layer for DenseAttention {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let [query, value, key] = inputs(args)?;
        let rank = query.rank();
        let same_size = match (query.dims.last(), key.dims.last()) {
            (Some(Some(a)), Some(Some(b))) => a == b,
            _ => true,
        };
        if rank < 3 || value.rank() != rank || key.rank() != rank || !same_size {
            return Err(format!(
                "needs query, value and key of the same number of axes, at least 3, and query and \
                 key of the same features; got {query}, {value}, {key}"
            ));
        }
        let with_last = |size| [&query.dims[..rank - 1], &[size]].concat();
        let output = query.with_dims(with_last(value.dims[rank - 1]));
        if !flag(args, "return_attention_scores") {
            return Ok(Tree::Leaf(output));
        }
        let scores = query.with_dims(with_last(key.dims[rank - 2]));
        Ok(Tree::List(vec![Tree::Leaf(output), Tree::Leaf(scores)]))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let [query, value, key] = inputs(args).map_err(Error::values)?;
        let (query, value, key) = (query.y()?, value.y()?, key.y()?);
        let [query_mask, value_mask] = masks(args)?;
        let with_scores = flag(args, "return_attention_scores");
        let mask = scores_mask(query, key, value_mask, flag(args, "use_causal_mask"))?;
        let drops = context.training && self.dropout > 0.0;
        let plain = !with_scores && !drops && query.dim() == 3 && query.f_kind()? == Kind::Float;
        let (mut output, weights) = match &self.score {
            Score::Dot { scale } if plain => {
                let query = match context.optional(*scale)? {
                    Some(scale) => query.f_mul(&scale)?,
                    None => query.shallow_clone(),
                };
                (fused_product(&query, key, value, mask.as_ref())?, None)
            }
            _ => {
                let weights = self.weights(query, key, mask.as_ref(), context)?;
                (weights.f_matmul(value)?, with_scores.then_some(weights))
            }
        };
        if let Some(mask) = query_mask {
            let blocked = as_bool(mask)?.f_logical_not()?.f_unsqueeze(-1)?;
            output = output.f_masked_fill(&blocked, 0.0)?;
        }
        let output = Tree::Leaf(output.into());
        Ok(match weights {
            Some(weights) => Tree::List(vec![output, Tree::Leaf(weights.into())]),
            None => output,
        })
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        let [query, _] = masks(args)?;
        Ok(query.map(Tensor::shallow_clone))
    }
}

impl DenseAttention {
    /// The softmax of the scores, with what training drops dropped.
    fn weights(
        &self,
        query: &Tensor,
        key: &Tensor,
        mask: Option<&Tensor>,
        context: &mut Context<'_>,
    ) -> Result<Tensor> {
        let mut scores = self.score.compute(query, key, context)?;
        if let Some(mask) = mask {
            scores = scores.f_add(mask)?;
        }
        let weights = scores.f_softmax(-1, None)?;
        if !context.training || self.dropout == 0.0 {
            return Ok(weights);
        }
        let factors = dropout_mask(context.rng(), self.dropout, &weights.size())?;
        let factors = factors
            .f_to_device(weights.device())?
            .f_to_kind(weights.f_kind()?)?;
        Ok(weights.f_mul(&factors)?)
    }
}

/// What is added to the scores: 0 where they count, else a large negative number. A row without
/// any that count has equal scores, as in Keras.
fn scores_mask(
    query: &Tensor,
    key: &Tensor,
    value_mask: Option<&Tensor>,
    causal: bool,
) -> Result<Option<Tensor>> {
    let mut mask = match value_mask {
        Some(mask) if causal || mask.dim() == 2 => Some(as_bool(mask)?.f_unsqueeze(-2)?),
        Some(mask) => Some(as_bool(mask)?),
        None => None,
    };
    if causal {
        let steps = |x: &Tensor| x.size().iter().rev().nth(1).copied().unwrap_or(0);
        let size = [1, steps(query), steps(key)];
        let causal = Tensor::f_ones(size, (Kind::Bool, query.device()))?.f_tril(0)?;
        mask = Some(match mask {
            Some(mask) => mask.f_logical_and(&causal)?,
            None => causal,
        });
    }
    let kind = query.f_kind()?;
    let low = if kind == Kind::Half { -65504.0 } else { -1e9 };
    let added = |mask: Tensor| Ok(Tensor::f_where_scalar(&mask, 0.0, low)?.f_to_kind(kind)?);
    mask.map(added).transpose()
}

/// The product by libtorch's fused kernel, as one head.
fn fused_product(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let mask = mask.map(|mask| mask.f_unsqueeze(1)).transpose()?;
    let output = Tensor::f_scaled_dot_product_attention(
        &query.f_unsqueeze(1)?,
        &key.f_unsqueeze(1)?,
        &value.f_unsqueeze(1)?,
        mask,
        0.0,
        false,
        1.0,
        false,
    )?;
    Ok(output.f_squeeze_dim(1)?)
}
