//! Gradients of matrices whose rows are looked up, TensorFlow's `IndexedSlices`: the gradient of a
//! row for each time that it was looked up.
//!
//! Two things follow. Only rows that were looked up have a gradient, so that ranks need not
//! exchange the others. And Keras's optimizers, on TensorFlow, clip a slice, square it or take its
//! magnitude by itself; TensorFlow adds up the slices of one row only where they meet a whole
//! tensor, so that Adam's velocity moves by the sum of the squares and not by the square of the
//! sum. A gradient therefore comes with that sum.

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::flat::write_gradient;
use crate::variables::Handle;

/// What an optimizer needs to know of the slices besides their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Needs {
    /// What it takes of each element of each slice.
    pub statistic: Option<Statistic>,
    /// Whether it takes the norm of all slices together.
    pub norm: bool,
    /// What it limits the magnitudes of elements to, before anything else.
    pub limit: Option<f32>,
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

/// Rows of a variable that a pass looked up.
#[derive(Debug)]
pub(crate) struct LookUp {
    pub(crate) handle: Handle,
    /// Numbers of rows, of any shape.
    pub(crate) ids: Tensor,
    /// The rows, a leaf of the graph: of the shape of the ids and one axis more.
    pub(crate) rows: Tensor,
}

impl LookUp {
    /// The numbers of the rows, one for each time that it was looked up.
    pub(crate) fn numbers(&self) -> Result<Vec<usize>> {
        let ids: Vec<i64> = Vec::try_from(self.ids.f_flatten(0, -1)?.f_to_kind(Kind::Int64)?)?;
        let rows = ids.into_iter().map(|id| usize::try_from(id).unwrap_or(0));
        Ok(rows.collect())
    }

    /// Adds the slices of the rows' gradient to `out`, the variable's part of all gradients, and
    /// tells `slices` what they need to know.
    pub(crate) fn add(
        &self,
        gradient: &Tensor,
        out: &mut [f32],
        slices: Option<&mut IndexedSlices>,
    ) -> Result<()> {
        let width = usize::try_from(self.rows.size().last().copied().unwrap_or(1)).unwrap_or(1);
        let rows = self.numbers()?;
        let values = gradient.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
        let mut values: Vec<f32> = Vec::try_from(values)?;
        if let Some(slices) = slices {
            slices.take(&rows, &mut values);
            if slices.is_elsewhere() {
                return Ok(());
            }
        }
        for (row, slice) in rows.iter().zip(values.chunks(width)) {
            add(&mut out[row * width..(row + 1) * width], slice, |value| {
                value
            });
        }
        Ok(())
    }
}

/// A gradient of a variable that a backward pass has come to, or a part of one.
#[derive(Debug)]
pub struct Gradient<'a>(Found<'a>);

#[derive(Debug)]
enum Found<'a> {
    Whole(&'a Tensor),
    OfRows(&'a LookUp, Tensor, Option<&'a mut IndexedSlices>),
}

impl<'a> Gradient<'a> {
    pub(crate) fn whole(gradient: &'a Tensor) -> Self {
        Self(Found::Whole(gradient))
    }

    pub(crate) fn of_rows(
        look_up: &'a LookUp,
        gradient: Tensor,
        slices: Option<&'a mut IndexedSlices>,
    ) -> Self {
        Self(Found::OfRows(look_up, gradient, slices))
    }

    /// Writes it over `out`, the variable's part of all gradients; what belongs to rows that were
    /// looked up is added to what is there.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn write(self, out: &mut [f32]) -> Result<()> {
        match self.0 {
            Found::Whole(gradient) => write_gradient(gradient, out),
            Found::OfRows(look_up, gradient, slices) => look_up.add(&gradient, out, slices),
        }
    }
}

/// What is known of the slices of one variable's gradient in one step. Their sum, row by row, is
/// in the slice of all gradients. There and here other rows than those that are listed have zeros,
/// unless the gradient is dense.
#[derive(Debug)]
pub struct IndexedSlices {
    variable: usize,
    span: Range<usize>,
    width: usize,
    needs: Needs,
    rows: Vec<usize>,
    statistics: Vec<f32>,
    is_dense: bool,
    sum_of_squares: f32,
    /// All slices, in the order of the rows, where the model has no rows of the matrix.
    slices: Vec<f32>,
}

