//! A record batch into a [`Block`]: picks the columns of each input and output of the model, checks
//! them, applies the null policy.

mod images;
mod labels;
mod steps;

use crate::binding::{self, Bound};
use crate::block::{Block, Values, reserve};
use crate::config::{Columns, NullPolicy};
use crate::decode::{
    ACCEPTED, Column, ColumnKind, NUMBERS, Nulls, STRINGS, Slots, Target, is_narrow,
};
use crate::error::DataError;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_keras::losses::LabelSpec;
use flambeau_keras::{DType, Model};
use images::ImageInput;
use labels::LabelDecoder;
use steps::Steps;

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
    /// Where its column holds images.
    image: Option<ImageInput>,
    /// Where rows of its column may differ in how many values they hold.
    steps: Option<Steps>,
}

#[derive(Debug)]
struct Source {
    name: String,
    index: usize,
    kind: ColumnKind,
    /// Whether its whole numbers fit an i32.
    narrow: bool,
}

impl Decoder {
    /// Finds the columns in `schema`.
    ///
    /// # Errors
    /// [`DataError::NoColumn`], [`DataError::Type`] and [`DataError::Binding`]; of columns that hold
    /// one value a row also [`DataError::FeatureWidth`] and [`DataError::LabelWidth`].
    pub fn new(schema: &Schema, columns: &Columns, wanted: Wanted) -> Result<Self, DataError> {
        let Bound { inputs, labels } = binding::bind(columns, &wanted)?;
        check_names(columns, &wanted, &inputs)?;
        let inputs = wanted.inputs.into_iter().zip(inputs);
        let inputs =
            inputs.map(|(wanted, names)| InputDecoder::new(schema, columns, wanted, names));
        let labels = wanted.outputs.into_iter().zip(labels);
        let labels = labels.map(|(output, names)| match &output.label {
            None => Ok(None),
            Some(spec) => {
                LabelDecoder::new(schema, columns, &output.name, spec.clone(), &names).map(Some)
            }
        });
        let weight = columns.weight.as_ref();
        Ok(Self {
            inputs: inputs.collect::<Result<_, DataError>>()?,
            labels: labels.collect::<Result<_, DataError>>()?,
            weight: weight.map(|name| source(schema, name)).transpose()?,
            null_policy: columns.null_policy,
            rows_seen: 0,
        })
    }

    /// Counts rows from 0 again.
    pub(crate) fn start_pass(&mut self) {
        self.rows_seen = 0;
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
        let labels = self.labels.iter_mut().map(|label| {
            let decode = |label: &mut LabelDecoder| label.decode(batch, first_row, &mut nulls);
            label.as_mut().map(decode).transpose()
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
                let labels = self.labels.iter().flatten();
                let unknown = unknown.or_else(|| labels.filter_map(LabelDecoder::unknown).next());
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

/// Which columns an input or output takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Numbers,
    Strings,
}

impl Takes {
    /// Finds columns of the right kind.
    fn find(self, schema: &Schema, names: &[String]) -> Result<Vec<Source>, DataError> {
        let sources = names.iter().map(|name| {
            let source = source(schema, name)?;
            let text = matches!(source.kind, ColumnKind::Text | ColumnKind::Texts);
            let fits = match self {
                Self::Strings => text || source.kind == ColumnKind::Binary,
                Self::Numbers => !text,
            };
            if fits {
                return Ok(source);
            }
            Err(DataError::Type {
                column: name.clone(),
                dtype: schema.field(source.index).data_type().to_string(),
                accepted: match self {
                    Self::Strings => STRINGS,
                    Self::Numbers => NUMBERS,
                },
            })
        });
        sources.collect()
    }
}

/// Refuses settings for columns, inputs or outputs that are not there.
fn check_names(
    columns: &Columns,
    wanted: &Wanted,
    inputs: &[Vec<String>],
) -> Result<(), DataError> {
    let wrong = |reason: String| Err(DataError::Binding { reason });
    let strange = columns.images.iter();
    let mut strange = strange.filter(|name| !inputs.iter().flatten().any(|other| other == *name));
    if let Some(name) = strange.next() {
        return wrong(format!(
            "imageCols names '{name}', which feeds no input of the model: name it in featureCols \
             or inputMapping too"
        ));
    }
    let names = wanted.inputs.iter().map(|input| input.name.as_str());
    let outputs = wanted.outputs.iter().map(|output| output.name.as_str());
    let outputs: Vec<_> = outputs.collect();
    let both: Vec<_> = names.chain(outputs.iter().copied()).collect();
    // Predicting, nobody knows the outputs.
    let known = |name: &str, among: &[&str]| wanted.outputs.is_empty() || among.contains(&name);
    let padded = columns.sequence_padding.names();
    let padded = padded.chain(columns.sequence_truncating.names());
    for name in padded {
        if !known(name, &both) {
            return wrong(format!(
                "sequencePadding or sequenceTruncating names '{name}', which is no input or output \
                 of the model; it has [{}]",
                both.join(", ")
            ));
        }
    }
    for name in columns.label_encoding.names() {
        if !known(name, &outputs) {
            return wrong(format!(
                "labelEncoding names '{name}', which is no output of the model; it has [{}]",
                outputs.join(", ")
            ));
        }
    }
    Ok(())
}

impl InputDecoder {
    fn new(
        schema: &Schema,
        columns: &Columns,
        wanted: WantedInput,
        names: Vec<String>,
    ) -> Result<Self, DataError> {
        let strings = wanted.dtype == DType::String;
        let takes = if strings {
            Takes::Strings
        } else {
            Takes::Numbers
        };
        let sources = takes.find(schema, &names)?;
        let image = ImageInput::of(schema, columns, &wanted, &sources)?;
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
    fn unknown(&self) -> Option<&Source> {
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
        let names = self.sources.iter().map(|source| source.name.as_str());
        Err(DataError::FeatureWidth {
            columns: shortened(names),
            found,
            input: self.wanted.name.clone(),
            shape: shape_text(shape),
        })
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
    let one = |source: &Source| matches!(source.kind, ColumnKind::Scalar | ColumnKind::Text);
    sources.iter().all(one).then_some(sources.len())
}

impl Source {
    /// Whether rows may hold any number of values; a string is one value of an input of strings.
    fn is_sequence(&self, strings: bool) -> bool {
        match self.kind {
            ColumnKind::List | ColumnKind::Texts => true,
            ColumnKind::Binary => !strings,
            _ => false,
        }
    }

    fn column<'a>(&self, batch: &'a RecordBatch, first_row: u64) -> Column<'a> {
        Column {
            name: batch.schema_ref().field(self.index).name(),
            array: batch.column(self.index),
            first_row,
        }
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
        narrow: is_narrow(field.data_type()),
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
