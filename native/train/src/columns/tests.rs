//! What decoding gives, and what it refuses.

mod mapping;

use super::*;
use arrow_array::builder::{
    BinaryBuilder, FixedSizeListBuilder, Float64Builder, Int32Builder, ListBuilder,
};
use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int8Array, Int32Array, StructArray};
use arrow_schema::Field;
use std::sync::Arc;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

fn columns(features: &[&str], label: Option<&str>, null_policy: NullPolicy) -> Columns {
    Columns {
        features: features.iter().map(ToString::to_string).collect(),
        labels: label.map(str::to_owned).into_iter().collect(),
        null_policy,
        ..Columns::default()
    }
}

fn input(name: &str, shape: &[Option<i64>], dtype: DType) -> WantedInput {
    WantedInput {
        name: name.to_owned(),
        shape: shape.to_vec(),
        dtype,
    }
}

fn wanted(shape: &[i64], classes: Option<i64>) -> Wanted {
    let shape: Vec<_> = shape.iter().map(|&size| Some(size)).collect();
    let outputs = classes.map(|classes| WantedOutput {
        name: "out".to_owned(),
        label: Some(LabelSpec::Class {
            shape: Vec::new(),
            classes: Some(classes),
            ignored: None,
        }),
    });
    Wanted {
        inputs: vec![input("in", &shape, DType::FLOAT32)],
        outputs: outputs.into_iter().collect(),
    }
}

fn decode(batch: &RecordBatch, columns: &Columns, wanted: Wanted) -> Result<Block, DataError> {
    Decoder::new(batch.schema_ref(), columns, wanted)?.decode(batch)
}

fn ints(values: &[Option<i32>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<Int32Array>())
}

fn doubles(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<Float64Array>())
}

#[test]
fn scalar_columns_are_concatenated_row_by_row() {
    let a = ints(&[Some(1), Some(2)]);
    let b = doubles(&[Some(0.5), Some(1.5)]);
    let c: ArrayRef = Arc::new(Int8Array::from(vec![-1, -2]));
    let batch = batch(vec![("c", c), ("a", a), ("b", b)]);
    let columns = columns(&["a", "b", "c"], None, NullPolicy::Error);
    let block = decode(&batch, &columns, wanted(&[3], None)).unwrap();
    assert_eq!(
        block.inputs,
        [Values::F32(vec![1.0, 0.5, -1.0, 2.0, 1.5, -2.0])]
    );
    assert!(block.labels.is_empty());
}

#[test]
fn one_binary_column_stays_bytes() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"abcd", b"efgh"]));
    let batch = batch(vec![("image", bytes)]);
    let columns = columns(&["image"], None, NullPolicy::Error);
    let block = decode(&batch, &columns, wanted(&[2, 2, 1], None)).unwrap();
    assert_eq!(block.inputs, [Values::U8(b"abcdefgh".to_vec())]);
}

#[test]
fn a_sliced_batch_is_read_from_its_offset() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"ab", b"cd", b"ef"]));
    let label = ints(&[Some(0), Some(1), Some(2)]);
    let batch = batch(vec![("image", bytes), ("label", label)]).slice(1, 2);
    let columns = columns(&["image"], Some("label"), NullPolicy::Error);
    let block = decode(&batch, &columns, wanted(&[2], Some(3))).unwrap();
    assert_eq!(block.inputs, [Values::U8(b"cdef".to_vec())]);
    assert_eq!(block.labels, [Some(Values::I64(vec![1, 2]))]);
}

#[test]
fn arrays_become_rows_of_floats_and_must_agree_in_length() {
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), Some(2)]);
    lists.append_value([Some(3)]);
    let batch = batch(vec![("image", Arc::new(lists.finish()))]);
    let columns = columns(&["image"], None, NullPolicy::Error);
    let error = decode(&batch, &columns, wanted(&[2], None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column 'image' has 1 values in row 1 of the partition, 2 expected: pad or filter the rows, \
         of arrays also by sequencePadding and sequenceTruncating"
    );
}

/// Indices of a sparse vector, or none of a dense one; values; size of a sparse vector.
type Vector<'a> = (Option<&'a [i32]>, &'a [f64], i32);