/// The gradient of a matrix that the model has no rows of.
#[derive(Debug, Default, PartialEq)]
pub struct RowSums {
    /// The rows that were looked up, in order and each once.
    pub rows: Vec<usize>,
    /// The sum of each row's slices.
    pub gradients: Vec<f32>,
    /// The sum of the statistic; empty if the optimizer takes none.
    pub statistics: Vec<f32>,
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
            statistics: vec![0.0; statistics],
            is_dense: false,
            sum_of_squares: 0.0,
            slices: Vec::new(),
        }
    }

    /// Whether the model has no rows of the matrix: then [`Self::row_sums`] has its gradient.
    pub fn is_elsewhere(&self) -> bool {
        self.span.is_empty()
    }

    /// The sums over the slices of each row, in the order in which they were looked up, where the model
    /// has no rows of the matrix.
    pub fn row_sums(&self) -> RowSums {
        let width = self.width.max(1);
        let mut order: Vec<usize> = (0..self.slices.len() / width).collect();
        order.sort_by_key(|&at| self.rows[at]);
        let mut sums = RowSums::default();
        for at in order {
            let (row, slice) = (self.rows[at], &self.slices[at * width..(at + 1) * width]);
            if sums.rows.last() != Some(&row) {
                sums.rows.push(row);
                sums.gradients.resize(sums.rows.len() * width, 0.0);
                let statistics = self.needs.statistic.map_or(0, |_| sums.gradients.len());
                sums.statistics.resize(statistics, 0.0);
            }
            let start = (sums.rows.len() - 1) * width;
            add(&mut sums.gradients[start..], slice, |value| value);
            if let Some(statistic) = self.needs.statistic {
                add(&mut sums.statistics[start..], slice, |value| {
                    statistic.of(value)
                });
            }
        }
        sums
    }

    /// Those of some rows of the same matrix, which are variable `variable` of another store, at `span`.
    pub fn of_rows(&self, variable: usize, span: Range<usize>) -> Self {
        Self::new(variable, span, self.width, self.needs)
    }

    /// Takes, once [cleared](Self::clear), what is known elsewhere: of these rows, each once, the sums of
    /// the statistic, one row behind the other and none if there is no statistic; and the sum of all
    /// squares.
    ///
    /// # Errors
    /// A row or a number too many or too few.
    pub fn set(&mut self, rows: &[usize], statistics: &[f32], sum_of_squares: f32) -> Result<()> {
        let width = self.width;
        let expected = self.needs.statistic.map_or(0, |_| rows.len() * width);
        let height = self.span.len() / width.max(1);
        if statistics.len() != expected || rows.iter().any(|&row| row >= height) {
            return Err(Error::LengthMismatch {
                what: format!("statistics of rows of {height}"),
                expected,
                actual: statistics.len(),
            });
        }
        self.rows.extend(rows);
        for (row, sums) in rows.iter().zip(statistics.chunks(width.max(1))) {
            self.statistics[row * width..(row + 1) * width].copy_from_slice(sums);
        }
        self.sum_of_squares = sum_of_squares;
        Ok(())
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

    /// The rows that were looked up, as often as they were, in no order; or those that were
    /// [listed](Self::list).
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Has the gradient be that of these rows, in order and each once: those that any rank looked up.
    pub fn list(&mut self, rows: Vec<usize>) {
        self.rows = rows;
    }

    /// The listed rows of the variable's gradient.
    pub(crate) fn each_row<'a>(&self, gradient: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let places = self
            .rows
            .iter()
            .map(|row| row * self.width..(row + 1) * self.width);
        places.filter_map(|place| gradient.get(place))
    }

    /// Whether rows that are not listed may have a gradient, too.
    pub fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Says that any row may have a gradient from now on.
    pub fn make_dense(&mut self) {
        self.is_dense = true;
    }

    /// The sums of the statistic, laid out as the variable, zeros where no row was looked up; empty
    /// if the optimizer takes none. To be added up over ranks, or scaled.
    pub fn statistics_mut(&mut self) -> &mut [f32] {
        &mut self.statistics
    }

    /// The same, to be read.
    pub fn statistics(&self) -> &[f32] {
        &self.statistics
    }

    /// The sum of the squares of all slices' elements, 0 if the optimizer takes no norm.
    pub fn sum_of_squares(&self) -> f32 {
        self.sum_of_squares
    }

    /// Replaces [`Self::sum_of_squares`] by that over all ranks.
    pub fn set_sum_of_squares(&mut self, sum: f32) {
        self.sum_of_squares = sum;
    }

    /// Replaces [`Needs::limit`], which goes with the scale of the loss.
    pub fn set_limit(&mut self, limit: Option<f32>) {
        self.needs.limit = limit;
    }

    /// Forgets all slices, and has zeros in the variable's `gradient`. Of a large matrix few rows were
    /// looked up, and others are not looked at.
    pub fn clear(&mut self, gradient: &mut [f32]) {
        let rows = self.rows.iter();
        let places = rows.map(|row| row * self.width..(row + 1) * self.width);
        for values in [gradient, &mut self.statistics] {
            if self.is_dense {
                values.fill(0.0);
                continue;
            }
            for place in places.clone() {
                values.get_mut(place).unwrap_or_default().fill(0.0);
            }
        }
        self.is_dense = false;
        self.rows.clear();
        self.slices.clear();
        self.sum_of_squares = 0.0;
    }

    /// Limits slices' values, one slice after the other, and takes what is needed of them.
    fn take(&mut self, rows: &[usize], values: &mut [f32]) {
        self.rows.extend(rows);
        if let Some(limit) = self.needs.limit {
            for value in &mut *values {
                *value = value.clamp(-limit, limit);
            }
        }
        if self.is_elsewhere() {
            self.slices.extend_from_slice(values);
        } else if let Some(statistic) = self.needs.statistic {
            let width = self.width;
            for (row, slice) in rows.iter().zip(values.chunks(width)) {
                let sums = &mut self.statistics[row * width..(row + 1) * width];
                add(sums, slice, |value| statistic.of(value));
            }
        }
        if self.needs.norm {
            let squares = values.iter().map(|&value| f64::from(value).powi(2));
            self.sum_of_squares += single(squares.sum());
        }
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
