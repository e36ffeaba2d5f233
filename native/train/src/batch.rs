//! Rows of the cache gathered into the tensors of one step.

use crate::block::{Block, Values};
use crate::dataset::{Dataset, RowRef};
use crate::error::Error;
use flambeau_keras::Value;
use tch::Tensor;

/// The tensors of one step on one rank.
#[derive(Debug)]
pub struct Batch {
    /// Rows; never zero.
    pub rows: usize,
    /// For each input of the model, `[rows, ...input]`.
    pub inputs: Vec<Value>,
    /// For each output of the model, `[rows, ...]` i64 class ids or f32 values; none where it has
    /// no loss, and none at all when predicting.
    pub labels: Vec<Option<Tensor>>,
    /// `[rows]` f32.
    pub weights: Option<Tensor>,
}

/// Shapes, without the batch axis, that rows are laid out in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchShape {
    /// Of each of the model's inputs; `None` where the rows say how many elements there are.
    pub inputs: Vec<Vec<Option<i64>>>,
    /// Of the labels of each of its outputs.
    pub labels: Vec<Vec<i64>>,
}

impl BatchShape {
    /// Copies drawn rows out of the cache; none for no rows.
    ///
    /// # Errors
    /// [`Error::Torch`] if memory runs out.
    pub fn gather(&self, dataset: &Dataset, rows: &[RowRef]) -> Result<Option<Batch>, Error> {
        let mut found = Vec::with_capacity(rows.len());
        for at in rows {
            let block = dataset.block(at.block).ok_or_else(|| {
                Error::Panic(format!(
                    "block {} was freed before its rows were used",
                    at.block
                ))
            })?;
            found.push((block, at.row as usize));
        }
        self.collect(&found)
    }

    /// Rows `start..end` of one block; none for no rows.
    ///
    /// # Errors
    /// [`Error::Torch`] if memory runs out.
    pub fn slice(&self, block: &Block, start: usize, end: usize) -> Result<Option<Batch>, Error> {
        let rows: Vec<_> = (start..end).map(|row| (block, row)).collect();
        self.collect(&rows)
    }

    fn collect(&self, rows: &[(&Block, usize)]) -> Result<Option<Batch>, Error> {
        let Some((first, _)) = rows.first() else {
            return Ok(None);
        };
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (at, (values, shape)) in first.inputs.iter().zip(&self.inputs).enumerate() {
            let column: Vec<_> = rows
                .iter()
                .map(|(block, row)| (&block.inputs[at], *row))
                .collect();
            let width = values.len() / first.rows.max(1);
            inputs.push(Values::gather(values, &column, &resolved(shape, width))?);
        }
        let mut labels = Vec::with_capacity(self.labels.len());
        for (at, (values, shape)) in first.labels.iter().zip(&self.labels).enumerate() {
            let Some(values) = values else {
                labels.push(None);
                continue;
            };
            let column: Vec<_> = rows
                .iter()
                .filter_map(|(block, row)| Some((block.labels[at].as_ref()?, *row)))
                .collect();
            let gathered = Values::gather(values, &column, shape)?;
            labels.push(Some(gathered.y()?.shallow_clone()));
        }
        let weights = match &first.weights {
            None => None,
            Some(_) => {
                let weights: Vec<f32> = rows
                    .iter()
                    .filter_map(|(block, row)| block.weights.as_ref()?.get(*row).copied())
                    .collect();
                Some(Tensor::f_from_slice(&weights)?)
            }
        };
        Ok(Some(Batch {
            rows: rows.len(),
            inputs,
            labels,
            weights,
        }))
    }
}

/// A shape whose unknown axis is what `width` values leave for it.
fn resolved(shape: &[Option<i64>], width: usize) -> Vec<i64> {
    let known: i64 = shape.iter().flatten().product();
    let width = i64::try_from(width).unwrap_or(i64::MAX);
    let mut rest = width.checked_div(known).unwrap_or(0);
    let mut open = |axis: &Option<i64>| axis.unwrap_or_else(|| std::mem::replace(&mut rest, 1));
    shape.iter().map(&mut open).collect()
}
