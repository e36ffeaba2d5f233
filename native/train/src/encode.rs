//! Record batches as TFRecords: one record per row.
//!
//! Integers and booleans become an Int64List, floats a FloatList, binary and strings a BytesList;
//! arrays a list of their kind. A null is a feature left out, which is how TensorFlow says that a
//! value is missing. Arrays of arrays are feature lists of a `tf.train.SequenceExample`.

use crate::error::{DataError, Error};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use flambeau_formats::columnar::RecordType;
use flambeau_formats::example::{Feature, encode_example, encode_sequence_example};
use flambeau_formats::tfrecord::RecordWriter;
use std::ops::Range;

/// Encodes the chosen columns of batches of one schema.
#[derive(Debug)]
pub struct RecordEncoder {
    record_type: RecordType,
    columns: Vec<(String, usize)>,
    /// Rows of the batches before.
    rows: u64,
}

const IN_EXAMPLE: &str = "a number, boolean, string, binary, or an array of such (an array of \
                          arrays only as recordType SequenceExample)";
const IN_SEQUENCE: &str = "a number, boolean, string, binary, an array, or an array of arrays";
const IN_BYTES: &str = "one column of type binary or string";

impl RecordEncoder {
    /// Finds the columns in `schema`.
    ///
    /// # Errors
    /// [`DataError::NoColumn`] and [`DataError::Type`].
    pub fn new(
        schema: &Schema,
        columns: &[String],
        record_type: RecordType,
    ) -> Result<Self, DataError> {
        let find = |name: &String| {
            let (index, field) =
                schema
                    .column_with_name(name)
                    .ok_or_else(|| DataError::NoColumn {
                        column: name.clone(),
                        available: crate::columns::names(schema),
                    })?;
            let (item, depth) = element(field.data_type());
            let is_bytes = matches!(item, DataType::Binary | DataType::Utf8);
            let (fits, accepted) = match record_type {
                RecordType::Example => (depth < 2, IN_EXAMPLE),
                RecordType::SequenceExample => (depth < 3, IN_SEQUENCE),
                RecordType::ByteArray => (is_bytes && depth == 0 && columns.len() == 1, IN_BYTES),
            };
            if !fits || (!is_bytes && !is_number(item)) {
                return Err(DataError::Type {
                    column: name.clone(),
                    dtype: field.data_type().to_string(),
                    accepted,
                });
            }
            Ok((name.clone(), index))
        };
        Ok(Self {
            record_type,
            columns: columns.iter().map(find).collect::<Result<_, _>>()?,
            rows: 0,
        })
    }

    /// The rows of `batch` as TFRecords, one after the other.
    ///
    /// # Errors
    /// [`DataError::Null`] for a null inside an array, or where a record is one value.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let columns = self.columns.iter();
        let columns = columns.map(|(name, index)| Column::new(name, batch.column(*index)));
        let columns: Vec<_> = columns.collect();
        let mut records = RecordWriter::new(Vec::new());
        let mut record = Vec::new();
        for row in 0..batch.num_rows() {
            record.clear();
            let encoded = match self.record_type {
                RecordType::Example => example(&columns, row, &mut record),
                RecordType::SequenceExample => sequence_example(&columns, row, &mut record),
                RecordType::ByteArray => bytes(&columns, row, &mut record),
            };
            encoded.map_err(|column| DataError::Null {
                column: column.to_owned(),
                row: self.rows + row as u64,
            })?;
            records.write(&record).map_err(memory)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(records.into_inner())
    }
}

/// Encodes a row; fails with the column that has a null where none can be.
fn example<'a>(columns: &[Column<'a>], row: usize, out: &mut Vec<u8>) -> Result<(), &'a str> {
    let mut features = Vec::with_capacity(columns.len());
    for column in columns {
        if let Some(range) = column.range(row) {
            features.push((column.name, column.feature(range)?));
        }
    }
    encode_example(&features, out);
    Ok(())
}

fn sequence_example<'a>(
    columns: &[Column<'a>],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), &'a str> {
    let mut context = Vec::new();
    let mut lists = Vec::new();
    for column in columns {
        let Some(range) = column.range(row) else {
            continue;
        };
        if column.inner.is_empty() {
            context.push((column.name, column.feature(range)?));
        } else {
            let features = range.map(|list| column.inner_feature(list));
            lists.push((column.name, features.collect::<Result<_, _>>()?));
        }
    }
    encode_sequence_example(&context, &lists, out);
    Ok(())
}

fn bytes<'a>(columns: &[Column<'a>], row: usize, out: &mut Vec<u8>) -> Result<(), &'a str> {
    for column in columns {
        let range = column.range(row).ok_or(column.name)?;
        if let Feature::Bytes(items) = column.feature(range)? {
            items.iter().for_each(|item| out.extend_from_slice(item));
        }
    }
    Ok(())
}

