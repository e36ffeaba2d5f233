//! The labels of one output: class ids or values, as the column holds them or encoded anew.

use super::elements;
use super::matrix::{concatenate, shared_out};
use super::sources::{Source, Sources, Takes, scalars, shortened};
use super::steps::Steps;
use crate::block::{Uneven, Values, reserve};
use crate::config::{Columns, LabelEncoding};
use crate::decode::{Column, Nulls, Target};
use crate::error::DataError;
use arrow_array::RecordBatch;
use flambeau_keras::losses::LabelSpec;
use std::ops::Range;

#[derive(Debug)]
pub(super) struct LabelDecoder {
    spec: LabelSpec,
    encoding: LabelEncoding,
    sources: Vec<Source>,
    /// What a row of the columns holds.
    held: Vec<Option<i64>>,
    /// Where rows of the column may differ in how many steps they hold.
    steps: Option<Steps>,
    /// Values of a row where the output does not say; known from the first rows.
    width: Option<usize>,
}

/// Labels as the columns hold them.
struct Held<T> {
    values: Vec<T>,
    /// Values of a row, where all rows are alike.
    width: usize,
    /// Where rows begin that are not.
    offsets: Option<Vec<usize>>,
}

impl LabelDecoder {
    /// Finds the columns of an output with a loss or a metric.
    ///
    /// # Errors
    /// [`DataError::NoColumn`], [`DataError::Type`], [`DataError::LabelWidth`];
    /// [`DataError::Binding`] for an encoding that is not for this loss.
    pub(super) fn new(
        found: &Sources<'_>,
        columns: &Columns,
        name: &str,
        spec: LabelSpec,
        names: &[String],
    ) -> Result<Self, DataError> {
        let encoding = columns.label_encoding.of(name);
        let held = held(&spec, encoding, name)?;
        let sources = found.find(names, Takes::Numbers)?;
        let steps = match (&sources[..], &spec) {
            // The last axis of values is not one of steps.
            ([source], LabelSpec::Values { shape }) if source.is_sequence(false) => {
                Steps::of(columns, name, &axes(shape)).filter(|_| shape.len() > 1)
            }
            ([source], LabelSpec::Class { shape, .. }) if source.is_sequence(false) => {
                Steps::of(columns, name, &axes(shape))
            }
            _ => None,
        };
        let label = Self {
            spec,
            encoding,
            sources,
            held,
            steps,
            width: None,
        };
        match (scalars(&label.sources), label.expected()) {
            (Some(found), Some(expected)) if found != expected && !label.is_padded() => {
                Err(label.wrong_width(found, expected))
            }
            _ => Ok(label),
        }
    }

    /// The labels as the loss compares them.
    ///
    /// # Errors
    /// [`DataError::LabelRange`], [`DataError::OneHot`], and those of [`Column::fill`].
    pub(super) fn decode(
        &mut self,
        batch: &RecordBatch,
        first_row: u64,
        nulls: &mut Nulls,
    ) -> Result<Values, DataError> {
        let rows = batch.num_rows();
        if self.expected().is_none() && self.width.is_none() && rows > 0 {
            let widths = self.columns(batch, first_row);
            let widths: Option<Vec<_>> = widths.iter().map(Column::width).collect();
            self.width = widths.map(|widths| widths.iter().sum());
        }
        let columns = self.columns(batch, first_row);
        let Some(column) = columns.first() else {
            return Ok(Values::F32(Vec::new()));
        };
        match (self.spec.clone(), self.encoding) {
            (
                LabelSpec::Class {
                    classes: Some(classes),
                    ..
                },
                LabelEncoding::Argmax,
            ) => {
                let vectors = self.held::<f32>(&columns, rows, nulls)?;
                let ids = argmax(column, &vectors, rows, classes, nulls)?;
                self.fitted(column, ids, Values::I64)
            }
            (LabelSpec::Values { shape }, LabelEncoding::OneHot) => {
                let classes = shape.last().copied().unwrap_or(0);
                let ids = self.held::<i64>(&columns, rows, nulls)?;
                let allowed = |id: i64| (0..classes).contains(&id);
                check_ids(column, &ids, rows, classes, allowed, nulls)?;
                let vectors = one_hot(column, ids, classes)?;
                self.fitted(column, vectors, Values::F32)
            }
            (LabelSpec::Values { .. }, _) => {
                let values = self.held(&columns, rows, nulls)?;
                self.fitted(column, values, Values::F32)
            }
            (
                LabelSpec::Class {
                    classes, ignored, ..
                },
                _,
            ) => {
                let ids = self.held::<i64>(&columns, rows, nulls)?;
                if let Some(classes) = classes {
                    let allowed = |id: i64| (0..classes).contains(&id) || Some(id) == ignored;
                    check_ids(column, &ids, rows, classes, allowed, nulls)?;
                }
                self.fitted(column, ids, Values::I64)
            }
            (LabelSpec::Sequence { classes, .. }, _) => {
                let ids = self.held::<i64>(&columns, rows, nulls)?;
                let allowed = |id: i64| (0..classes).contains(&id);
                check_ids(column, &ids, rows, classes, allowed, nulls)?;
                Ok(Values::I64(ids.values))
            }
        }
    }