fn vectors(rows: &[Vector<'_>]) -> ArrayRef {
    let mut indices = ListBuilder::new(Int32Builder::new());
    let mut values = ListBuilder::new(Float64Builder::new());
    for (index, value, _) in rows {
        match index {
            Some(index) => indices.append_value(index.iter().map(|&i| Some(i))),
            None => indices.append(false),
        }
        values.append_value(value.iter().map(|&v| Some(v)));
    }
    let kinds: Vec<i8> = rows
        .iter()
        .map(|(index, ..)| i8::from(index.is_none()))
        .collect();
    let sizes: Vec<Option<i32>> = rows
        .iter()
        .map(|(index, _, size)| index.is_some().then_some(*size))
        .collect();
    let field =
        |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    let arrays: [(&str, ArrayRef); 4] = [
        ("type", Arc::new(Int8Array::from(kinds))),
        ("size", ints(&sizes)),
        ("indices", Arc::new(indices.finish())),
        ("values", Arc::new(values.finish())),
    ];
    let fields: Vec<_> = arrays
        .iter()
        .map(|(name, array)| (field(name, array), array.clone()))
        .collect();
    Arc::new(StructArray::from(fields))
}

#[test]
fn sparse_vectors_are_made_dense_beside_dense_ones() {
    let rows = vectors(&[(None, &[1.0, 2.0, 3.0], 0), (Some(&[2]), &[9.0], 3)]);
    let batch = batch(vec![("v", rows)]);
    let columns = columns(&["v"], None, NullPolicy::Error);
    let block = decode(&batch, &columns, wanted(&[3], None)).unwrap();
    assert_eq!(
        block.inputs,
        [Values::F32(vec![1.0, 2.0, 3.0, 0.0, 0.0, 9.0])]
    );
}

#[test]
fn a_null_is_refused_zeroed_or_dropped_by_policy() {
    let a = ints(&[Some(1), None, Some(3)]);
    let label = ints(&[Some(0), Some(1), None]);
    let batch = batch(vec![("a", a), ("label", label)]);
    let run = |policy| {
        decode(
            &batch,
            &columns(&["a"], Some("label"), policy),
            wanted(&[1], Some(2)),
        )
    };
    assert_eq!(
        run(NullPolicy::Error).unwrap_err().to_string(),
        "column 'a' is null in row 1 of the partition: clean the data or set nullPolicy to 'zero' \
         or 'drop'"
    );
    let zeroed = run(NullPolicy::Zero).unwrap();
    assert_eq!(zeroed.inputs, [Values::F32(vec![1.0, 0.0, 3.0])]);
    assert_eq!(zeroed.labels, [Some(Values::I64(vec![0, 1, 0]))]);
    let dropped = run(NullPolicy::Drop).unwrap();
    assert_eq!(dropped.rows, 1);
    assert_eq!(dropped.inputs, [Values::F32(vec![1.0])]);
}

#[test]
fn bytes_under_a_null_are_zeros() {
    let mut bytes = BinaryBuilder::new();
    bytes.append_value(b"ab");
    bytes.append_null();
    let batch = batch(vec![("image", Arc::new(bytes.finish()))]);
    let columns = columns(&["image"], None, NullPolicy::Zero);
    let block = decode(&batch, &columns, wanted(&[2], None)).unwrap();
    assert_eq!(block.inputs, [Values::U8(b"ab\0\0".to_vec())]);
}

#[test]
fn rows_are_counted_over_batches_in_messages() {
    let a = ints(&[Some(0), Some(0)]);
    let good = batch(vec![("a", a.clone()), ("label", ints(&[Some(0), Some(1)]))]);
    let bad = batch(vec![("a", a), ("label", ints(&[Some(1), Some(10)]))]);
    let columns = columns(&["a"], Some("label"), NullPolicy::Error);
    let mut decoder = Decoder::new(good.schema_ref(), &columns, wanted(&[1], Some(10))).unwrap();
    decoder.decode(&good).unwrap();
    assert_eq!(
        decoder.decode(&bad).unwrap_err().to_string(),
        "label 10 of column 'label' in row 3 of the partition is out of range [0, 10): the \
         model's output has 10 classes"
    );
}

#[test]
fn a_fractional_class_id_is_refused() {
    let batch = batch(vec![
        ("a", ints(&[Some(0)])),
        ("label", doubles(&[Some(1.5)])),
    ]);
    let columns = columns(&["a"], Some("label"), NullPolicy::Error);
    let error = decode(&batch, &columns, wanted(&[1], Some(10))).unwrap_err();
    assert!(
        matches!(error, DataError::Fraction { row: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_wrong_column_is_named_with_those_there_are() {
    let batch = batch(vec![("a", ints(&[Some(0)])), ("b", ints(&[Some(0)]))]);
    let error = decode(
        &batch,
        &columns(&["image"], None, NullPolicy::Error),
        wanted(&[1], None),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "no column 'image' among the columns [a, b]"
    );
}

#[test]
fn a_wrong_type_is_named_with_those_accepted() {
    let text: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["x"]));
    let batch = batch(vec![("a", text)]);
    let error = decode(
        &batch,
        &columns(&["a"], None, NullPolicy::Error),
        wanted(&[1], None),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "column 'a' is Utf8; accepted is a number, boolean, date, timestamp, binary, an array of \
         numbers, or an ML vector: look strings up in the model (StringLookup, TextVectorization) \
         behind an input of dtype string"
    );
}

#[test]
fn a_total_width_other_than_the_models_is_refused() {
    let batch = batch(vec![("a", ints(&[Some(0)])), ("b", ints(&[Some(0)]))]);
    let error = decode(
        &batch,
        &columns(&["a", "b"], None, NullPolicy::Error),
        wanted(&[28, 28, 1], None),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "the feature columns [a, b] hold 2 values a row, the model's input 'in' takes rows of shape \
         (28, 28, 1)"
    );
}

#[test]
fn several_inputs_have_types_of_their_own() {
    let ids = ints(&[Some(16_777_217), Some(3)]);
    let text: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["ab", ""]));
    let batch = batch(vec![
        ("x", doubles(&[Some(0.5), Some(1.0)])),
        ("id", ids),
        ("t", text),
    ]);
    let columns = columns(&["id", "t", "x"], None, NullPolicy::Error);
    let int64 = DType::from_name("int64").unwrap();
    let wanted = Wanted {
        inputs: vec![
            input("id", &[], int64),
            input("text", &[Some(1)], DType::String),
            input("x", &[None], DType::FLOAT32),
        ],
        outputs: Vec::new(),
    };
    let block = decode(&batch, &columns, wanted).unwrap();
    // An id above 2^24 does not pass through float32.
    assert_eq!(block.inputs[0], Values::I32(vec![16_777_217, 3]));
    let strings: Vec<Box<[u8]>> = vec![(*b"ab").into(), Box::default()];
    assert_eq!(block.inputs[1], Values::Strings(strings));
    assert_eq!(block.inputs[2], Values::F32(vec![0.5, 1.0]));
}

#[test]
fn an_axis_that_only_rows_tell_takes_what_the_first_row_has() {
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), Some(2), Some(3), Some(4)]);
    lists.append_value([Some(1), Some(2)]);
    let batch = batch(vec![("steps", Arc::new(lists.finish()))]);
    let columns = columns(&["steps"], None, NullPolicy::Error);
    let wanted = Wanted {
        inputs: vec![input("in", &[None, Some(2)], DType::FLOAT32)],
        outputs: Vec::new(),
    };
    let good = decode(&batch.slice(0, 1), &columns, wanted.clone()).unwrap();
    assert_eq!(good.inputs, [Values::F32(vec![1.0, 2.0, 3.0, 4.0])]);
    let error = decode(&batch, &columns, wanted).unwrap_err().to_string();
    assert!(error.contains("2 values in row 1"), "{error}");
}

