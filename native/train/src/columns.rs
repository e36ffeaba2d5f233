//! A record batch into a [`Block`]: picks the columns, checks them against the model, applies
//! the null policy.

use crate::block::{Block, Features, Labels};
use crate::config::{Columns, NullPolicy};
use crate::decode::{ACCEPTED, Column, ColumnKind, Nulls, Slots};
use crate::error::DataError;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_keras::losses::LabelSpec;

/// What the model wants of a row.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The model's input shape without the batch axis.
    pub input: Vec<i64>,
    /// What the loss compares; none when predicting.
    pub label: Option<LabelSpec>,
}

/// Decodes the record batches of one stream with one schema.
#[derive(Debug)]
pub struct Decoder {
    wanted: Wanted,
    null_policy: NullPolicy,
    features: Vec<Source>,
    label: Option<Source>,
    weight: Option<Source>,
    /// Values each feature column holds per row; known from the first batch with rows.
    widths: Option<Vec<usize>>,
    rows_seen: u64,
}

#[derive(Debug)]
struct Source {
    name: String,
    index: usize,
    kind: ColumnKind,
}

impl Decoder {
    /// Finds the columns in `schema`.
    ///
    /// # Errors
    /// [`DataError::NoColumn`] and [`DataError::Type`].
    pub fn new(schema: &Schema, columns: &Columns, wanted: Wanted) -> Result<Self, DataError> {
        let find = |name: &String| source(schema, name.as_str());
        Ok(Self {
            features: columns
                .features
                .iter()
                .map(find)
                .collect::<Result<_, _>>()?,
            label: columns.label.as_ref().map(find).transpose()?,
            weight: columns.weight.as_ref().map(find).transpose()?,
            wanted,
            null_policy: columns.null_policy,
            widths: None,
            rows_seen: 0,
        })
    }

    /// Values a row of `batch` holds in the feature columns together; 0 where it has no rows or
    /// lacks a column.
    pub fn width(columns: &Columns, batch: &RecordBatch) -> usize {
        let width = |name: &String| {
            let array = batch.column_by_name(name)?;
            Column {
                name,
                array,
                first_row: 0,
            }
            .width()
        };
        columns.features.iter().filter_map(width).sum()
    }

    /// Copies the batch's rows into a block of our own memory.
    ///
    /// # Errors
    /// Every [`DataError`] but `Empty`, naming column and row.
    pub fn decode(&mut self, batch: &RecordBatch) -> Result<Block, DataError> {
        let rows = batch.num_rows();
        let first_row = self.rows_seen;
        let mut nulls = Nulls::new(rows);
        let column = |source: &'_ Source| -> Column<'_> {
            Column {
                name: source.name_in(batch),
                array: batch.column(source.index),
                first_row,
            }
        };
        let features: Vec<_> = self.features.iter().map(column).collect();
        let widths = match &self.widths {
            Some(widths) => widths.clone(),
            None => self.feature_widths(&features)?,
        };
        let features = if let [source] = &self.features[..]
            && source.kind == ColumnKind::Binary
        {
            Features::U8(features[0].bytes(widths[0], &mut nulls)?)
        } else {
            Features::F32(concatenate(&features, &widths, rows, &mut nulls)?)
        };
        let labels = match (&self.label, &self.wanted.label) {
            (Some(source), Some(spec)) => labels(&column(source), spec, rows, &mut nulls)?,
            _ => Labels::None,
        };
        let weights = match &self.weight {
            Some(source) => Some(concatenate(&[column(source)], &[1], rows, &mut nulls)?),
            None => None,
        };
        let block = Block {
            rows,
            features,
            labels,
            weights,
        };
        let block = match (nulls.first(), self.null_policy) {
            (Some((name, row)), NullPolicy::Error) => {
                let row = first_row + row as u64;
                return Err(DataError::Null {
                    column: name.to_owned(),
                    row,
                });
            }
            (Some(_), NullPolicy::Drop) => block.without(&nulls),
            (Some(_), NullPolicy::Zero) | (None, _) => block,
        };
        self.rows_seen += rows as u64;
        if rows > 0 {
            self.widths = Some(widths);
        }
        Ok(block)
    }

    fn feature_widths(&self, features: &[Column<'_>]) -> Result<Vec<usize>, DataError> {
        let expected = elements(&self.wanted.input);
        let mut widths: Vec<_> = features.iter().map(Column::width).collect();
        let known: usize = widths.iter().flatten().sum();
        let unknown: Vec<_> = (0..widths.len()).filter(|&i| widths[i].is_none()).collect();
        // Columns that are null in every row of this batch take what the others leave.
        if let Some(&last) = unknown.last() {
            for &i in &unknown {
                widths[i] = Some(1);
            }
            widths[last] = Some((expected + 1).saturating_sub(known + unknown.len()));
        }
        let widths: Vec<usize> = widths.into_iter().flatten().collect();
        let found = widths.iter().sum();
        if found == expected || features.iter().all(|column| column.array.is_empty()) {
            return Ok(widths);
        }
        Err(DataError::FeatureWidth {
            columns: shortened(self.features.iter().map(|source| source.name.as_str())),
            found,
            expected,
            shape: self.wanted.input.clone(),
        })
    }
}

impl Source {
    fn name_in<'a>(&self, batch: &'a RecordBatch) -> &'a str {
        batch.schema_ref().field(self.index).name()
    }
}

