//! `MultiHeadAttention` (Vaswani et al., 2017) over any axes between batch and features.
//!
//! A rank of a tensor group has some of the heads; what they give is summed.
//!
//! As Keras does, a call takes the masks away from its inputs: what is computed from them later
//! has none.

use serde_json::Value as Json;
use tch::Tensor;

use super::dot_product::{DotProduct, Heads};
use super::masks::{Masks, of_part, with_heads};
use super::projection::{Projection, Projections, infer, project};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::graph::Split;
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::{Spec, position};
use crate::tensor_group::TensorPart;
use crate::value::Value;

#[derive(Debug)]
struct MultiHeadAttention {
    query: Built,
    key: Built,
    value: Built,
    gate: Option<Built>,
    output: Built,
    layout: HeadLayout,
    product: DotProduct,
    sliding_window: Option<i64>,
}

/// Where a projected tensor `[batch, ..., heads, size]` has its axes.
#[derive(Debug)]
struct HeadLayout {
    /// The axes of the batch, of the heads last, then those attended over, then the size.
    order: Vec<i64>,
    /// How many are attended over.
    attended: usize,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    // Keras 2 wrote the shapes; the calls say them.
    options.ignore(&["query_shape", "value_shape", "key_shape", "seed"]);
    let (heads, key_dim) = (options.count("num_heads")?, options.count("key_dim")?);
    let value_dim = match options.value("value_dim") {
        None => key_dim,
        Some(_) => options.count("value_dim")?,
    };
    let inputs = Inputs::of(scope.args).map_err(|reason| scope.mismatch(reason))?;
    let (query, value, key) = (
        inputs.query.clone(),
        inputs.value.clone(),
        inputs.key().clone(),
    );
    let rank = query.rank();
    if rank < 3 || value.rank() != rank || key.rank() != rank {
        return Err(scope.mismatch(format!(
            "needs query, value and key of the same number of axes, at least 3; got {query}, \
             {value} and {key}"
        )));
    }
    let layout = HeadLayout::read(scope, rank)?;
    let dropout = dropout(scope)?;
    let sliding_window = sliding_window(scope)?;
    let use_gate = options.bool("use_gate", false)?;
    let output_shape = output_shape(scope, &query)?;
    let all = Projections::read(scope)?;
    let free = rank - 1;
    let (part, columns, rows) = splits(scope);
    let projection = |scope: &mut Scope<'_>, name, attribute, size, input: &Spec| {
        let projection = Projection {
            name,
            attribute,
            free,
            bound: 1,
            sizes: &[heads, size],
            activation: (name == "gate").then_some("sigmoid"),
            split: columns,
        };
        all.build(scope, &projection, input)
    };
    let query_dense = projection(scope, "query", "query_dense", key_dim, &query)?;
    let key_dense = projection(scope, "key", "key_dense", key_dim, &key)?;
    let gate = if use_gate {
        Some(projection(scope, "gate", "_gate_dense", value_dim, &query)?)
    } else {
        None
    };
    let value_dense = projection(scope, "value", "value_dense", value_dim, &value)?;
    let mut attended = query.dims[..rank - 1].to_vec();
    attended.extend([Some(heads / part.ranks()), Some(value_dim)]);
    let output = all.build(
        scope,
        &Projection {
            name: "attention_output",
            attribute: "output_dense",
            free,
            bound: 2,
            sizes: &output_shape,
            activation: None,
            split: rows,
        },
        &query.with_dims(attended),
    )?;
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let scale = 1.0 / (key_dim as f64).sqrt();
    Ok(Built::layer(MultiHeadAttention {
        query: query_dense,
        key: key_dense,
        value: value_dense,
        gate,
        output,
        layout,
        product: DotProduct {
            scale,
            dropout,
            fused: dropout == 0.0 && rank == 3,
            part,
        },
        sliding_window,
    }))
}

/// Which part of the heads is here, and what the projections to heads and from them do.
pub(super) fn splits(scope: &Scope<'_>) -> (TensorPart, Split, Split) {
    match scope.place.split {
        Split::Inside => (scope.place.tensor, Split::Columns, Split::Rows),
        _ => (TensorPart::WHOLE, Split::Whole, Split::Whole),
    }
}

/// Option `dropout`.
pub(super) fn dropout(scope: &Scope<'_>) -> Result<f64> {
    let options = scope.options;
    let dropout = options.f64("dropout", 0.0)?;
    if !(0.0..=1.0).contains(&dropout) {
        return Err(options.invalid(format!("dropout = {dropout} must be in 0.0..=1.0")));
    }
    Ok(dropout)
}

/// Option `sliding_window`.
pub(super) fn sliding_window(scope: &Scope<'_>) -> Result<Option<i64>> {
    match scope.options.value("sliding_window") {
        None => Ok(None),
        Some(_) => scope.options.count("sliding_window").map(Some),
    }
}