/// Lists of numbers; none is a null.
fn lists(rows: &[Option<&[i32]>]) -> ArrayRef {
    let mut lists = ListBuilder::new(Int32Builder::new());
    for row in rows {
        match row {
            Some(values) => lists.append_value(values.iter().map(|&value| Some(value))),
            None => lists.append(false),
        }
    }
    Arc::new(lists.finish())
}

#[test]
fn columns_that_are_null_throughout_a_batch_say_nothing_of_their_width() {
    let unknown = batch(vec![("a", lists(&[None])), ("b", lists(&[None]))]);
    let half = batch(vec![
        ("a", lists(&[None])),
        ("b", lists(&[Some(&[4, 5, 6])])),
    ]);
    let known = batch(vec![
        ("a", lists(&[Some(&[1, 2]), None])),
        ("b", lists(&[Some(&[3, 4, 5]), Some(&[6, 7, 8])])),
    ]);
    for policy in [NullPolicy::Zero, NullPolicy::Drop] {
        let columns = columns(&["a", "b"], None, policy);
        let schema = known.schema();
        let mut decoder = Decoder::new(&schema, &columns, wanted(&[5], None)).unwrap();
        let mut rows = |batch: &RecordBatch| decoder.decode(batch).unwrap().inputs.remove(0);
        let given = [&unknown, &half, &known].map(&mut rows);
        let expected: [&[f32]; 3] = match policy {
            NullPolicy::Zero => [
                &[0.0; 5],
                &[0.0, 0.0, 4.0, 5.0, 6.0],
                &[1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 6.0, 7.0, 8.0],
            ],
            _ => [&[], &[], &[1.0, 2.0, 3.0, 4.0, 5.0]],
        };
        assert_eq!(given, expected.map(|values| Values::F32(values.to_vec())));
    }
}

