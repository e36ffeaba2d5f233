//! A record batch into a [`Block`]: picks the columns of each input and output of the model, checks
//! them, applies the null policy.

mod images;
mod inputs;
mod labels;
mod matrix;
mod sources;
mod steps;

use crate::binding::{self, Bound};
use crate::block::{Block, Values};
use crate::config::{Columns, NullPolicy};
use crate::decode::Nulls;
use crate::error::DataError;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_keras::losses::LabelSpec;
use flambeau_keras::{DType, Model};
use inputs::InputDecoder;
use labels::LabelDecoder;
use matrix::concatenate;
pub(crate) use sources::names;
use sources::{Source, Sources};

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
    left_out: u64,
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
        let found = Sources::new(schema);
        let inputs = wanted.inputs.into_iter().zip(inputs);
        let inputs =
            inputs.map(|(wanted, names)| InputDecoder::new(&found, columns, wanted, &names));
        let labels = wanted.outputs.into_iter().zip(labels);
        let labels = labels.map(|(output, names)| match &output.label {
            None => Ok(None),
            Some(spec) => {
                LabelDecoder::new(&found, columns, &output.name, spec.clone(), &names).map(Some)
            }
        });
        let weight = columns.weight.as_ref();
        Ok(Self {
            inputs: inputs.collect::<Result<_, DataError>>()?,
            labels: labels.collect::<Result<_, DataError>>()?,
            weight: weight.map(|name| found.one(name)).transpose()?,
            null_policy: columns.null_policy,
            rows_seen: 0,
            left_out: 0,
        })
    }

    /// Counts rows from 0 again.
    pub(crate) fn start_pass(&mut self) {
        self.rows_seen = 0;
        self.left_out = 0;
    }

    /// Rows of this pass that were left out, as [`NullPolicy::Drop`] says.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
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
            (Some(_), NullPolicy::Drop) => {
                let kept = block.without(&nulls);
                self.left_out += (rows - kept.rows) as u64;
                kept
            }
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
