//! Records whose columns are known, and records that are no such thing.

use super::*;
use crate::example::{Feature, Kind, encode_example, encode_sequence_example};
use proptest::prelude::*;

fn spec(name: &str, element: ElementType, depth: usize) -> ColumnSpec {
    ColumnSpec {
        name: name.to_owned(),
        element,
        depth,
    }
}

fn record(bytes: &[u8]) -> Record<'_> {
    Record {
        bytes,
        offset: 120,
        index: Some(3),
    }
}

fn example(features: &[(&str, Feature<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_example(features, &mut bytes);
    bytes
}

fn decoded(record_type: RecordType, spec: ColumnSpec, records: &[Vec<u8>]) -> Column {
    let mut decoder = RecordDecoder::new(record_type, vec![spec]);
    for bytes in records {
        decoder.add(&record(bytes)).unwrap();
    }
    let mut batch = decoder.take(None);
    assert_eq!(batch.rows, records.len());
    batch.columns.swap_remove(0)
}

/// Byte lengths of the buffers.
fn lengths(column: &Column) -> Vec<usize> {
    let mut lengths = Vec::new();
    column.each_buffer(|_, length| lengths.push(length));
    lengths
}

#[test]
fn rows_without_the_feature_are_null() {
    let records = [
        example(&[("n", Feature::Ints(&[5]))]),
        example(&[("m", Feature::Floats(&[1.0]))]),
        example(&[("n", Feature::Ints(&[]))]),
        b"\x0a\x07\x0a\x05\x0a\x01n\x12\0".to_vec(),
    ];
    let scalar = decoded(
        RecordType::Example,
        spec("n", ElementType::Int32, 0),
        &records,
    );
    assert_eq!(scalar.nodes(), [(4, 3)]);
    assert_eq!(lengths(&scalar), [1, 16]);
    let list = decoded(
        RecordType::Example,
        spec("n", ElementType::Int64, 1),
        &records,
    );
    // The feature without values is an empty list.
    assert_eq!(list.nodes(), [(4, 2), (1, 0)]);
    assert_eq!(lengths(&list), [1, 20, 0, 8]);
}

#[test]
fn a_feature_that_does_not_fit_its_column_is_named_and_leaves_nothing() {
    let bad = [
        (
            spec("n", ElementType::Int8, 0),
            "300 is out of the range of its column's type tinyint",
        ),
        (
            spec("n", ElementType::Float32, 0),
            "it is of kind Int64List, but its column is of type float, which takes FloatList",
        ),
        (
            spec("two", ElementType::Int64, 0),
            "it has 2 values, but its column holds one in a row; read it as an array",
        ),
        (
            spec("b", ElementType::Utf8, 0),
            "it is not UTF-8, but its column is of type string; read it as binary",
        ),
        (
            spec("n", ElementType::Int64, 2),
            "it is no feature list, but its column holds lists of lists",
        ),
    ];
    let bytes = example(&[
        ("b", Feature::Bytes(&[b"\xff"])),
        ("n", Feature::Ints(&[300])),
        ("two", Feature::Ints(&[1, 2])),
    ]);
    for (spec, reason) in bad {
        let name = spec.name.clone();
        let mut decoder = RecordDecoder::new(RecordType::Example, vec![spec]);
        let error = decoder.add(&record(&bytes)).unwrap_err().to_string();
        let place = "of the tf.train.Example at byte 120 (record 3) does not fit";
        assert_eq!(error, format!("feature '{name}' {place}: {reason}"));
        decoder.add(&record(&example(&[]))).unwrap();
        let batch = decoder.take(None);
        assert_eq!(batch.columns[0].nodes()[0], (1, 1));
    }
}

#[test]
fn the_last_of_two_equal_names_and_of_two_kinds_counts() {
    let twice = example(&[("n", Feature::Ints(&[1])), ("n", Feature::Ints(&[7]))]);
    let column = decoded(
        RecordType::Example,
        spec("n", ElementType::Int64, 0),
        &[twice],
    );
    assert_eq!(column.nodes(), [(1, 0)]);
    // One Feature message with an Int64List of 1 and then a FloatList of 1.0.
    let feature = b"\x1a\x03\x0a\x01\x01\x12\x06\x0a\x04\0\0\x80\x3f";
    let mut bytes = b"\x0a\x14\x0a\x12\x0a\x01n\x12\x0d".to_vec();
    bytes.extend(feature);
    let column = decoded(
        RecordType::Example,
        spec("n", ElementType::Float32, 0),
        &[bytes],
    );
    assert_eq!(column.nodes(), [(1, 0)]);
}

#[test]
fn feature_lists_are_lists_of_lists_or_of_single_values() {
    let mut bytes = Vec::new();
    encode_sequence_example(
        &[("id", Feature::Ints(&[9]))],
        &[
            (
                "frames",
                vec![
                    Feature::Floats(&[1.0, 2.0]),
                    Feature::Floats(&[]),
                    Feature::Floats(&[3.0]),
                ],
            ),
            (
                "words",
                vec![Feature::Bytes(&[b"a"]), Feature::Bytes(&[b"bc"])],
            ),
        ],
        &mut bytes,
    );
    let sequence = RecordType::SequenceExample;
    let records = [bytes.clone()];
    let frames = decoded(sequence, spec("frames", ElementType::Float32, 2), &records);
    assert_eq!(frames.nodes(), [(1, 0), (3, 0), (3, 0)]);
    assert_eq!(lengths(&frames), [0, 8, 0, 16, 0, 12]);
    let words = decoded(sequence, spec("words", ElementType::Utf8, 1), &records);
    assert_eq!(words.nodes(), [(1, 0), (2, 0)]);
    assert_eq!(lengths(&words), [0, 8, 0, 12, 3]);
    let id = decoded(sequence, spec("id", ElementType::Int64, 0), &records);
    assert_eq!(id.nodes(), [(1, 0)]);

    let mut decoder = RecordDecoder::new(sequence, vec![spec("frames", ElementType::Float32, 1)]);
    let error = decoder.add(&record(&bytes)).unwrap_err().to_string();
    assert!(
        error.contains("one of its features has 2 values"),
        "{error}"
    );

    let mut inference = SchemaInference::new(sequence);
    inference.add(&record(&bytes)).unwrap();
    assert_eq!(inference.features()["id"].kind, Some(Kind::Ints));
    assert_eq!(inference.feature_lists()["frames"].max_values, 2);
    assert!(inference.feature_lists()["words"].utf8);
}

#[test]
fn a_record_of_bytes_is_one_value() {
    let column = decoded(
        RecordType::ByteArray,
        spec("bytes", ElementType::Binary, 0),
        &[b"abc".to_vec(), b"".to_vec()],
    );
    assert_eq!(lengths(&column), [0, 12, 3]);
}

#[test]
fn a_spare_batch_is_filled_anew() {
    let mut decoder = RecordDecoder::new(
        RecordType::Example,
        vec![spec("n", ElementType::Boolean, 1)],
    );
    let bytes = example(&[("n", Feature::Ints(&[1, 0, 2]))]);
    decoder.add(&record(&bytes)).unwrap();
    let first = decoder.take(None);
    decoder.add(&record(&bytes)).unwrap();
    decoder.add(&record(&example(&[]))).unwrap();
    let second = decoder.take(Some(first));
    assert_eq!(second.columns[0].nodes(), [(2, 1), (3, 0)]);
    decoder.add(&record(&bytes)).unwrap();
    assert_eq!(decoder.bytes(), 3);
    let third = decoder.take(Some(second));
    assert_eq!(third.rows, 1);
    assert_eq!(third.columns[0].nodes(), [(1, 0), (3, 0)]);
}

#[test]
fn inference_counts_values_and_refuses_two_kinds() {
    let mut inference = SchemaInference::new(RecordType::Example);
    let one = example(&[
        ("n", Feature::Ints(&[1, 300, -1])),
        ("b", Feature::Bytes(&[b"\xff"])),
    ]);
    inference.add(&record(&one)).unwrap();
    inference
        .add(&record(b"\x0a\x07\x0a\x05\x0a\x01m\x12\0"))
        .unwrap();
    assert_eq!(inference.records(), 2);
    assert_eq!(inference.features()["n"].max_values, 3);
    assert_eq!(inference.features()["m"].kind, None);
    assert!(!inference.features()["b"].utf8);
    let other = example(&[("n", Feature::Floats(&[1.0]))]);
    let error = inference.add(&record(&other)).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "it is of kind FloatList, but of kind Int64List in a record before; give a schema"
        ),
        "{error}"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, damaged in 0_usize..60, byte: u8) {
        let mut sound = Vec::new();
        encode_sequence_example(
            &[("n", Feature::Ints(&[1, 2, 300])), ("b", Feature::Bytes(&[b"abc"]))],
            &[("f", vec![Feature::Floats(&[1.0]), Feature::Floats(&[])])],
            &mut sound,
        );
        let at = damaged % sound.len();
        sound[at] = byte;
        let specs = [
            spec("n", ElementType::Int16, 1),
            spec("b", ElementType::Utf8, 0),
            spec("f", ElementType::Float64, 2),
        ];
        for record_type in [RecordType::Example, RecordType::SequenceExample] {
            let mut decoder = RecordDecoder::new(record_type, specs.to_vec());
            let mut inference = SchemaInference::new(record_type);
            for bytes in [&bytes, &sound] {
                let _ = inference.add(&record(bytes));
                let added = decoder.add(&record(bytes)).is_ok();
                let batch = decoder.take(None);
                prop_assert_eq!(batch.rows, usize::from(added));
                for column in &batch.columns {
                    prop_assert_eq!(column.nodes()[0].0, batch.rows);
                }
            }
        }
    }
}