/// Option `output_shape`: the sizes that take the place of the features, by default theirs.
fn output_shape(scope: &Scope<'_>, query: &Spec) -> Result<Vec<i64>> {
    let Some(value) = scope.options.value("output_shape") else {
        let size = query.size(-1).map_err(|reason| scope.mismatch(reason))?;
        return Ok(vec![size]);
    };
    let positive = |value: &Json| value.as_i64().filter(|&n| n > 0);
    let sizes = match value {
        Json::Array(items) => items.iter().map(positive).collect::<Option<Vec<_>>>(),
        value => positive(value).map(|size| vec![size]),
    };
    sizes.filter(|sizes| !sizes.is_empty()).ok_or_else(|| {
        scope.options.invalid(format!(
            "output_shape = {value} must be a positive integer or a list of them"
        ))
    })
}

/// What a call attends with.
#[derive(Debug)]
pub(super) struct Inputs<'a, T> {
    pub(super) query: &'a T,
    pub(super) value: &'a T,
    key: Option<&'a T>,
}

impl<'a, T> Inputs<'a, T> {
    /// Finds them by position or name.
    pub(super) fn of(args: &'a Args<T>) -> std::result::Result<Self, String> {
        args.allow(&[
            "query",
            "value",
            "key",
            "query_mask",
            "value_mask",
            "key_mask",
            "attention_mask",
            "return_attention_scores",
            "use_causal_mask",
        ])?;
        let missing = |name: &str| format!("is called without {name}");
        Ok(Self {
            query: args.value(0, "query").ok_or_else(|| missing("query"))?,
            value: args.value(1, "value").ok_or_else(|| missing("value"))?,
            key: args.value(2, "key"),
        })
    }

    pub(super) fn key(&self) -> &'a T {
        self.key.unwrap_or(self.value)
    }

    /// Whether Keras looks at a mask of the key besides that of the value.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// A boolean argument of a call.
pub(super) fn flag<T>(args: &Args<T>, name: &str) -> bool {
    let value = args.by_name(name).and_then(Tree::constant);
    value.and_then(Json::as_bool).unwrap_or(false)
}

/// The tensor of an argument that is a mask.
pub(super) fn mask_argument<'a>(
    args: &'a Args<Value>,
    place: usize,
    name: &str,
) -> Result<Option<&'a Tensor>> {
    args.value(place, name).map(Value::y).transpose()
}

impl HeadLayout {
    /// Reads option `attention_axes` for inputs of `rank` axes: by default all between batch and
    /// features.
    fn read(scope: &Scope<'_>, rank: usize) -> Result<Self> {
        let options = scope.options;
        let axes = match options.value("attention_axes") {
            None => (1..rank - 1).collect(),
            Some(value) => {
                let axis = |value: &Json| {
                    let axis = position(value.as_i64()?, rank)?;
                    (1..rank - 1).contains(&axis).then_some(axis)
                };
                let axes = match value {
                    Json::Array(items) => items.iter().map(axis).collect(),
                    value => axis(value).map(|axis| vec![axis]),
                };
                let axes: Option<Vec<usize>> = axes;
                let once = |axes: &Vec<usize>| {
                    (1..axes.len()).all(|at| !axes[..at].contains(&axes[at])) && !axes.is_empty()
                };
                axes.filter(once).ok_or_else(|| {
                    options.unsupported(
                        "attention_axes",
                        value,
                        &format!("axes from 1 to {}, each once", rank - 2),
                    )
                })?
            }
        };
        // Behind the projection the heads stand at `rank - 1`, their size at `rank`.
        let batch = (0..rank).filter(|axis| !axes.contains(axis));
        let order = batch.chain(axes.iter().copied()).chain([rank]);
        Ok(Self {
            order: order.filter_map(|axis| i64::try_from(axis).ok()).collect(),
            attended: axes.len(),
        })
    }

    /// `[batch, heads, attended, size]` with the axes of each kind joined, and the sizes before.
    fn heads(&self, x: &Tensor) -> Result<(Tensor, Vec<i64>)> {
        let x = x.f_permute(self.order.as_slice())?;
        let size = x.size();
        let (batch, attended) = size[..size.len() - 1].split_at(self.batch());
        let (heads, batch) = batch.split_last().unwrap_or((&1, &[]));
        let joined = [
            batch.iter().product(),
            *heads,
            attended.iter().product(),
            size.last().copied().unwrap_or(0),
        ];
        Ok((x.f_reshape(joined)?, size))
    }

    /// Axes of batch and heads.
    fn batch(&self) -> usize {
        self.order.len() - 1 - self.attended
    }

    /// The inverse of [`Self::heads`] for an output with the query's `size` but its last.
    fn restore(&self, x: &Tensor, size: &[i64]) -> Result<Tensor> {
        let mut size = size.to_vec();
        if let (Some(last), Some(own)) = (size.last_mut(), x.size().last()) {
            *last = *own;
        }
        let mut inverse: Vec<(i64, i64)> = self.order.iter().copied().zip(0..).collect();
        inverse.sort_unstable();
        let inverse: Vec<i64> = inverse.into_iter().map(|(_, at)| at).collect();
        Ok(x.f_reshape(size)?.f_permute(inverse)?)
    }