    fn columns<'a>(&'a self, batch: &'a RecordBatch, first_row: u64) -> Vec<Column<'a>> {
        let sources = self.sources.iter();
        let columns = sources.map(|source| source.column(batch, first_row));
        columns.collect()
    }

    /// A column of which neither the rows so far nor the model tell how many values it holds.
    pub(super) fn unknown(&self) -> Option<&Source> {
        let open = self.expected().is_none() && self.steps.is_none() && self.width.is_none();
        self.sources.first().filter(|_| open)
    }

    /// The values of the columns.
    fn held<T: Target>(
        &self,
        columns: &[Column<'_>],
        rows: usize,
        nulls: &mut Nulls,
    ) -> Result<Held<T>, DataError> {
        if let ([column], Some(_)) = (columns, &self.steps) {
            let Uneven { values, offsets } = match column.array.data_type() {
                arrow_schema::DataType::Binary => {
                    let Uneven { values, offsets } = column.uneven_bytes(nulls)?;
                    let values = values.into_iter();
                    let values = values.map(|byte| T::of_int(byte.into())).collect();
                    Uneven { values, offsets }
                }
                _ => column.uneven_numbers(nulls)?,
            };
            return Ok(Held {
                values,
                width: 0,
                offsets: Some(offsets),
            });
        }
        let widths = self.widths(columns)?;
        let padded = self.is_padded();
        Ok(Held {
            values: concatenate(columns, &widths, rows, padded, nulls)?,
            width: widths.iter().sum(),
            offsets: None,
        })
    }

    fn widths(&self, columns: &[Column<'_>]) -> Result<Vec<usize>, DataError> {
        let widths: Vec<_> = columns.iter().map(Column::width).collect();
        let Some(expected) = self.expected() else {
            let width = self.width.unwrap_or(0);
            let widths = shared_out(&widths, width);
            let known: Vec<_> = self.held.iter().flatten().copied().collect();
            let expected = width.next_multiple_of(elements(&known).max(1));
            return match widths.iter().sum() {
                found if found == expected => Ok(widths),
                found => Err(self.wrong_width(found, expected)),
            };
        };
        if self.is_padded() && columns.len() == 1 {
            return Ok(vec![expected]);
        }
        let widths = shared_out(&widths, expected);
        match widths.iter().sum() {
            found if found == expected => Ok(widths),
            found => Err(self.wrong_width(found, expected)),
        }
    }

    /// Labels as a block holds them.
    fn fitted<T: Default>(
        &self,
        column: &Column<'_>,
        labels: Held<T>,
        wrap: impl Fn(Vec<T>) -> Values,
    ) -> Result<Values, DataError> {
        let Held {
            values, offsets, ..
        } = labels;
        match (offsets, &self.steps) {
            (Some(offsets), Some(steps)) => steps.fit(column, Uneven { values, offsets }, wrap),
            _ => Ok(wrap(values)),
        }
    }

    /// Values of a row, if the output says how many.
    fn expected(&self) -> Option<usize> {
        let known: Option<Vec<i64>> = self.held.iter().copied().collect();
        known.as_deref().map(elements)
    }

    /// Whether a row may have fewer values and ends with zeros then.
    fn is_padded(&self) -> bool {
        matches!(self.spec, LabelSpec::Sequence { .. })
    }

    fn wrong_width(&self, found: usize, expected: usize) -> DataError {
        let names = self.sources.iter().flat_map(Source::names);
        DataError::LabelWidth {
            column: shortened(names),
            found,
            expected,
            shape: self.spec.shape().unwrap_or_default().to_vec(),
        }
    }
}

impl<T> Held<T> {
    /// Where a row's values are.
    fn range(&self, row: usize) -> Range<usize> {
        match &self.offsets {
            Some(offsets) => offsets[row]..offsets[row + 1],
            None => row * self.width..(row + 1) * self.width,
        }
    }
}

/// Axes, of which those that only data tell are negative.
fn axes(shape: &[i64]) -> Vec<Option<i64>> {
    let axes = shape.iter();
    axes.map(|&axis| (axis >= 0).then_some(axis)).collect()
}

/// What the columns of an output hold in a row, with this encoding.
fn held(
    spec: &LabelSpec,
    encoding: LabelEncoding,
    name: &str,
) -> Result<Vec<Option<i64>>, DataError> {
    let wrong = |reason: &str| {
        Err(DataError::Binding {
            reason: format!("the labels of output '{name}': {reason}"),
        })
    };
    match (spec, encoding) {
        (LabelSpec::Sequence { steps, .. }, LabelEncoding::None) => Ok(vec![Some(*steps)]),
        (LabelSpec::Class { shape, .. } | LabelSpec::Values { shape }, LabelEncoding::None) => {
            Ok(axes(shape))
        }
        (LabelSpec::Values { shape }, LabelEncoding::OneHot) => match &shape[..] {
            [shape @ .., classes] if *classes > 1 => Ok(axes(shape)),
            _ => wrong(
                "labelEncoding 'one_hot' makes a value for each class, and the output has no last \
                 axis of classes",
            ),
        },
        (
            LabelSpec::Class {
                shape,
                classes: Some(classes @ 1..),
                ..
            },
            LabelEncoding::Argmax,
        ) => Ok(axes(&[&shape[..], &[*classes]].concat())),
        (_, LabelEncoding::OneHot) => wrong(
            "labelEncoding 'one_hot' is for a loss over the values of all classes, as \
             categorical_crossentropy; this one compares class ids: set it to 'none', or to \
             'argmax' if the column holds one-hot vectors",
        ),
        (_, LabelEncoding::Argmax) => wrong(
            "labelEncoding 'argmax' is for a loss over class ids, as \
             sparse_categorical_crossentropy; this one compares values: set it to 'none', or to \
             'one_hot' if the column holds class ids",
        ),
    }
}

/// The class that each vector of `classes` values has its one at; 0 in rows that are null.
fn argmax(
    column: &Column<'_>,
    vectors: &Held<f32>,
    rows: usize,
    classes: i64,
    nulls: &Nulls,
) -> Result<Held<i64>, DataError> {
    let classes = usize::try_from(classes).unwrap_or(1).max(1);
    let mut ids = Vec::with_capacity(vectors.values.len() / classes);
    let mut offsets = vec![0];
    for row in 0..rows {
        let values = &vectors.values[vectors.range(row)];
        let at = column.first_row + row as u64;
        if !values.len().is_multiple_of(classes) {
            return Err(DataError::Steps {
                column: column.name.to_owned(),
                row: at,
                found: values.len(),
                step: classes,
            });
        }
        for vector in values.chunks_exact(classes) {
            ids.push(match single_one(vector) {
                Some(id) => id,
                None if nulls.is_null(row) => 0,
                None => {
                    return Err(DataError::OneHot {
                        column: column.name.to_owned(),
                        row: at,
                        values: listed(vector),
                    });
                }
            });
        }
        offsets.push(ids.len());
    }
    Ok(Held {
        values: ids,
        width: vectors.width / classes,
        offsets: vectors.offsets.as_ref().map(|_| offsets),
    })
}

/// Where the one is among zeros.
#[expect(clippy::float_cmp, reason = "0 and 1 are exact")]
fn single_one(vector: &[f32]) -> Option<i64> {
    let one = vector.iter().position(|&value| value == 1.0)?;
    let rest = vector.iter().enumerate();
    let zeros = rest
        .filter(|(at, _)| *at != one)
        .all(|(_, value)| *value == 0.0);
    i64::try_from(one).ok().filter(|_| zeros)
}

/// The first values, for messages.
fn listed(vector: &[f32]) -> String {
    const SHOWN: usize = 16;
    let values = vector.iter().take(SHOWN).map(f32::to_string);
    let values = values.collect::<Vec<_>>().join(", ");
    let rest = if vector.len() > SHOWN { ", .." } else { "" };
    format!("[{values}{rest}]")
}

/// For each id `classes` values: a one at its place among zeros.
fn one_hot(column: &Column<'_>, ids: Held<i64>, classes: i64) -> Result<Held<f32>, DataError> {
    let classes = usize::try_from(classes).unwrap_or(1).max(1);
    let room = reserve(ids.values.len(), classes);
    let mut values: Vec<f32> = room.map_err(|bytes| DataError::TooLarge {
        what: format!("the labels of column '{}'", column.name),
        rows: column.array.len(),
        bytes,
    })?;
    values.resize(ids.values.len() * classes, 0.0);
    for (id, slot) in ids.values.iter().zip(values.chunks_exact_mut(classes)) {
        if let Some(value) = usize::try_from(*id).ok().and_then(|id| slot.get_mut(id)) {
            *value = 1.0;
        }
    }
    let offsets = ids.offsets.map(|offsets| {
        let offsets = offsets.into_iter();
        offsets.map(|offset| offset * classes).collect()
    });
    Ok(Held {
        values,
        width: ids.width * classes,
        offsets,
    })
}

/// Refuses an id that is not allowed, in a row without nulls.
fn check_ids(
    column: &Column<'_>,
    ids: &Held<i64>,
    rows: usize,
    classes: i64,
    allowed: impl Fn(i64) -> bool,
    nulls: &Nulls,
) -> Result<(), DataError> {
    for row in (0..rows).filter(|row| !nulls.is_null(*row)) {
        let ids = &ids.values[ids.range(row)];
        if let Some(&value) = ids.iter().find(|&&id| !allowed(id)) {
            return Err(DataError::LabelRange {
                column: column.name.to_owned(),
                row: column.first_row + row as u64,
                value,
                classes,
            });
        }
    }
    Ok(())
}