#[test]
fn zeros_need_a_width_and_dropped_rows_do_not() {
    let open = Wanted {
        inputs: vec![input("in", &[None], DType::FLOAT32)],
        outputs: Vec::new(),
    };
    let nulls = batch(vec![("a", lists(&[None, None]))]);
    let known = batch(vec![("a", lists(&[None, Some(&[1, 2])]))]);
    let decoder = |policy| {
        let columns = columns(&["a"], None, policy);
        Decoder::new(&nulls.schema(), &columns, open.clone()).unwrap()
    };
    let error = decoder(NullPolicy::Zero).decode(&nulls).unwrap_err();
    assert!(
        matches!(&error, DataError::UnknownWidth { column, row: 0 } if column == "a"),
        "{error}"
    );
    let error = decoder(NullPolicy::Error).decode(&nulls).unwrap_err();
    assert!(matches!(error, DataError::Null { row: 0, .. }), "{error}");
    let mut dropping = decoder(NullPolicy::Drop);
    assert_eq!(dropping.decode(&nulls).unwrap().rows, 0);
    let block = dropping.decode(&known).unwrap();
    assert_eq!(block.inputs, [Values::F32(vec![1.0, 2.0])]);
    let mut zeroing = decoder(NullPolicy::Zero);
    zeroing.decode(&known).unwrap();
    let block = zeroing.decode(&nulls).unwrap();
    assert_eq!(block.inputs, [Values::F32(vec![0.0; 4])]);
}

#[test]
fn ids_keep_the_width_of_their_columns() {
    let tiny: ArrayRef = Arc::new(Int8Array::from(vec![-7]));
    let long: ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![1_i64 << 40]));
    let batch = batch(vec![
        ("tiny", tiny),
        ("list", lists(&[Some(&[i32::MIN])])),
        ("long", long),
    ]);
    let int64 = DType::from_name("int64").unwrap();
    let ids = |names: &[&str]| {
        let wanted = Wanted {
            inputs: vec![input("in", &[i64::try_from(names.len()).ok()], int64)],
            outputs: Vec::new(),
        };
        let columns = columns(names, None, NullPolicy::Error);
        decode(&batch, &columns, wanted).unwrap().inputs.remove(0)
    };
    assert_eq!(ids(&["tiny", "list"]), Values::I32(vec![-7, i32::MIN]));
    assert_eq!(ids(&["tiny", "long"]), Values::I64(vec![-7, 1 << 40]));
}

#[test]
fn rows_that_no_memory_has_room_for_are_an_error() {
    let row: Vector<'_> = (Some(&[0]), &[1.0], i32::MAX);
    let rows = vectors(&vec![row; 300_000]);
    let batch = batch(vec![("v", rows)]);
    let columns = columns(&["v"], None, NullPolicy::Error);
    let wanted = Wanted {
        inputs: vec![input("in", &[None], DType::FLOAT32)],
        outputs: Vec::new(),
    };
    let error = decode(&batch, &columns, wanted).unwrap_err();
    assert!(
        matches!(error, DataError::TooLarge { rows: 300_000, .. }),
        "{error}"
    );
}

/// Columns of ints that arrive as one, as the JVM sends them.
fn stack(names: &[&str], rows: &[&[Option<i32>]]) -> (Field, ArrayRef) {
    let mut lists =
        FixedSizeListBuilder::new(Int32Builder::new(), i32::try_from(names.len()).unwrap());
    for row in rows {
        lists.values().extend(row.iter().copied());
        lists.append(true);
    }
    let array: ArrayRef = Arc::new(lists.finish());
    let names = serde_json::to_string(names).unwrap();
    let metadata = [("flambeau.columns".to_owned(), names)];
    let field = Field::new("..", array.data_type().clone(), false);
    (field.with_metadata(metadata), array)
}