fn source(schema: &Schema, name: &str) -> Result<Source, DataError> {
    let (index, field) = schema
        .column_with_name(name)
        .ok_or_else(|| DataError::NoColumn {
            column: name.to_owned(),
            available: names(schema),
        })?;
    let kind = ColumnKind::of(field.data_type()).ok_or_else(|| DataError::Type {
        column: name.to_owned(),
        dtype: field.data_type().to_string(),
        accepted: ACCEPTED,
    })?;
    Ok(Source {
        name: name.to_owned(),
        index,
        kind,
    })
}

/// The columns of a schema, for messages.
pub(crate) fn names(schema: &Schema) -> String {
    shortened(schema.fields().iter().map(|field| field.name().as_str()))
}

fn shortened<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match &names[..] {
        [first, second, .., last] if names.len() > 8 => {
            format!("{first}, {second}, .. {last} ({} columns)", names.len())
        }
        all => all.join(", "),
    }
}

/// Elements of a shape without the batch axis.
pub(crate) fn elements(shape: &[i64]) -> usize {
    shape
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(0))
        .product()
}

fn concatenate(
    columns: &[Column<'_>],
    widths: &[usize],
    rows: usize,
    nulls: &mut Nulls,
) -> Result<Vec<f32>, DataError> {
    let stride: usize = widths.iter().sum();
    let mut out = vec![0.0; rows * stride];
    let mut offset = 0;
    for (column, &width) in columns.iter().zip(widths) {
        if rows > 0 && width > 0 {
            column.fill(
                &mut out,
                Slots {
                    offset,
                    width,
                    stride,
                },
                nulls,
            )?;
        }
        offset += width;
    }
    Ok(out)
}

fn labels(
    column: &Column<'_>,
    spec: &LabelSpec,
    rows: usize,
    nulls: &mut Nulls,
) -> Result<Labels, DataError> {
    let shape = spec.shape().unwrap_or_default().to_vec();
    let expected = elements(&shape);
    let found = column.width().unwrap_or(expected);
    if found != expected {
        let column = column.name.to_owned();
        return Err(DataError::LabelWidth {
            column,
            found,
            expected,
            shape,
        });
    }
    let values = concatenate(std::slice::from_ref(column), &[expected], rows, nulls)?;
    match spec {
        LabelSpec::Class {
            classes, ignored, ..
        } => {
            let ids = values.iter().enumerate().map(|(at, &value)| {
                let row = at / expected.max(1);
                if column.array.is_null(row) {
                    Ok(0)
                } else {
                    class_id(column, row, value, (*classes, *ignored))
                }
            });
            ids.collect::<Result<_, _>>().map(Labels::Classes)
        }
        LabelSpec::Values { .. } | LabelSpec::Sequence { .. } => Ok(Labels::Values(values)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a whole number in the range of the classes"
)]
fn class_id(
    column: &Column<'_>,
    row: usize,
    value: f32,
    (classes, ignored): (Option<i64>, Option<i64>),
) -> Result<i64, DataError> {
    let name = column.name.to_owned();
    let (row, value) = (column.first_row + row as u64, f64::from(value));
    if value.fract() != 0.0 {
        return Err(DataError::LabelFraction {
            column: name,
            row,
            value,
        });
    }
    if let Some(classes) = classes
        && !(0.0..classes as f64).contains(&value)
        && ignored.is_none_or(|ignored| value != ignored as f64)
    {
        return Err(DataError::LabelRange {
            column: name,
            row,
            value,
            classes,
        });
    }
    Ok(value as i64)
}

impl Block {
    /// The block without the rows that hold a null.
    fn without(self, nulls: &Nulls) -> Self {
        let kept: Vec<_> = (0..self.rows).filter(|&row| !nulls.is_null(row)).collect();
        let rows = self.rows;
        Self {
            rows: kept.len(),
            features: match self.features {
                Features::U8(values) => Features::U8(pick(&values, rows, &kept)),
                Features::F32(values) => Features::F32(pick(&values, rows, &kept)),
            },
            labels: match self.labels {
                Labels::None => Labels::None,
                Labels::Classes(values) => Labels::Classes(pick(&values, rows, &kept)),
                Labels::Values(values) => Labels::Values(pick(&values, rows, &kept)),
            },
            weights: self.weights.map(|weights| pick(&weights, rows, &kept)),
        }
    }
}

fn pick<T: Copy>(values: &[T], rows: usize, kept: &[usize]) -> Vec<T> {
    let width = values.len() / rows.max(1);
    kept.iter()
        .flat_map(|row| &values[row * width..(row + 1) * width])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests;
