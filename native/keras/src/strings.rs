//! Byte strings in rows and columns: what a tensor of dtype "string" holds in TensorFlow.

use std::sync::Arc;

use crate::error::{Error, Result};

/// A dense array of byte strings in row-major order; clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings {
    shape: Vec<i64>,
    items: Arc<[Box<[u8]>]>,
}

impl Strings {
    /// Joins a shape and its strings.
    ///
    /// # Errors
    /// Their number differs from the product of `shape`.
    pub fn new(shape: Vec<i64>, items: Vec<Box<[u8]>>) -> Result<Self> {
        let expected = shape.iter().try_fold(1_usize, |n, &axis| {
            n.checked_mul(usize::try_from(axis).ok()?)
        });
        if expected != Some(items.len()) {
            return Err(Error::Values {
                reason: format!("{} strings do not fill shape {shape:?}", items.len()),
            });
        }
        Ok(Self {
            shape,
            items: items.into(),
        })
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// The strings in row-major order.
    pub fn items(&self) -> &[Box<[u8]>] {
        &self.items
    }

    /// The same strings under another shape.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reshape(&self, shape: Vec<i64>) -> Result<Self> {
        Self::new(shape, self.items.to_vec())
    }

    /// Rows `start..start + count` of the first axis.
    ///
    /// # Errors
    /// There are fewer rows.
    pub fn narrow(&self, start: usize, count: usize) -> Result<Self> {
        let rows = self.shape.first().copied().unwrap_or(0);
        let width = self.items.len() / usize::try_from(rows.max(1)).unwrap_or(1);
        let items = self.items.get(start * width..(start + count) * width);
        let items = items.ok_or_else(|| Error::Values {
            reason: format!("rows {start}..{} of {rows} were asked for", start + count),
        })?;
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = i64::try_from(count).unwrap_or(0);
        }
        Self::new(shape, items.to_vec())
    }
}
