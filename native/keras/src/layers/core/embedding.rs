//! `Embedding`: a row of its matrix `embeddings` for each id. Negative ids count from the end and
//! ids beyond the rows are errors, as in Keras on TensorFlow's CPU kernels.

use tch::{Kind, Tensor};

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;
use crate::variables::Handle;

/// The matrix, and whether id 0 is padding.
#[derive(Debug)]
pub(super) struct Embedding {
    pub(super) rows: i64,
    pub(super) width: i64,
    pub(super) embeddings: Handle,
    mask_zero: bool,
    /// Whether the gradient is a slice for each row that is looked up; else it is one whole.
    slices: bool,
    pub(super) dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let embedding = Embedding::read(scope)?;
    let slices = scope.looks_up(embedding.embeddings);
    Ok(Built::layer(Embedding {
        slices,
        ..embedding
    })
    .without_autocast())
}

impl Embedding {
    pub(super) fn read(scope: &mut Scope<'_>) -> Result<Self> {
        let options = scope.options;
        for key in ["lora_rank", "lora_alpha", "quantization_config", "weights"] {
            options.require_null(key)?;
        }
        // Keras 2 wrote it; it says nothing that the input does not.
        options.ignore(&["input_length"]);
        let (rows, width) = (options.count("input_dim")?, options.count("output_dim")?);
        let mask_zero = options.bool("mask_zero", false)?;
        let embeddings = scope.weight("embeddings", "embeddings", &[rows, width], "uniform")?;
        Ok(Self {
            rows,
            width,
            embeddings,
            mask_zero,
            slices: false,
            dtype: scope.policy.compute,
        })
    }

    /// The spec of the rows for ids of this spec.
    pub(super) fn rows_spec(&self, ids: &Spec) -> Spec {
        Spec::new(
            [ids.dims.as_slice(), &[Some(self.width)]].concat(),
            self.dtype,
        )
    }

    /// The rows of `ids`, of any dtype; numbers lose their fraction.
    pub(super) fn look_up(&self, ids: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let ids = self.checked(ids)?;
        let rows = if self.slices {
            context.look_up(self.embeddings, &ids)?
        } else {
            let embeddings = context.state(self.embeddings);
            Tensor::f_embedding(&embeddings, &ids, -1, false, false)?
        };
        Ok(rows.f_to_kind(context.compute())?)
    }

    /// The ids as rows of the matrix.
    fn checked(&self, ids: &Tensor) -> Result<Tensor> {
        let ids = match ids.f_kind()? {
            Kind::Int | Kind::Int64 => ids.shallow_clone(),
            _ => ids.f_to_kind(Kind::Int64)?,
        };
        if ids.numel() == 0 {
            return Ok(ids);
        }
        let (least, greatest) = ids.f_aminmax(None, false)?;
        let (least, greatest) = (least.f_int64_value(&[])?, greatest.f_int64_value(&[])?);
        let rows = self.rows;
        if greatest >= rows || least < -rows {
            let id = if greatest >= rows { greatest } else { least };
            return Err(Error::values(format!(
                "id {id} has no embedding: input_dim = {rows}, so ids must be in 0..{rows}"
            )));
        }
        if least >= 0 {
            return Ok(ids);
        }
        Ok(ids.f_add_scalar(rows)?.f_where_self(&ids.f_lt(0)?, &ids)?)
    }

    /// False where the id is 0, if that is padding.
    pub(super) fn padding_mask(&self, ids: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.mask_zero.then(|| ids.f_ne(0)).transpose()?)
    }
}

impl Layer for Embedding {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(self.rows_spec(args.only()?)))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let ids = args.only().map_err(Error::values)?.y()?;
        Ok(Tree::Leaf(self.look_up(ids, context)?.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        self.padding_mask(args.only().map_err(Error::values)?.y()?)
    }
}
