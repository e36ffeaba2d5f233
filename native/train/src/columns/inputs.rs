//! The values of one input, out of its columns.

use super::images::ImageInput;
use super::matrix::{concatenate, shared_out, strings};
use super::sources::{Source, Sources, Takes, scalars, shortened};
use super::steps::Steps;
use super::{WantedInput, elements, shape_text};
use crate::block::Values;
use crate::config::Columns;
use crate::decode::{Column, ColumnKind, Nulls};
use crate::error::DataError;
use arrow_array::RecordBatch;
use flambeau_keras::DType;

#[derive(Debug)]
pub(super) struct InputDecoder {
    wanted: WantedInput,
    sources: Vec<Source>,
    /// Values each column holds per row; known from the first batch in which it is not null
    /// throughout.
    widths: Vec<Option<usize>>,
    /// Where its column holds images.
    image: Option<ImageInput>,
    /// Where rows of its column may differ in how many values they hold.
    steps: Option<Steps>,
}

impl InputDecoder {
    /// Finds the columns that `names` are.
    ///
    /// # Errors
    /// [`DataError::NoColumn`], [`DataError::Type`], [`DataError::FeatureWidth`];
    /// [`DataError::Binding`] for images of an input that is not for them.
    pub(super) fn new(
        found: &Sources<'_>,
        columns: &Columns,
        wanted: WantedInput,
        names: &[String],
    ) -> Result<Self, DataError> {
        let strings = wanted.dtype == DType::String;
        let takes = if strings {
            Takes::Strings
        } else {
            Takes::NumbersOrImages
        };
        let sources = found.find(names, takes)?;
        let image = ImageInput::of(found, columns, &wanted, &sources)?;
        let steps = match (&sources[..], &image) {
            ([source], None) => Steps::of(columns, &wanted.name, &wanted.shape)
                .filter(|_| source.is_sequence(strings)),
            _ => None,
        };
        let input = Self {
            widths: vec![None; sources.len()],
            sources,
            wanted,
            image,
            steps,
        };
        match scalars(&input.sources) {
            Some(found) if input.image.is_none() => input.check_width(found).map(|()| input),
            _ => Ok(input),
        }
    }

    /// The values of a batch's rows.
    ///
    /// # Errors
    /// Those of the rows that do not fit.
    pub(super) fn decode(
        &mut self,
        batch: &RecordBatch,
        first_row: u64,
        nulls: &mut Nulls,
    ) -> Result<Values, DataError> {
        let sources = self.sources.iter();
        let columns: Vec<_> = sources
            .map(|source| source.column(batch, first_row))
            .collect();
        match (&columns[..], &self.image, &self.steps) {
            ([column], Some(image), _) => return image.decode(column, nulls),
            ([column], None, Some(steps)) => return self.sequences(column, steps, nulls),
            _ => {}
        }
        for (width, column) in self.widths.iter_mut().zip(&columns) {
            *width = width.or_else(|| column.width());
        }
        let rows = batch.num_rows();
        let widths = shared_out(&self.widths, self.expected().unwrap_or(0));
        if rows > 0 && self.unknown().is_none() {
            self.check_width(widths.iter().sum())?;
        }
        let values = match (self.wanted.dtype, self.sources.as_slice()) {
            (DType::String, _) => Values::Strings(strings(&columns, &widths, rows, nulls)?),
            (_, [source]) if source.kind == ColumnKind::Binary => {
                Values::U8(columns[0].bytes(widths[0], nulls)?)
            }
            (dtype, _) if dtype.is_float() => {
                Values::F32(concatenate(&columns, &widths, rows, false, nulls)?)
            }
            (_, sources) if sources.iter().all(|source| source.narrow) => {
                Values::I32(concatenate(&columns, &widths, rows, false, nulls)?)
            }
            _ => Values::I64(concatenate(&columns, &widths, rows, false, nulls)?),
        };
        Ok(values)
    }

    /// Rows of differing lengths.
    fn sequences(
        &self,
        column: &Column<'_>,
        steps: &Steps,
        nulls: &mut Nulls,
    ) -> Result<Values, DataError> {
        let narrow = self.sources.iter().all(|source| source.narrow);
        let kind = self.sources.first().map(|source| source.kind);
        match (self.wanted.dtype, kind) {
            (DType::String, _) => steps.fit(column, column.uneven_strings(nulls)?, Values::Strings),
            (_, Some(ColumnKind::Binary)) => {
                steps.fit(column, column.uneven_bytes(nulls)?, Values::U8)
            }
            (dtype, _) if dtype.is_float() => {
                steps.fit(column, column.uneven_numbers(nulls)?, Values::F32)
            }
            _ if narrow => steps.fit(column, column.uneven_numbers(nulls)?, Values::I32),
            _ => steps.fit(column, column.uneven_numbers(nulls)?, Values::I64),
        }
    }

    /// A column of which neither the rows so far nor the model tell how many values it holds.
    pub(super) fn unknown(&self) -> Option<&Source> {
        let open = self.expected().is_none() && self.image.is_none() && self.steps.is_none();
        let mut sources = self.sources.iter().zip(&self.widths);
        let (source, _) = sources.find(|(_, width)| open && width.is_none())?;
        Some(source)
    }

    /// Values of a row, if the model says how many.
    fn expected(&self) -> Option<usize> {
        let known: Option<Vec<i64>> = self.wanted.shape.iter().copied().collect();
        known.as_deref().map(elements)
    }

    /// Whether the model takes rows of `found` values.
    fn check_width(&self, found: usize) -> Result<(), DataError> {
        let shape = &self.wanted.shape;
        let per_step = shape.iter().flatten().product::<i64>().max(1);
        let fits = match self.expected() {
            Some(expected) => found == expected,
            None => found.is_multiple_of(usize::try_from(per_step).unwrap_or(1)),
        };
        if fits {
            return Ok(());
        }
        let names = self.sources.iter().flat_map(Source::names);
        Err(DataError::FeatureWidth {
            columns: shortened(names),
            found,
            input: self.wanted.name.clone(),
            shape: shape_text(shape),
        })
    }
}
