//! `GroupQueryAttention` (Ainslie et al., 2023): several heads of the query share one of key and
//! value. A rank of a tensor group has some of both.

use tch::Tensor;

use super::dot_product::{DotProduct, Heads};
use super::masks::{Masks, of_part, with_heads};
use super::multi_head::{Inputs, dropout, flag, mask_argument, sliding_window, splits};
use super::projection::{Projection, Projections, infer, project};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct GroupedQueryAttention {
    query: Built,
    key: Built,
    value: Built,
    gate: Option<Built>,
    output: Built,
    /// Heads of the query for each of key and value.
    repeats: i64,
    product: DotProduct,
    sliding_window: Option<i64>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    options.ignore(&["seed"]);
    let size = options.count("head_dim")?;
    let query_heads = options.count("num_query_heads")?;
    let key_heads = options.count("num_key_value_heads")?;
    if query_heads % key_heads != 0 {
        return Err(options.invalid(format!(
            "num_query_heads = {query_heads} must be a multiple of num_key_value_heads = \
             {key_heads}"
        )));
    }
    let inputs = Inputs::of(scope.args).map_err(|reason| scope.mismatch(reason))?;
    let (query, value, key) = (
        inputs.query.clone(),
        inputs.value.clone(),
        inputs.key().clone(),
    );
    for input in [&query, &value, &key] {
        input
            .require_rank(3)
            .map_err(|reason| scope.mismatch(reason))?;
    }
    let features = query.size(-1).map_err(|reason| scope.mismatch(reason))?;
    let dropout = dropout(scope)?;
    let sliding_window = sliding_window(scope)?;
    let use_gate = options.bool("use_gate", false)?;
    let all = Projections::read(scope)?;
    let (part, columns, rows) = splits(scope);
    let projection = |scope: &mut Scope<'_>, name, attribute, heads, input: &Spec| {
        let projection = Projection {
            name,
            attribute,
            free: 2,
            bound: 1,
            sizes: &[heads, size],
            activation: (name == "gate").then_some("sigmoid"),
            split: columns,
        };
        all.build(scope, &projection, input)
    };
    let query_dense = projection(scope, "query", "_query_dense", query_heads, &query)?;
    let key_dense = projection(scope, "key", "_key_dense", key_heads, &key)?;
    let gate = if use_gate {
        Some(projection(
            scope,
            "gate",
            "_gate_dense",
            query_heads,
            &query,
        )?)
    } else {
        None
    };
    let value_dense = projection(scope, "value", "_value_dense", key_heads, &value)?;
    let own_heads = Some(query_heads / part.ranks());
    let attended = [query.dims[0], query.dims[1], own_heads, Some(size)];
    let output = all.build(
        scope,
        &Projection {
            name: "attention_output",
            attribute: "_output_dense",
            free: 2,
            bound: 2,
            sizes: &[features],
            activation: None,
            split: rows,
        },
        &query.with_dims(attended),
    )?;
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let scale = 1.0 / (size as f64).sqrt();
    Ok(Built::layer(GroupedQueryAttention {
        query: query_dense,
        key: key_dense,
        value: value_dense,
        gate,
        output,
        repeats: query_heads / key_heads,
        product: DotProduct {
            scale,
            dropout,
            fused: dropout == 0.0,
            part,
        },
        sliding_window,
    }))
}

impl GroupedQueryAttention {
    /// `[batch, heads of the query, steps, size]` of a projected key or value.
    fn repeated(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_transpose(1, 2)?;
        if self.repeats == 1 {
            return Ok(x);
        }
        let [batch, heads, steps, size] = x.size()[..] else {
            return Err(Error::values("a projection gave no heads"));
        };
        let x = x.f_unsqueeze(2)?;
        let x = x.f_expand([batch, heads, self.repeats, steps, size], false)?;
        Ok(x.f_reshape([batch, heads * self.repeats, steps, size])?)
    }
}

impl Layer for GroupedQueryAttention {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = Inputs::of(args)?;
        let (query, key) = (
            infer(&self.query, inputs.query)?,
            infer(&self.key, inputs.key())?,
        );
        infer(&self.value, inputs.value)?;
        if key.dims[1] != inputs.value.dims[1] || inputs.query.dims[2] != inputs.value.dims[2] {
            let (query, value, key) = (inputs.query, inputs.value, inputs.key());
            return Err(format!(
                "needs key and value of the same steps, query and value of the same features; got \
                 query {query}, value {value}, key {key}"
            ));
        }
        let output = infer(&self.output, &query)?;
        if !flag(args, "return_attention_scores") {
            return Ok(Tree::Leaf(output));
        }
        let heads = query.dims[2].map(|heads| heads * self.product.part.ranks());
        let scores = [query.dims[0], heads, query.dims[1], key.dims[1]];
        let scores = output.with_dims(scores);
        Ok(Tree::List(vec![Tree::Leaf(output), Tree::Leaf(scores)]))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = Inputs::of(args).map_err(Error::values)?;
        let key_mask = mask_argument(args, 5, "key_mask")?;
        let masks = Masks {
            query: mask_argument(args, 3, "query_mask")?.or(inputs.query.mask()),
            value: mask_argument(args, 4, "value_mask")?.or(inputs.value.mask()),
            key: key_mask.or(inputs.key().mask().filter(|_| inputs.has_key())),
            attention: mask_argument(args, 6, "attention_mask")?,
        };
        let (q, k, v) = (inputs.query.y()?, inputs.key().y()?, inputs.value.y()?);
        let steps = [q, v].map(|x| x.size().get(1).copied().unwrap_or(0));
        let mask = masks.joined(self.sliding_window, steps, q.device())?;
        let gate = self
            .gate
            .as_ref()
            .map(|gate| project(gate, q, context))
            .transpose()?;
        let query = project(&self.query, q, context)?.f_transpose(1, 2)?;
        let key = self.repeated(&project(&self.key, k, context)?)?;
        let value = self.repeated(&project(&self.value, v, context)?)?;
        let heads = Heads {
            query: &query,
            key: &key,
            value: &value,
            mask: mask
                .map(|mask| of_part(with_heads(mask, 4, 2)?, 1, self.product.part))
                .transpose()?,
            causal: flag(args, "use_causal_mask"),
        };
        let with_scores = flag(args, "return_attention_scores");
        let (attended, scores) = self.product.attend(&heads, with_scores, context)?;
        let mut attended = attended.f_transpose(1, 2)?;
        if let Some(gate) = gate {
            attended = attended.f_mul(&gate)?;
        }
        let output = Tree::Leaf(project(&self.output, &attended, context)?.into());
        Ok(match scores {
            Some(scores) => Tree::List(vec![output, Tree::Leaf(scores.into())]),
            None => output,
        })
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        let inputs = Inputs::of(args).map_err(Error::values)?;
        Ok(inputs.query.mask().map(Tensor::shallow_clone))
    }
}
