//! How layers give categories: as indices, or as vectors with a place for each category
//! (`keras/src/utils/numerical_utils.py`, `encode_categorical_inputs`).

use tch::{Device, Kind, Tensor};

use crate::config::Options;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::spec::{Spec, SpecResult};

/// Option `output_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The index.
    Int,
    /// For each index a vector that is 1 at its place.
    OneHot,
    /// For each row a vector that is 1 at the places of its indices.
    MultiHot,
    /// For each row how often it has each index.
    Count,
    /// `Count`, each category with its weight.
    TfIdf,
}

impl Mode {
    /// Reads option `output_mode`, which Keras demands to be among `allowed`.
    ///
    /// # Errors
    /// It is another.
    pub(super) fn read(
        options: &Options<'_>,
        default: &'static str,
        allowed: &[&'static str],
    ) -> Result<Self> {
        options.require("sparse", &serde_json::Value::Bool(false))?;
        let deprecated = ["binary", "tf-idf"];
        let known = [allowed, deprecated.as_slice()].concat();
        Ok(match options.choice("output_mode", default, &known)? {
            "int" => Self::Int,
            "one_hot" => Self::OneHot,
            "multi_hot" | "binary" => Self::MultiHot,
            "count" => Self::Count,
            _ => Self::TfIdf,
        })
    }
}

/// Indices of `depth` categories brought to a mode.
#[derive(Debug)]
pub(super) struct Encoding {
    pub(super) mode: Mode,
    /// Number of categories; indices beyond are left out of vectors.
    pub(super) depth: i64,
    /// Of the output.
    pub(super) dtype: DType,
}

impl Encoding {
    /// The output for indices of this spec.
    pub(super) fn infer(&self, indices: &Spec) -> SpecResult {
        let dims = match self.mode {
            Mode::Int => indices.dims.clone(),
            Mode::OneHot => {
                let kept = match indices.dims.as_slice() {
                    [kept @ .., Some(1)] if !kept.is_empty() => kept,
                    all => all,
                };
                [kept, &[Some(self.depth)]].concat()
            }
            Mode::MultiHot | Mode::Count | Mode::TfIdf => match indices.dims.as_slice() {
                [rows, _, others @ ..] => [&[*rows], others, &[Some(self.depth)]].concat(),
                _ => {
                    return Err(format!(
                        "needs rows of one or more categories, got shape {indices}: Keras takes \
                         a batch of one axis for a single row"
                    ));
                }
            },
        };
        Ok(Spec::new(dims, self.dtype))
    }

    /// The output for `indices` (int64), each counted as often as `weights` say, once without.
    pub(super) fn encode(&self, indices: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
        let kind = self.dtype.kind().unwrap_or(Kind::Float);
        match self.mode {
            Mode::Int => Ok(indices.f_to_kind(kind)?),
            Mode::OneHot => {
                let shrunk = match indices.size().as_slice() {
                    [_, .., 1] => indices.f_squeeze_dim(-1)?,
                    _ => indices.shallow_clone(),
                };
                let categories = Tensor::f_arange(self.depth, (Kind::Int64, Device::Cpu))?;
                let categories = categories.f_to_device(indices.device())?;
                let hot = shrunk.f_unsqueeze(-1)?.f_eq_tensor(&categories)?;
                Ok(hot.f_to_kind(kind)?)
            }
            Mode::MultiHot => self.counted(indices, None, kind)?.hot(kind),
            Mode::Count | Mode::TfIdf => Ok(self.counted(indices, weights, kind)?.0),
        }
    }

    /// How often each category is in the second axis, which becomes the last.
    fn counted(&self, indices: &Tensor, weights: Option<&Tensor>, kind: Kind) -> Result<Counts> {
        // A place after the last category takes those that are left out.
        let left_out = indices.f_ge(self.depth)?;
        if indices.size().len() == 2 && indices.numel() > 0 {
            let least = indices.f_min()?.f_int64_value(&[])?;
            if least < 0 {
                return Err(Error::values(format!(
                    "category {least} is negative; categories are 0 to {}",
                    self.depth - 1
                )));
            }
        }
        let left_out = left_out.f_logical_or(&indices.f_lt(0)?)?;
        let places = indices.f_masked_fill(&left_out, self.depth)?;
        let places = places.f_movedim_int(1, -1)?;
        let mut shape = places.size();
        if let Some(last) = shape.last_mut() {
            *last = self.depth + 1;
        }
        let options = (kind, indices.device());
        let ones = match weights {
            Some(weights) => weights.f_to_kind(kind)?.f_movedim_int(1, -1)?,
            None => Tensor::f_ones(places.size(), options)?,
        };
        let counts = Tensor::f_zeros(shape, options)?.f_scatter_add(-1, &places, &ones)?;
        Ok(Counts(counts.f_narrow(-1, 0, self.depth)?))
    }
}

struct Counts(Tensor);

impl Counts {
    fn hot(&self, kind: Kind) -> Result<Tensor> {
        Ok(self.0.f_gt(0)?.f_to_kind(kind)?)
    }
}
