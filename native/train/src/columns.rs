//! A record batch into a [`Block`]: picks the columns of each input and output of the model, checks
//! them, applies the null policy.

use crate::binding::{self, Bound};
use crate::block::{Block, Values, reserve};
use crate::config::{Columns, NullPolicy};
use crate::decode::{
    ACCEPTED, Column, ColumnKind, NUMBERS, Nulls, STRINGS, Slots, Stack, Stacks, Target, is_narrow,
    stacked,
};
use crate::error::DataError;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use flambeau_keras::losses::LabelSpec;
use flambeau_keras::{DType, Model};

/// What the model wants of a row.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its inputs, in order.
    pub inputs: Vec<WantedInput>,
    /// Its outputs, in order; none when predicting.
    pub outputs: Vec<WantedOutput>,
}

/// An input of the model.
#[derive(Debug, Clone)]
pub struct WantedInput {
    /// Its name.
    pub name: String,
    /// Its axes without the batch; `None` where the data say how many elements there are.
    pub shape: Vec<Option<i64>>,
    /// Type of its elements.
    pub dtype: DType,
}

/// The inputs of `model`.
pub fn wanted_inputs(model: &Model) -> Vec<WantedInput> {
    let inputs = model.inputs().iter();
    let inputs = inputs.map(|input| WantedInput {
        name: input.name.clone(),
        shape: input.spec.dims.iter().skip(1).copied().collect(),
        dtype: input.spec.dtype,
    });
    inputs.collect()
}

/// An output of the model.
#[derive(Debug, Clone)]
pub struct WantedOutput {
    /// Its name.
    pub name: String,
    /// What its loss compares; none where it has no loss.
    pub label: Option<LabelSpec>,
}

/// Decodes the record batches of one stream with one schema.
#[derive(Debug)]
pub struct Decoder {
    null_policy: NullPolicy,
    inputs: Vec<InputDecoder>,
    labels: Vec<Option<LabelDecoder>>,
    weight: Option<Source>,
    rows_seen: u64,
}

#[derive(Debug)]
struct InputDecoder {
    wanted: WantedInput,
    sources: Vec<Source>,
    /// Values each column holds per row; known from the first batch in which it is not null
    /// throughout.
    widths: Vec<Option<usize>>,
}

#[derive(Debug)]
struct LabelDecoder {
    spec: LabelSpec,
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    /// Of the first, where several columns arrive as one.
    name: String,
    index: usize,
    kind: ColumnKind,
    /// Whether its whole numbers fit an i32.
    narrow: bool,
    stack: Option<Stack>,
}

impl Decoder {
    /// Finds the columns in `schema`.
    ///
    /// # Errors
    /// [`DataError::NoColumn`], [`DataError::Type`] and [`DataError::Binding`]; of columns that hold
    /// one value a row also [`DataError::FeatureWidth`] and [`DataError::LabelWidth`].
    pub fn new(schema: &Schema, columns: &Columns, wanted: Wanted) -> Result<Self, DataError> {
        let Bound { inputs, labels } = binding::bind(columns, &wanted)?;
        let stacks = Stacks::of(schema);
        let find = |names: Vec<String>, strings: bool| {
            let sources = names.iter().map(|name| {
                let source = source(schema, &stacks, name)?;
                let text = matches!(source.kind, ColumnKind::Text | ColumnKind::Texts);
                let fits = if strings {
                    text || source.kind == ColumnKind::Binary
                } else {
                    !text
                };
                if fits {
                    return Ok(source);
                }
                Err(DataError::Type {
                    column: name.clone(),
                    dtype: dtype_of(schema.field(source.index)).to_string(),
                    accepted: if strings { STRINGS } else { NUMBERS },
                })
            });
            let sources = sources.collect::<Result<Vec<_>, DataError>>()?;
            Ok::<_, DataError>(joined(sources))
        };
        let inputs = wanted.inputs.into_iter().zip(inputs);
        let inputs = inputs.map(|(wanted, names)| {
            let sources = find(names, wanted.dtype == DType::String)?;
            let input = InputDecoder {
                widths: vec![None; sources.len()],
                sources,
                wanted,
            };
            match scalars(&input.sources) {
                Some(found) => input.check_width(found).map(|()| input),
                None => Ok(input),
            }
        });
        let labels = wanted.outputs.into_iter().zip(labels);
        let labels = labels.map(|(output, names)| match output.label {
            None => Ok(None),
            Some(spec) => {
                let label = LabelDecoder {
                    spec,
                    sources: find(names, false)?,
                };
                match (scalars(&label.sources), label.expected()) {
                    (Some(found), (expected, false)) if found != expected => {
                        Err(label.wrong_width(found, expected))
                    }
                    _ => Ok(Some(label)),
                }
            }
        });
        let weight = columns.weight.as_ref();
        Ok(Self {
            inputs: inputs.collect::<Result<_, DataError>>()?,
            labels: labels.collect::<Result<_, DataError>>()?,
            weight: weight
                .map(|name| source(schema, &stacks, name))
                .transpose()?,
            null_policy: columns.null_policy,
            rows_seen: 0,
        })
    }

