//! `Embedding`: a row of its matrix `embeddings` for each id. Negative ids count from the end and
//! ids beyond the rows are errors, as in Keras on TensorFlow's CPU kernels.
//!
//! A rank of a tensor group has some rows of the matrix: it looks those up, and what the ranks have
//! found is summed.

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::Split;
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
    /// The rows that are here, if not all.
    held: Option<Range<i64>>,
    pub(super) dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let embedding = Embedding::read(scope)?;
    let slices = scope.looks_up(embedding.embeddings);
    let held = (scope.place.split == Split::Inside).then(|| {
        scope.hold_part(embedding.embeddings, 0);
        scope.place.tensor.of(embedding.rows)
    });
    Ok(Built::layer(Embedding {
        slices,
        held,
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
            held: None,
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
        let rows = match &self.held {
            Some(held) => self.look_up_in_group(&ids, held, context)?,
            None => self.rows(&ids, context)?,
        };
        Ok(rows.f_to_kind(context.compute())?)
    }

    /// The rows `ids` of the matrix that is here.
    fn rows(&self, ids: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        if self.slices {
            return context.look_up(self.embeddings, ids);
        }
        let embeddings = context.state(self.embeddings);
        Ok(Tensor::f_embedding(&embeddings, ids, -1, false, false)?)
    }

    /// The rows `ids`, of which those in `held` are here.
    fn look_up_in_group(
        &self,
        ids: &Tensor,
        held: &Range<i64>,
        context: &mut Context<'_>,
    ) -> Result<Tensor> {
        let flat = ids.f_to_kind(Kind::Int64)?.f_flatten(0, -1)?;
        let here = flat
            .f_ge(held.start)?
            .f_logical_and(&flat.f_lt(held.end)?)?;
        let places = here.f_nonzero()?.f_flatten(0, -1)?;
        let own = flat.f_index_select(0, &places)?.f_sub_scalar(held.start)?;
        let rows = self.rows(&own, context)?;
        let zeros = Tensor::f_zeros(
            [flat.size()[0], self.width],
            (rows.f_kind()?, rows.device()),
        )?;
        let sum = context.sum_of_group(&zeros.f_index_copy(0, &places, &rows)?)?;
        Ok(sum.f_view([ids.size().as_slice(), &[self.width]].concat().as_slice())?)
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