fn memory(source: flambeau_formats::Error) -> Error {
    Error::Storage {
        what: "cannot encode a record in",
        path: "memory".into(),
        source: source.into(),
    }
}

/// What is in a type's lists, and how deep.
fn element(mut dtype: &DataType) -> (&DataType, usize) {
    let mut depth = 0;
    while let DataType::List(item) = dtype {
        dtype = item.data_type();
        depth += 1;
    }
    (dtype, depth)
}

fn is_number(dtype: &DataType) -> bool {
    dtype.is_signed_integer()
        || matches!(
            dtype,
            DataType::Boolean | DataType::Float32 | DataType::Float64
        )
}

/// One column's values in the types of `tf.train.Feature`, and where each row's begin and end.
struct Column<'a> {
    name: &'a str,
    array: &'a dyn Array,
    /// Of each list of an array column where it begins; empty if there is none.
    outer: &'a [i32],
    /// Of each list inside those lists; empty if there is none.
    inner: &'a [i32],
    /// Whatever is in the lists, for its nulls.
    element: &'a dyn Array,
    /// Inner lists, for their nulls.
    lists: Option<&'a dyn Array>,
    values: Values<'a>,
}

enum Values<'a> {
    Bytes(Vec<&'a [u8]>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

impl<'a> Column<'a> {
    fn new(name: &'a str, array: &'a dyn Array) -> Self {
        let (mut outer, mut inner): (&[i32], &[i32]) = (&[], &[]);
        let (mut element, mut lists) = (array, None);
        if let Some(list) = array.as_list_opt::<i32>() {
            outer = list.value_offsets();
            element = list.values().as_ref();
            if let Some(list) = element.as_list_opt::<i32>() {
                lists = Some(element);
                inner = list.value_offsets();
                element = list.values().as_ref();
            }
        }
        Self {
            name,
            array,
            outer,
            inner,
            element,
            lists,
            values: values(element),
        }
    }

    /// Of a row that is not null, where its values, or its inner lists, are.
    fn range(&self, row: usize) -> Option<Range<usize>> {
        if self.array.is_null(row) {
            return None;
        }
        Some(match self.outer {
            [] => row..row + 1,
            outer => between(outer, row),
        })
    }

    /// The values of an inner list; fails if it or one of them is null.
    fn inner_feature(&self, list: usize) -> Result<Feature<'_>, &'a str> {
        match self.lists {
            Some(lists) if lists.is_null(list) => Err(self.name),
            _ => self.feature(between(self.inner, list)),
        }
    }

    /// The values at `range`; fails if one of them is null.
    fn feature(&self, range: Range<usize>) -> Result<Feature<'_>, &'a str> {
        if self.element.null_count() > 0 && range.clone().any(|at| self.element.is_null(at)) {
            return Err(self.name);
        }
        Ok(match &self.values {
            Values::Bytes(values) => Feature::Bytes(&values[range]),
            Values::Ints(values) => Feature::Ints(&values[range]),
            Values::Floats(values) => Feature::Floats(&values[range]),
        })
    }
}

/// The stretch that list `at` is.
fn between(offsets: &[i32], at: usize) -> Range<usize> {
    let place = |offset: i32| usize::try_from(offset).unwrap_or(0);
    place(offsets[at])..place(offsets[at + 1])
}

fn values(array: &dyn Array) -> Values<'_> {
    macro_rules! ints {
        ($type:ty) => {{
            let values = array.as_primitive::<$type>().values().iter();
            Values::Ints(values.map(|&value| value.into()).collect())
        }};
    }
    macro_rules! bytes {
        ($array:expr) => {{
            let array = $array;
            Values::Bytes(
                (0..array.len())
                    .map(|row| array.value(row).as_ref())
                    .collect(),
            )
        }};
    }
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values();
            Values::Ints(values.iter().map(i64::from).collect())
        }
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::Float32 => Values::Floats(array.as_primitive::<Float32Type>().values().to_vec()),
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            #[expect(clippy::cast_possible_truncation, reason = "a FloatList is float32")]
            Values::Floats(values.iter().map(|&value| value as f32).collect())
        }
        DataType::Utf8 => bytes!(array.as_string::<i32>()),
        DataType::Binary => bytes!(array.as_binary::<i32>()),
        // `RecordEncoder::new` refuses what is none of these.
        _ => Values::Bytes(Vec::new()),
    }
}
