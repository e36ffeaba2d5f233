//! Gradients of matrices whose rows are looked up, TensorFlow's `IndexedSlices`: the gradient of a
//! row for each time that it was looked up.
//!
//! Two things follow. Only rows that were looked up have a gradient, so that ranks need not
//! exchange the others. And Keras's optimizers, on TensorFlow, take the square or magnitude of each
//! slice by itself; TensorFlow adds up the slices of one row only where they meet a whole tensor,
//! so that Adam's velocity moves by the sum of the squares and not by the square of the sum. A
//! gradient therefore comes with that sum.

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// What an optimizer needs to know of the slices besides their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// What it takes of each element of each slice.
    pub statistic: Option<Statistic>,
    /// Whether it takes the norm of all slices together.
    pub norm: bool,
}

/// A function of a slice's elements, to be added up over the slices of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Their squares.
    Squares,
    /// Their magnitudes.
    Magnitudes,
}

impl Statistic {
    /// The function.
    pub(crate) fn of(self, value: f32) -> f32 {
        match self {
            Self::Squares => value * value,
            Self::Magnitudes => value.abs(),
        }
    }
}

/// The slices of one variable's gradient in one step. Their sum, row by row, is in the slice of all
/// gradients.
#[derive(Debug)]
pub struct IndexedSlices {
    variable: usize,
    span: Range<usize>,
    width: usize,
    needs: Needs,
    rows: Vec<usize>,
    values: Vec<f32>,
    statistics: Vec<f32>,
    sum_of_squares: f32,
}

impl IndexedSlices {
    pub(crate) fn new(variable: usize, span: Range<usize>, width: usize, needs: Needs) -> Self {
        let statistics = needs.statistic.map_or(0, |_| span.len());
        Self {
            variable,
            span,
            width,
            needs,
            rows: Vec::new(),
            values: Vec::new(),
            statistics: vec![0.0; statistics],
            sum_of_squares: 0.0,
        }
    }

    /// The variable's index in the store of trainable variables.
    pub fn variable(&self) -> usize {
        self.variable
    }

    /// Where the variable lies in its store.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows that were looked up, as often as they were, in no order.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The sums of the statistic, laid out as the variable, zeros where no row was looked up; empty
    /// if the optimizer takes none.
    pub fn statistics(&self) -> &[f32] {
        &self.statistics
    }

    /// The same, to be added up over ranks or scaled.
    pub fn statistics_mut(&mut self) -> &mut [f32] {
        &mut self.statistics
    }

    /// The sum of the squares of all slices' elements, 0 if the optimizer takes no norm.
    pub fn sum_of_squares(&self) -> f32 {
        self.sum_of_squares
    }

    /// Replaces [`Self::sum_of_squares`] by that over all ranks.
    pub fn set_sum_of_squares(&mut self, sum: f32) {
        self.sum_of_squares = sum;
    }

    /// Becomes a gradient without slices.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.statistics.fill(0.0);
        self.sum_of_squares = 0.0;
    }

    /// Takes the slices of a gradient, a sparse tensor of libtorch or none, and writes their sums
    /// over `out`, the variable's part of the gradients.
    pub(crate) fn take(&mut self, gradient: &Tensor, out: &mut [f32]) -> Result<()> {
        self.clear();
        out.fill(0.0);
        if !gradient.defined() {
            return Ok(());
        }
        if !gradient.is_sparse() {
            return Err(Error::values(format!(
                "trainable variable {} has a whole gradient, though its rows are looked up",
                self.variable
            )));
        }
        let rows: Vec<i64> = Vec::try_from(gradient.f_internal_indices()?.f_flatten(0, -1)?)?;
        let rows = rows.into_iter().map(|row| usize::try_from(row).unwrap_or(0));
        self.rows.extend(rows);
        let values = gradient.f_internal_values()?.f_to_kind(Kind::Float)?;
        let values = values.f_contiguous()?;
        self.values.resize(values.numel(), 0.0);
        values.f_copy_data(&mut self.values, values.numel())?;
        let slices = || self.rows.iter().zip(self.values.chunks(self.width));
        for (row, slice) in slices() {
            let start = row * self.width;
            add(&mut out[start..start + self.width], slice, |value| value);
        }
        if let Some(statistic) = self.needs.statistic {
            for (row, slice) in slices() {
                let sums = &mut self.statistics[row * self.width..(row + 1) * self.width];
                add(sums, slice, |value| statistic.of(value));
            }
        }
        if self.needs.norm {
            let squares = self.values.iter().map(|&value| f64::from(value).powi(2));
            self.sum_of_squares = single(squares.sum());
        }
        Ok(())
    }
}

fn add(sums: &mut [f32], slice: &[f32], of: impl Fn(f32) -> f32) {
    for (sum, &value) in sums.iter_mut().zip(slice) {
        *sum += of(value);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "gradients are float32")]
fn single(value: f64) -> f32 {
    value as f32
}
