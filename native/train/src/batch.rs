//! Rows of the cache gathered into the tensors of one step.

use crate::block::{Block, Features, Labels};
use crate::dataset::{Dataset, RowRef};
use crate::error::Error;
use tch::Tensor;

/// The tensors of one step on one rank.
#[derive(Debug)]
pub struct Batch {
    /// Rows; never zero.
    pub rows: usize,
    /// `[rows, ...input]`, u8 or f32.
    pub x: Tensor,
    /// `[rows, ...]` i64 class ids or f32 values; none when predicting.
    pub y: Option<Tensor>,
    /// `[rows]` f32.
    pub weights: Option<Tensor>,
}

/// Shapes, without the batch axis, that rows are laid out in.
#[derive(Debug, Clone)]
pub struct BatchShape {
    /// The model's input.
    pub input: Vec<i64>,
    /// The labels; empty for one class id a row.
    pub label: Vec<i64>,
}

impl BatchShape {
    /// Copies drawn rows out of the cache; none for no rows.
    ///
    /// # Errors
    /// [`Error::Torch`] if memory runs out.
    pub fn gather(&self, dataset: &Dataset, rows: &[RowRef]) -> Result<Option<Batch>, Error> {
        let blocks: Vec<(&Block, usize)> = rows
            .iter()
            .filter_map(|at| Some((dataset.block(at.block)?, at.row as usize)))
            .collect();
        self.collect(&blocks)
    }

    /// Rows `start..end` of one block; none for no rows.
    ///
    /// # Errors
    /// [`Error::Torch`] if memory runs out.
    pub fn slice(&self, block: &Block, start: usize, end: usize) -> Result<Option<Batch>, Error> {
        let blocks: Vec<_> = (start..end).map(|row| (block, row)).collect();
        self.collect(&blocks)
    }

    fn collect(&self, rows: &[(&Block, usize)]) -> Result<Option<Batch>, Error> {
        let Some((first, _)) = rows.first() else {
            return Ok(None);
        };
        let x = match &first.features {
            Features::U8(_) => tensor(rows, &self.input, |block| match &block.features {
                Features::U8(values) => values,
                Features::F32(_) => &[],
            })?,
            Features::F32(_) => tensor(rows, &self.input, |block| match &block.features {
                Features::F32(values) => values,
                Features::U8(_) => &[],
            })?,
        };
        let y = match &first.labels {
            Labels::None => None,
            Labels::Classes(_) => Some(tensor(rows, &self.label, |block| match &block.labels {
                Labels::Classes(values) => values,
                Labels::None | Labels::Values(_) => &[],
            })?),
            Labels::Values(_) => Some(tensor(rows, &self.label, |block| match &block.labels {
                Labels::Values(values) => values,
                Labels::None | Labels::Classes(_) => &[],
            })?),
        };
        let weights = match &first.weights {
            None => None,
            Some(_) => Some(tensor(rows, &[], |block| {
                block.weights.as_deref().unwrap_or_default()
            })?),
        };
        Ok(Some(Batch {
            rows: rows.len(),
            x,
            y,
            weights,
        }))
    }
}

fn tensor<T: tch::kind::Element + Copy>(
    rows: &[(&Block, usize)],
    shape: &[i64],
    values: impl Fn(&Block) -> &[T],
) -> Result<Tensor, Error> {
    let width = crate::columns::elements(shape);
    let mut out = Vec::with_capacity(rows.len() * width);
    for (block, row) in rows {
        out.extend_from_slice(&values(block)[row * width..(row + 1) * width]);
    }
    let mut size = vec![rows.len() as i64];
    size.extend_from_slice(shape);
    Ok(Tensor::f_from_slice(&out)?.f_view(&size[..])?)
}
