//! Record batches as TFRecords: one `tf.train.Example` per row, one feature per column.
//!
//! Integers and booleans become an Int64List, floats a FloatList, binary and strings a BytesList,
//! arrays of numbers a list of their kind. A null is a feature left out, which is how TensorFlow
//! says that a value is missing.

use crate::error::{DataError, Error};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use flambeau_formats::example::{Feature, encode_example};
use flambeau_formats::tfrecord::RecordWriter;

/// Encodes the chosen columns of batches of one schema.
#[derive(Debug)]
pub struct ExampleEncoder {
    columns: Vec<(String, usize)>,
}

const ACCEPTED: &str = "a number, boolean, string, binary or an array of numbers";

impl ExampleEncoder {
    /// Finds the columns in `schema`.
    ///
    /// # Errors
    /// [`DataError::NoColumn`] and [`DataError::Type`].
    pub fn new(schema: &Schema, columns: &[String]) -> Result<Self, DataError> {
        let find = |name: &String| {
            let (index, field) =
                schema
                    .column_with_name(name)
                    .ok_or_else(|| DataError::NoColumn {
                        column: name.clone(),
                        available: crate::columns::names(schema),
                    })?;
            let item = match field.data_type() {
                DataType::List(item) => item.data_type(),
                dtype => dtype,
            };
            if !matches!(item, DataType::Binary | DataType::Utf8) && !is_number(item) {
                let dtype = field.data_type().to_string();
                return Err(DataError::Type {
                    column: name.clone(),
                    dtype,
                    accepted: ACCEPTED,
                });
            }
            Ok((name.clone(), index))
        };
        Ok(Self {
            columns: columns.iter().map(find).collect::<Result<_, _>>()?,
        })
    }

    /// The rows of `batch` as TFRecords, one after the other.
    ///
    /// # Errors
    /// None that can happen on a batch of the schema given before; writing to memory cannot fail.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(_, index)| values(batch.column(*index)))
            .collect();
        let mut records = RecordWriter::new(Vec::new());
        let mut example = Vec::new();
        for row in 0..batch.num_rows() {
            let bytes: Vec<Option<[&[u8]; 1]>> = columns
                .iter()
                .map(|column| column.bytes(row).map(|bytes| [bytes]))
                .collect();
            let features: Vec<(&str, Feature<'_>)> = (self.columns.iter().zip(&columns))
                .zip(&bytes)
                .filter_map(|(((name, _), column), bytes)| {
                    let feature = match bytes {
                        Some(bytes) => Feature::Bytes(bytes),
                        None => column.feature(row)?,
                    };
                    Some((name.as_str(), feature))
                })
                .collect();
            example.clear();
            encode_example(&features, &mut example);
            records.write(&example).map_err(memory)?;
        }
        Ok(records.into_inner())
    }
}

fn memory(source: flambeau_formats::Error) -> Error {
    Error::Storage {
        what: "cannot encode a record in",
        path: "memory".into(),
        source: source.into(),
    }
}

fn is_number(dtype: &DataType) -> bool {
    dtype.is_signed_integer()
        || matches!(
            dtype,
            DataType::Boolean | DataType::Float32 | DataType::Float64
        )
}

/// A column's values in the types of `tf.train.Feature`, and where each row's begin and end.
struct Values<'a> {
    array: &'a dyn Array,
    kind: Kind,
}

enum Kind {
    Bytes,
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

fn values(array: &dyn Array) -> Values<'_> {
    let numbers = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().values().as_ref(),
        _ => array,
    };
    Values {
        array,
        kind: kind(numbers),
    }
}

fn kind(array: &dyn Array) -> Kind {
    macro_rules! ints {
        ($type:ty) => {
            Kind::Ints(
                array
                    .as_primitive::<$type>()
                    .values()
                    .iter()
                    .map(|&v| v.into())
                    .collect(),
            )
        };
    }
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values();
            Kind::Ints(values.iter().map(i64::from).collect())
        }
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::Float32 => Kind::Floats(array.as_primitive::<Float32Type>().values().to_vec()),
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            #[expect(clippy::cast_possible_truncation, reason = "a FloatList is float32")]
            Kind::Floats(values.iter().map(|&value| value as f32).collect())
        }
        _ => Kind::Bytes,
    }
}

impl Values<'_> {
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        if self.array.is_null(row) {
            return None;
        }
        match self.array.data_type() {
            DataType::Binary => Some(self.array.as_binary::<i32>().value(row)),
            DataType::Utf8 => Some(self.array.as_string::<i32>().value(row).as_bytes()),
            _ => None,
        }
    }

    fn feature(&self, row: usize) -> Option<Feature<'_>> {
        if self.array.is_null(row) {
            return None;
        }
        let range = match self.array.data_type() {
            DataType::List(_) => {
                let offsets = self.array.as_list::<i32>().value_offsets();
                usize::try_from(offsets[row]).ok()?..usize::try_from(offsets[row + 1]).ok()?
            }
            _ => row..row + 1,
        };
        match &self.kind {
            Kind::Bytes => None,
            Kind::Ints(values) => Some(Feature::Ints(&values[range])),
            Kind::Floats(values) => Some(Feature::Floats(&values[range])),
        }
    }
}