    /// Copies the batch's rows into a block of our own memory.
    ///
    /// # Errors
    /// Every [`DataError`] but `Empty`, naming column and row.
    pub fn decode(&mut self, batch: &RecordBatch) -> Result<Block, DataError> {
        let rows = batch.num_rows();
        let first_row = self.rows_seen;
        let mut nulls = Nulls::new(rows);
        let inputs = self.inputs.iter_mut();
        let inputs = inputs.map(|input| input.decode(batch, first_row, &mut nulls));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let labels = self.labels.iter().map(|label| {
            let decode = |label: &LabelDecoder| label.decode(batch, first_row, &mut nulls);
            label.as_ref().map(decode).transpose()
        });
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let weights = match &self.weight {
            Some(source) => {
                let column = source.column(batch, first_row);
                let weights = concatenate(&[column], &[1], rows, false, &mut nulls)?;
                Some(Values::F32(weights))
            }
            None => None,
        };
        let block = Block {
            rows,
            inputs,
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
            (Some(_), NullPolicy::Zero) => {
                let unknown = self.inputs.iter().find_map(InputDecoder::unknown);
                if let Some(source) = unknown {
                    return Err(DataError::UnknownWidth {
                        column: source.name.clone(),
                        row: first_row,
                    });
                }
                block
            }
            (None, _) => block,
        };
        self.rows_seen += rows as u64;
        Ok(block)
    }
}

