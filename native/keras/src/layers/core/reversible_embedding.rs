//! `ReversibleEmbedding`: an `Embedding` that, called with `reverse=True`, projects vectors back to
//! a number for each id, by the same matrix or by one of its own.

use tch::Kind;

use super::embedding::Embedding;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;
use crate::variables::Handle;

#[derive(Debug)]
struct ReversibleEmbedding {
    embedding: Embedding,
    /// `[width, rows]`; `None` where the embeddings are used for both ways.
    reverse_embeddings: Option<Handle>,
    /// What the way back is computed in, if not in what comes.
    reverse_dtype: Option<Kind>,
    logit_soft_cap: Option<f64>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let embedding = Embedding::read(scope)?;
    let shape = [embedding.width, embedding.rows];
    let reverse_embeddings = if options.bool("tie_weights", true)? {
        None
    } else {
        // The same initializer, without regularizer and constraint.
        let initializer = scope.initializer("embeddings", "uniform")?;
        Some(scope.initialized_weight("reverse_embeddings", &shape, initializer)?)
    };
    let reverse_dtype = match options.value("reverse_dtype") {
        None => None,
        Some(value) => {
            let dtype = value.as_str().and_then(DType::from_name);
            let kind = dtype.filter(|dtype| dtype.is_float()).and_then(DType::kind);
            let wrong =
                || options.invalid(format!("reverse_dtype = {value} must be a float dtype"));
            Some(kind.ok_or_else(wrong)?)
        }
    };
    let layer = ReversibleEmbedding {
        embedding,
        reverse_embeddings,
        reverse_dtype,
        logit_soft_cap: options.optional_f64("logit_soft_cap")?,
    };
    Ok(Built::layer(layer).without_autocast())
}

/// Whether a call goes the way back.
fn is_reverse<T>(args: &Args<T>) -> bool {
    let reverse = args.constant(1, "reverse");
    reverse
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false)
}

/// The dtype of a product of two float dtypes.
fn promoted(a: Kind, b: Kind) -> Kind {
    if a == b { a } else { Kind::Float }
}

impl Layer for ReversibleEmbedding {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        args.allow(&["reverse"])?;
        let input = args.only()?;
        if !is_reverse(args) {
            return Ok(Tree::Leaf(self.embedding.rows_spec(input)));
        }
        let (width, expected) = (input.size(-1)?, self.embedding.width);
        if width != expected {
            return Err(format!(
                "projects vectors of width {expected} back, got {input}"
            ));
        }
        let mut dims = input.dims.clone();
        if let Some(last) = dims.last_mut() {
            *last = Some(self.embedding.rows);
        }
        let own = self.reverse_dtype.map(DType::Tensor);
        let dtype = own.unwrap_or(match (input.dtype, self.embedding.dtype) {
            (DType::Tensor(a), DType::Tensor(b)) if input.dtype.is_float() => {
                DType::Tensor(promoted(a, b))
            }
            (_, compute) => compute,
        });
        Ok(Tree::Leaf(Spec::new(dims, dtype)))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let x = args.only().map_err(Error::values)?.y()?;
        if !is_reverse(args) {
            let rows = Value::new(self.embedding.look_up(x, context)?);
            return Ok(Tree::Leaf(rows.with_mask(self.embedding.padding_mask(x)?)));
        }
        let kernel = match self.reverse_embeddings {
            Some(handle) => context.variable(handle)?,
            None => context
                .variable(self.embedding.embeddings)?
                .f_transpose(0, 1)?,
        };
        let kind = self.reverse_dtype.unwrap_or(if x.is_floating_point() {
            promoted(x.f_kind()?, kernel.f_kind()?)
        } else {
            kernel.f_kind()?
        });
        let mut logits = x.f_to_kind(kind)?.f_matmul(&kernel.f_to_kind(kind)?)?;
        if let Some(cap) = self.logit_soft_cap {
            logits = logits.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        }
        Ok(Tree::Leaf(logits.into()))
    }
}