    /// The sizes of scores with all axes apart.
    fn scores_size<T: Clone>(&self, query: &[T], key: &[T]) -> Vec<T> {
        let batch = self.batch();
        let attended = batch..batch + self.attended;
        [&query[..attended.end], &key[attended]].concat()
    }

    /// A mask of the scores, joined as they are, for the heads of `part`.
    fn mask(&self, mask: Tensor, query: &[i64], key: &[i64], part: TensorPart) -> Result<Tensor> {
        let size = self.scores_size(query, key);
        let mask = with_heads(mask, size.len(), 2 * self.attended)?;
        let mask = of_part(mask, self.batch() - 1, part)?;
        if size.len() == 4 {
            return Ok(mask);
        }
        let (batch, attended) = size.split_at(self.batch());
        let (heads, batch) = batch.split_last().unwrap_or((&1, &[]));
        let (queries, keys) = attended.split_at(self.attended);
        let joined = [
            batch.iter().product(),
            *heads,
            queries.iter().product(),
            keys.iter().product(),
        ];
        Ok(mask.f_expand(size.as_slice(), false)?.f_reshape(joined)?)
    }
}

impl Layer for MultiHeadAttention {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = Inputs::of(args)?;
        let (query, key) = (
            infer(&self.query, inputs.query)?,
            infer(&self.key, inputs.key())?,
        );
        let value = infer(&self.value, inputs.value)?;
        let between = 1..key.rank() - 2;
        if key.dims[between.clone()] != value.dims[between] {
            let (key, value) = (inputs.key(), inputs.value);
            return Err(format!(
                "needs key and value of the same steps, got {key} and {value}"
            ));
        }
        let mut attended = query.clone();
        if let (Some(last), Some(size)) = (attended.dims.last_mut(), value.dims.last()) {
            *last = *size;
        }
        let output = infer(&self.output, &attended)?;
        if !flag(args, "return_attention_scores") {
            return Ok(Tree::Leaf(output));
        }
        let permuted = |spec: &Spec| {
            let axes = self
                .layout
                .order
                .iter()
                .filter_map(|&axis| usize::try_from(axis).ok());
            axes.map(|axis| spec.dims[axis]).collect::<Vec<_>>()
        };
        let mut scores = self.layout.scores_size(&permuted(&query), &permuted(&key));
        let heads = &mut scores[self.layout.batch() - 1];
        *heads = heads.map(|heads| heads * self.product.part.ranks());
        let scores = output.with_dims(scores);
        Ok(Tree::List(vec![Tree::Leaf(output), Tree::Leaf(scores)]))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = Inputs::of(args).map_err(Error::values)?;
        let causal = flag(args, "use_causal_mask");
        let with_scores = flag(args, "return_attention_scores");
        // An argument `query_mask` has no influence in Keras: only the query's own mask has.
        let query_mask = inputs.query.mask().map(Tensor::shallow_clone);
        let own = |given: Option<&'_ Tensor>, value: &Value| {
            given.or(value.mask()).map(Tensor::shallow_clone)
        };
        let value_mask = own(mask_argument(args, 4, "value_mask")?, inputs.value);
        let key_mask = mask_argument(args, 5, "key_mask")?;
        let key_mask = if inputs.has_key() {
            own(key_mask, inputs.key())
        } else {
            key_mask.map(Tensor::shallow_clone)
        };
        for input in [inputs.query, inputs.value, inputs.key()] {
            input.take_mask();
        }
        let masks = Masks {
            query: query_mask.as_ref(),
            value: value_mask.as_ref(),
            key: key_mask.as_ref(),
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
        let (query, query_size) = self.layout.heads(&project(&self.query, q, context)?)?;
        let (key, key_size) = self.layout.heads(&project(&self.key, k, context)?)?;
        let (value, _) = self.layout.heads(&project(&self.value, v, context)?)?;
        let part = self.product.part;
        let mask = mask.map(|mask| self.layout.mask(mask, &query_size, &key_size, part));
        let heads = Heads {
            query: &query,
            key: &key,
            value: &value,
            mask: mask.transpose()?,
            causal,
        };
        let (attended, scores) = self.product.attend(&heads, with_scores, context)?;
        let mut attended = self.layout.restore(&attended, &query_size)?;
        if let Some(gate) = gate {
            attended = attended.f_mul(&gate)?;
        }
        let output = Value::new(project(&self.output, &attended, context)?);
        let output = Tree::Leaf(output.with_mask(query_mask));
        let Some(scores) = scores else {
            return Ok(output);
        };
        let mut size = self.layout.scores_size(&query_size, &key_size);
        size[self.layout.batch() - 1] *= part.ranks();
        Ok(Tree::List(vec![
            output,
            Tree::Leaf(scores.f_reshape(size)?.into()),
        ]))
    }
}