impl InputDecoder {
    fn decode(
        &mut self,
        batch: &RecordBatch,
        first_row: u64,
        nulls: &mut Nulls,
    ) -> Result<Values, DataError> {
        let sources = self.sources.iter();
        let columns: Vec<_> = sources
            .map(|source| source.column(batch, first_row))
            .collect();
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

    /// A column of which neither the rows so far nor the model tell how many values it holds.
    fn unknown(&self) -> Option<&Source> {
        let open = self.expected().is_none();
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

impl LabelDecoder {
    fn decode(
        &self,
        batch: &RecordBatch,
        first_row: u64,
        nulls: &mut Nulls,
    ) -> Result<Values, DataError> {
        let rows = batch.num_rows();
        let sources = self.sources.iter();
        let columns: Vec<_> = sources
            .map(|source| source.column(batch, first_row))
            .collect();
        let (expected, padded) = self.expected();
        let widths = self.widths(&columns, expected, padded)?;
        match &self.spec {
            LabelSpec::Values { .. } => Ok(Values::F32(concatenate(
                &columns, &widths, rows, padded, nulls,
            )?)),
            LabelSpec::Class {
                classes, ignored, ..
            } => {
                let ids: Vec<i64> = concatenate(&columns, &widths, rows, padded, nulls)?;
                if let (Some(classes), Some(column)) = (*classes, columns.first()) {
                    let allowed = |id: i64| (0..classes).contains(&id) || Some(id) == *ignored;
                    check_ids(column, &ids, expected, classes, allowed, nulls)?;
                }
                Ok(Values::I64(ids))
            }
            LabelSpec::Sequence { classes, .. } => {
                let ids: Vec<i64> = concatenate(&columns, &widths, rows, padded, nulls)?;
                if let Some(column) = columns.first() {
                    let allowed = |id: i64| (0..*classes).contains(&id);
                    check_ids(column, &ids, expected, *classes, allowed, nulls)?;
                }
                Ok(Values::I64(ids))
            }
        }
    }

    fn widths(
        &self,
        columns: &[Column<'_>],
        expected: usize,
        padded: bool,
    ) -> Result<Vec<usize>, DataError> {
        if padded && columns.len() == 1 {
            return Ok(vec![expected]);
        }
        let widths: Vec<_> = columns.iter().map(Column::width).collect();
        let widths = shared_out(&widths, expected);
        match widths.iter().sum() {
            found if found == expected => Ok(widths),
            found => Err(self.wrong_width(found, expected)),
        }
    }

    /// Values of a row, and whether a row may have fewer.
    fn expected(&self) -> (usize, bool) {
        match &self.spec {
            LabelSpec::Sequence { steps, .. } => (usize::try_from(*steps).unwrap_or(0), true),
            spec => (spec.shape().map_or(1, elements), false),
        }
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

/// The widths of columns that hold `expected` values together. The first one of those that are null
/// throughout, whose values are all alike, takes what the others leave.
fn shared_out(widths: &[Option<usize>], expected: usize) -> Vec<usize> {
    let mut rest = expected.saturating_sub(widths.iter().flatten().sum());
    let width = |width: &Option<usize>| width.unwrap_or_else(|| std::mem::take(&mut rest));
    widths.iter().map(width).collect()
}

/// How many values the columns hold in a row, if each holds one.
fn scalars(sources: &[Source]) -> Option<usize> {
    let values = sources.iter().map(|source| match source.kind {
        ColumnKind::Scalar | ColumnKind::Text | ColumnKind::Stack => Some(source.names().count()),
        _ => None,
    });
    values.sum()
}

impl Source {
    fn column<'a>(&'a self, batch: &'a RecordBatch, first_row: u64) -> Column<'a> {
        Column {
            name: &self.name,
            array: batch.column(self.index),
            first_row,
            stack: self.stack.as_ref(),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.stack.as_ref().map(Stack::names);
        names
            .unwrap_or(std::slice::from_ref(&self.name))
            .iter()
            .map(String::as_str)
    }
}

/// Makes one source of those that follow each other in one field.
fn joined(sources: Vec<Source>) -> Vec<Source> {
    let mut out: Vec<Source> = Vec::new();
    for mut source in sources {
        if let Some(last) = out.last_mut().filter(|last| last.index == source.index)
            && let (Some(stack), Some(next)) = (&mut last.stack, source.stack.take())
        {
            match stack.join(next) {
                Ok(()) => continue,
                Err(next) => source.stack = Some(next),
            }
        }
        out.push(source);
    }
    out
}

fn source(schema: &Schema, stacks: &Stacks, name: &str) -> Result<Source, DataError> {
    let (index, stack) = match (stacks.find(name), schema.column_with_name(name)) {
        (Some((index, stack)), _) => (index, Some(stack)),
        (None, Some((index, _))) => (index, None),
        (None, None) => {
            return Err(DataError::NoColumn {
                column: name.to_owned(),
                available: names(schema),
            });
        }
    };
    let field = schema.field(index);
    let kind = ColumnKind::of(field.data_type()).ok_or_else(|| DataError::Type {
        column: name.to_owned(),
        dtype: field.data_type().to_string(),
        accepted: ACCEPTED,
    })?;
    Ok(Source {
        name: name.to_owned(),
        index,
        kind,
        narrow: is_narrow(field.data_type()),
        stack,
    })
}

/// What a field's column is, or each of its columns.
fn dtype_of(field: &Field) -> &DataType {
    match field.data_type() {
        DataType::FixedSizeList(item, _) => item.data_type(),
        dtype => dtype,
    }
}

/// The columns of a schema, for messages.
pub(crate) fn names(schema: &Schema) -> String {
    let fields = schema.fields().iter();
    let names =
        fields.flat_map(|field| stacked(field).unwrap_or_else(|| vec![field.name().clone()]));
    let names: Vec<_> = names.collect();
    shortened(names.iter().map(String::as_str))
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

/// Axes as Keras prints them.
fn shape_text(shape: &[Option<i64>]) -> String {
    let axes = shape.iter();
    let axes = axes.map(|axis| axis.map_or_else(|| "None".to_owned(), |size| size.to_string()));
    format!("({})", axes.collect::<Vec<_>>().join(", "))
}

/// Elements of a shape without the batch axis.
pub(crate) fn elements(shape: &[i64]) -> usize {
    shape
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(0))
        .product()
}

fn concatenate<T: Target>(
    columns: &[Column<'_>],
    widths: &[usize],
    rows: usize,
    padded: bool,
    nulls: &mut Nulls,
) -> Result<Vec<T>, DataError> {
    let stride: usize = widths.iter().sum();
    let mut out = reserve(rows, stride).map_err(|bytes| too_large(columns, rows, bytes))?;
    out.resize(rows * stride, T::default());
    let mut offset = 0;
    for (column, &width) in columns.iter().zip(widths) {
        if rows > 0 {
            let slots = Slots {
                offset,
                width,
                stride,
                padded,
            };
            column.fill(&mut out, slots, nulls)?;
        }
        offset += width;
    }
    Ok(out)
}

/// The strings of several columns, row by row.
fn strings(
    columns: &[Column<'_>],
    widths: &[usize],
    rows: usize,
    nulls: &mut Nulls,
) -> Result<Vec<Box<[u8]>>, DataError> {
    let parts = columns.iter().zip(widths);
    let parts = parts.map(|(column, &width)| column.strings(width, nulls));
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let mut out =
        reserve(rows, widths.iter().sum()).map_err(|bytes| too_large(columns, rows, bytes))?;
    for _ in 0..rows {
        for (part, &width) in parts.iter_mut().zip(widths) {
            out.extend(part.by_ref().take(width));
        }
    }
    Ok(out)
}

fn too_large(columns: &[Column<'_>], rows: usize, bytes: usize) -> DataError {
    let names = shortened(columns.iter().map(|column| column.name));
    DataError::TooLarge {
        what: format!("the columns [{names}]"),
        rows,
        bytes,
    }
}

/// Refuses an id that is not allowed, in a row without nulls.
fn check_ids(
    column: &Column<'_>,
    ids: &[i64],
    width: usize,
    classes: i64,
    allowed: impl Fn(i64) -> bool,
    nulls: &Nulls,
) -> Result<(), DataError> {
    let rows = ids.chunks_exact(width.max(1)).enumerate();
    for (row, ids) in rows.filter(|(row, _)| !nulls.is_null(*row)) {
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

impl Block {
    /// The block without the rows that hold a null.
    fn without(self, nulls: &Nulls) -> Self {
        let kept: Vec<_> = (0..self.rows).filter(|&row| !nulls.is_null(row)).collect();
        let rows = self.rows.max(1);
        let pick = |values: &Values| values.pick(&kept, values.len() / rows);
        let labels = self.labels.iter();
        Self {
            rows: kept.len(),
            inputs: self.inputs.iter().map(pick).collect(),
            labels: labels.map(|values| values.as_ref().map(pick)).collect(),
            weights: self.weights.as_ref().map(pick),
        }
    }
}

#[cfg(test)]
mod tests;