fn stacked_batch() -> RecordBatch {
    let (field, ints) = stack(
        &["a", "b", "c"],
        &[&[Some(1), Some(2), Some(3)], &[Some(4), None, Some(6)]],
    );
    let halves = Field::new("h", arrow_schema::DataType::Float64, true);
    let schema = Arc::new(Schema::new(vec![field, halves]));
    RecordBatch::try_new(schema, vec![ints, doubles(&[Some(0.5), Some(1.5)])]).unwrap()
}

#[test]
fn stacked_columns_are_found_by_their_names_in_any_order() {
    let batch = stacked_batch().slice(0, 1);
    for (features, expected) in [
        (&["a", "b", "c"][..], vec![1.0, 2.0, 3.0]),
        (&["c", "h", "a", "b"], vec![3.0, 0.5, 1.0, 2.0]),
        (&["b", "b"], vec![2.0, 2.0]),
    ] {
        let shape = [features.len() as i64];
        let columns = columns(features, Some("c"), NullPolicy::Error);
        let block = decode(&batch, &columns, wanted(&shape, Some(9))).unwrap();
        assert_eq!(block.inputs, [Values::F32(expected)]);
        assert_eq!(block.labels, [Some(Values::I64(vec![3]))]);
    }
    let error = |features: &[&str]| {
        let columns = columns(features, None, NullPolicy::Error);
        decode(&batch, &columns, wanted(&[2], None))
            .unwrap_err()
            .to_string()
    };
    assert!(error(&["a", "b", "c"]).contains("[a, b, c] hold 3 values a row"));
    assert!(error(&["a", "x"]).contains("'x'") && error(&["x"]).contains("a, b, c, h"));
    let mut strings = wanted(&[1], None);
    strings.inputs[0].dtype = DType::String;
    let columns = columns(&["b"], None, NullPolicy::Error);
    let error = decode(&batch, &columns, strings).unwrap_err().to_string();
    assert!(error.contains("'b'") && error.contains("Int32"), "{error}");
}

#[test]
fn a_null_among_stacked_columns_is_that_of_its_column() {
    let batch = stacked_batch();
    let decode = |features: &[&str], policy| {
        let wanted = wanted(&[features.len() as i64], None);
        decode(&batch, &columns(features, None, policy), wanted)
    };
    let error = decode(&["a", "b", "c"], NullPolicy::Error).unwrap_err();
    assert!(matches!(error, DataError::Null { column, row: 1 } if column == "b"));
    let zeroed = decode(&["c", "a", "b"], NullPolicy::Zero).unwrap();
    let expected = vec![3.0, 1.0, 2.0, 6.0, 4.0, 0.0];
    assert_eq!(zeroed.inputs, [Values::F32(expected)]);
    let dropped = decode(&["b", "a"], NullPolicy::Drop).unwrap();
    assert_eq!(dropped.inputs, [Values::F32(vec![2.0, 1.0])]);
    let others = decode(&["a", "c"], NullPolicy::Error).unwrap();
    assert_eq!(others.inputs, [Values::F32(vec![1.0, 3.0, 4.0, 6.0])]);
}

#[test]
fn a_fraction_among_stacked_columns_is_that_of_its_column() {
    let mut lists = FixedSizeListBuilder::new(Float64Builder::new(), 2);
    for (one, other) in [(1.0, 2.5), (3.0, 4.0), (0.5, 6.0)] {
        lists.values().append_value(one);
        lists.values().append_value(other);
        lists.append(true);
    }
    let array: ArrayRef = Arc::new(lists.finish());
    let metadata = [("flambeau.columns".to_owned(), r#"["a","b"]"#.to_owned())];
    let field = Field::new("..", array.data_type().clone(), false);
    let schema = Schema::new(vec![field.with_metadata(metadata)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap();
    let decode = |features: &[&str]| {
        let mut wanted = wanted(&[features.len() as i64], None);
        wanted.inputs[0].dtype = DType::INT64;
        decode(&batch, &columns(features, None, NullPolicy::Error), wanted).unwrap_err()
    };
    let error = decode(&["a"]);
    assert!(
        matches!(error, DataError::Fraction { column, row: 2, value } if column == "a" && value == "0.5")
    );
    let error = decode(&["a", "b"]);
    assert!(
        matches!(error, DataError::Fraction { column, row: 0, value } if column == "b" && value == "2.5")
    );
}
