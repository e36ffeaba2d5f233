//! What settings make of columns: points in time and decimals, images, encoded labels, rows of
//! differing lengths.

use super::*;
use crate::block::{Ragged, Side};
use crate::config::{Choice, ImageResize, LabelEncoding, RaggedPolicy};
use arrow_array::builder::StringBuilder;
use arrow_array::{Date32Array, Decimal128Array, StringArray, TimestampMicrosecondArray};

fn one(name: &str, array: ArrayRef) -> RecordBatch {
    batch(vec![(name, array)])
}

fn of_dtype(shape: &[Option<i64>], dtype: &str) -> Wanted {
    Wanted {
        inputs: vec![input("in", shape, DType::from_name(dtype).unwrap())],
        outputs: Vec::new(),
    }
}

fn value_of(array: ArrayRef, dtype: &str) -> Result<Values, DataError> {
    let batch = one("a", array);
    let columns = columns(&["a"], None, NullPolicy::Error);
    Ok(decode(&batch, &columns, of_dtype(&[], dtype))?
        .inputs
        .remove(0))
}

#[test]
fn a_date_is_its_days_and_a_timestamp_its_seconds_since_1970() {
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![-1, 20_000]));
    assert_eq!(
        value_of(dates.clone(), "float32").unwrap(),
        Values::F32(vec![-1.0, 20_000.0])
    );
    assert_eq!(
        value_of(dates, "int64").unwrap(),
        Values::I32(vec![-1, 20_000])
    );
    let times = TimestampMicrosecondArray::from(vec![1_500_000, -1_000_000]);
    let zoned: ArrayRef = Arc::new(times.clone().with_timezone("UTC"));
    let times: ArrayRef = Arc::new(times);
    for array in [times, zoned] {
        assert_eq!(
            value_of(array.clone(), "float32").unwrap(),
            Values::F32(vec![1.5, -1.0])
        );
        assert_eq!(
            value_of(array.clone(), "int64").unwrap_err().to_string(),
            "1.500000 of column 'a' in row 0 of the partition is no whole number of 64 bits: class \
             ids and integer inputs take whole numbers"
        );
        assert_eq!(
            value_of(array.slice(1, 1), "int64").unwrap(),
            Values::I64(vec![-1])
        );
    }
}

fn decimals(values: &[i128], precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(values.to_vec());
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

#[test]
fn a_decimal_is_its_value() {
    let prices = decimals(&[1999, -50], 10, 2);
    assert_eq!(
        value_of(prices.clone(), "float32").unwrap(),
        Values::F32(vec![19.99, -0.5])
    );
    let error = value_of(prices, "int64").unwrap_err().to_string();
    assert!(error.starts_with("19.99 of column 'a' in row 0"), "{error}");
    let small = decimals(&[300, -200], 9, 2);
    assert_eq!(value_of(small, "int32").unwrap(), Values::I32(vec![3, -2]));
    let large = decimals(&[i128::from(i64::MAX) * 100], 38, 2);
    assert_eq!(
        value_of(large, "int64").unwrap(),
        Values::I64(vec![i64::MAX])
    );
    let larger = decimals(&[10_i128.pow(37)], 38, 0);
    let error = value_of(larger, "int64").unwrap_err();
    assert!(
        matches!(error, DataError::Fraction { row: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_float_beyond_64_bits_is_no_id() {
    let error = value_of(doubles(&[Some(1e19)]), "int64").unwrap_err();
    assert!(matches!(error, DataError::Fraction { .. }), "{error}");
    let least = value_of(doubles(&[Some(-(2.0_f64.powi(63)))]), "int64").unwrap();
    assert_eq!(least, Values::I64(vec![i64::MIN]));
}

#[test]
fn elements_of_arrays_may_be_decimals() {
    let inner = arrow_array::builder::Decimal128Builder::new();
    let inner = inner.with_precision_and_scale(5, 1).unwrap();
    let mut lists = ListBuilder::new(inner);
    lists.append_value([Some(15), Some(-20)]);
    let batch = one("a", Arc::new(lists.finish()));
    let columns = columns(&["a"], None, NullPolicy::Error);
    let block = decode(&batch, &columns, wanted(&[2], None)).unwrap();
    assert_eq!(block.inputs, [Values::F32(vec![1.5, -2.0])]);
}

/// A PNG file of one grey pixel in each of these rows.
fn png(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let height = u32::try_from(pixels.len()).unwrap();
    let mut writer = ::png::Encoder::new(&mut bytes, 1, height)
        .write_header()
        .unwrap();
    writer.write_image_data(pixels).unwrap();
    drop(writer);
    bytes
}

fn images(files: &[Option<&[u8]>], resize: ImageResize, shape: &[i64]) -> Result<Block, DataError> {
    let array: ArrayRef = Arc::new(files.iter().copied().collect::<BinaryArray>());
    let columns = Columns {
        images: vec!["photo".to_owned()],
        image_resize: resize,
        ..columns(&["photo"], None, NullPolicy::Zero)
    };
    decode(&one("photo", array), &columns, wanted(shape, None))
}

#[test]
fn an_encoded_image_is_bytes_in_the_shape_of_the_input() {
    let file = png(&[7, 9]);
    let block = images(&[Some(&file), None], ImageResize::Error, &[2, 1, 3]).unwrap();
    let pixels = [7, 7, 7, 9, 9, 9, 0, 0, 0, 0, 0, 0];
    assert_eq!(block.inputs, [Values::U8(pixels.to_vec())]);
    let error = images(&[Some(&file)], ImageResize::Error, &[4, 1, 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image of column 'photo' in row 0 of the partition is 2 pixels high and 1 wide, the \
         model's input takes 4 and 1: scale it, or set imageResize to 'bilinear'"
    );
    let block = images(&[Some(&file)], ImageResize::Nearest, &[4, 1, 1]).unwrap();
    assert_eq!(block.inputs, [Values::U8(vec![7, 7, 9, 9])]);
}

#[test]
fn what_is_no_image_is_named_by_column_and_row() {
    let file = png(&[7]);
    let cut = &file[..file.len() - 20];
    let error = images(&[Some(&file), Some(cut)], ImageResize::Error, &[1, 1, 1]).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with(
            "column 'photo' holds no image in row 1 of the partition: a PNG image is damaged: "
        ),
        "{message}"
    );
    let flat = images(&[Some(&file)], ImageResize::Error, &[1]).unwrap_err();
    assert_eq!(
        flat.to_string(),
        "column 'photo' holds images for the model's input 'in' of shape (1): it must be numbers \
         of a known height, width, and 1, 3 or 4 channels"
    );
    let stray = Columns {
        images: vec!["other".to_owned()],
        ..columns(&["a"], None, NullPolicy::Error)
    };
    let error = decode(&one("a", ints(&[Some(1)])), &stray, wanted(&[1], None)).unwrap_err();
    assert!(
        error.to_string().contains("'other', which feeds no input"),
        "{error}"
    );
}

/// Spark's image struct, of one row.
fn spark_image(height: i32, mode: i32, data: &[u8]) -> ArrayRef {
    let mut origin = StringBuilder::new();
    origin.append_value("file:/a.png");
    let arrays: [(&str, ArrayRef); 6] = [
        ("origin", Arc::new(origin.finish())),
        ("height", ints(&[Some(height)])),
        ("width", ints(&[Some(1)])),
        ("nChannels", ints(&[Some(3)])),
        ("mode", ints(&[Some(mode)])),
        ("data", Arc::new(BinaryArray::from_vec(vec![data]))),
    ];
    let fields: Vec<_> = arrays
        .into_iter()
        .map(|(name, array)| {
            (
                Arc::new(Field::new(name, array.data_type().clone(), true)),
                array,
            )
        })
        .collect();
    Arc::new(StructArray::from(fields))
}

#[test]
fn an_image_of_spark_has_its_blue_first() {
    let columns = columns(&["image"], None, NullPolicy::Error);
    let decode = |image| decode(&one("image", image), &columns, wanted(&[1, 1, 3], None));
    let block = decode(spark_image(1, 16, &[1, 2, 3])).unwrap();
    assert_eq!(block.inputs, [Values::U8(vec![3, 2, 1])]);
    let broken = decode(spark_image(-1, -1, &[])).unwrap_err().to_string();
    assert!(
        broken.contains("row 0 of the partition: Spark could not decode it"),
        "{broken}"
    );
    let floats = decode(spark_image(1, 21, &[0; 12]))
        .unwrap_err()
        .to_string();
    assert!(
        floats.contains("mode 21 says that a channel is no byte"),
        "{floats}"
    );
}

fn labelled(label: LabelSpec) -> Wanted {
    Wanted {
        inputs: vec![input("in", &[], DType::FLOAT32)],
        outputs: vec![WantedOutput {
            name: "out".to_owned(),
            label: Some(label),
        }],
    }
}

fn labels(array: ArrayRef, encoding: LabelEncoding, label: LabelSpec) -> Result<Values, DataError> {
    let rows = array.len();
    let batch = batch(vec![("x", ints(&vec![Some(0); rows])), ("y", array)]);
    let columns = Columns {
        label_encoding: Choice::All(encoding),
        ..columns(&["x"], Some("y"), NullPolicy::Zero)
    };
    let block = decode(&batch, &columns, labelled(label))?;
    Ok(block.labels.into_iter().flatten().next().unwrap())
}

fn classes(shape: &[i64]) -> LabelSpec {
    LabelSpec::Class {
        shape: shape.to_vec(),
        classes: Some(3),
        ignored: None,
    }
}

fn values(shape: &[i64]) -> LabelSpec {
    LabelSpec::Values {
        shape: shape.to_vec(),
    }
}

#[test]
fn class_ids_become_one_hot_vectors() {
    let ids = ints(&[Some(2), Some(0), None]);
    let encoded = labels(ids, LabelEncoding::OneHot, values(&[3])).unwrap();
    let expected = vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
    assert_eq!(encoded, Values::F32(expected));
    let error = labels(
        ints(&[Some(0), Some(3)]),
        LabelEncoding::OneHot,
        values(&[3]),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "label 3 of column 'y' in row 1 of the partition is out of range [0, 3): the model's \
         output has 3 classes"
    );
    let steps = lists(&[Some(&[0, 1])]);
    let encoded = labels(steps, LabelEncoding::OneHot, values(&[2, 2])).unwrap();
    assert_eq!(encoded, Values::F32(vec![1.0, 0.0, 0.0, 1.0]));
}

#[test]
fn one_hot_vectors_become_class_ids() {
    let vectors = lists(&[Some(&[0, 0, 1]), Some(&[1, 0, 0]), None]);
    let encoded = labels(vectors, LabelEncoding::Argmax, classes(&[])).unwrap();
    assert_eq!(encoded, Values::I64(vec![2, 0, 0]));
    for (wrong, shown) in [
        ([0, 0, 0], "[0, 0, 0]"),
        ([1, 0, 1], "[1, 0, 1]"),
        ([0, 2, 0], "[0, 2, 0]"),
    ] {
        let vectors = lists(&[Some(&[1, 0, 0]), Some(&wrong)]);
        let error = labels(vectors, LabelEncoding::Argmax, classes(&[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the values {shown} of column 'y' in row 1 of the partition are not one-hot: \
                 labelEncoding 'argmax' takes vectors with a single 1 among zeros"
            )
        );
    }
}

#[test]
fn an_encoding_for_another_loss_is_refused() {
    let message = |encoding, label| {
        let error = labels(ints(&[Some(0)]), encoding, label).unwrap_err();
        error.to_string()
    };
    let text = message(LabelEncoding::OneHot, classes(&[]));
    assert!(
        text.contains("'one_hot' is for a loss over the values of all classes"),
        "{text}"
    );
    let text = message(LabelEncoding::Argmax, values(&[3]));
    assert!(
        text.contains("'argmax' is for a loss over class ids"),
        "{text}"
    );
    let text = message(LabelEncoding::OneHot, values(&[1]));
    assert!(text.contains("no last axis of classes"), "{text}");
    let strange = Columns {
        label_encoding: Choice::Each([("outt".to_owned(), LabelEncoding::OneHot)].into()),
        ..columns(&["x"], Some("y"), NullPolicy::Error)
    };
    let batch = batch(vec![("x", ints(&[Some(0)])), ("y", ints(&[Some(0)]))]);
    let error = decode(&batch, &strange, labelled(classes(&[]))).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("'outt', which is no output of the model; it has [out]")
    );
}

fn padded(
    array: ArrayRef,
    [padding, truncating]: [RaggedPolicy; 2],
    wanted: Wanted,
) -> Result<Values, DataError> {
    let columns = Columns {
        sequence_padding: Choice::All(padding),
        sequence_truncating: Choice::All(truncating),
        ..columns(&["a"], None, NullPolicy::Zero)
    };
    Ok(decode(&one("a", array), &columns, wanted)?.inputs.remove(0))
}

#[test]
fn rows_are_filled_up_and_cut_at_either_end() {
    use RaggedPolicy::{Error, Post, Pre};
    let rows = || lists(&[Some(&[1, 2]), Some(&[1, 2, 3, 4]), None, Some(&[])]);
    let fit = |policies| padded(rows(), policies, of_dtype(&[Some(3)], "int32"));
    let ids = |values: &[i32]| Values::I32(values.to_vec());
    assert_eq!(
        fit([Pre, Pre]).unwrap(),
        ids(&[0, 1, 2, 2, 3, 4, 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(
        fit([Post, Post]).unwrap(),
        ids(&[1, 2, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(
        fit([Post, Pre]).unwrap(),
        ids(&[1, 2, 0, 2, 3, 4, 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(
        fit([Pre, Error]).unwrap_err().to_string(),
        "column 'a' has 4 values in row 1 of the partition, 3 expected: pad or filter the rows, of \
         arrays also by sequencePadding and sequenceTruncating"
    );
    let error = fit([Error, Post]).unwrap_err();
    assert!(
        matches!(
            error,
            DataError::Width {
                row: 0,
                found: 2,
                ..
            }
        ),
        "{error}"
    );
    let error = fit([Error, Error]).unwrap_err();
    assert!(
        matches!(error, DataError::FeatureWidth { found: 2, .. }),
        "{error}"
    );
}

#[test]
fn steps_of_several_values_are_filled_up_whole() {
    use RaggedPolicy::{Post, Pre};
    let rows = lists(&[Some(&[1, 2]), Some(&[1, 2, 3, 4, 5, 6])]);
    let shape = [Some(2), Some(2)];
    let values = padded(rows, [Pre, Post], of_dtype(&shape, "float32")).unwrap();
    assert_eq!(
        values,
        Values::F32(vec![0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0])
    );
    let odd = padded(
        lists(&[Some(&[1])]),
        [Pre, Post],
        of_dtype(&shape, "float32"),
    );
    assert_eq!(
        odd.unwrap_err().to_string(),
        "column 'a' has 1 values in row 0 of the partition, which are no whole steps of 2 values \
         each"
    );
}

#[test]
fn rows_of_an_open_axis_keep_their_lengths_until_they_are_in_a_batch() {
    use RaggedPolicy::{Error, Post};
    let rows = lists(&[Some(&[1]), Some(&[1, 2, 3]), None]);
    let values = padded(rows, [Post, Error], of_dtype(&[None], "int64")).unwrap();
    let ragged = Ragged::new(Values::I32(vec![1, 1, 2, 3]), vec![0, 1, 4, 4], Side::Post);
    assert_eq!(values, Values::Ragged(ragged));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"ab", b"c"]));
    let values = padded(bytes, [Post, Error], of_dtype(&[None], "uint8")).unwrap();
    let ragged = Ragged::new(Values::U8(b"abc".to_vec()), vec![0, 2, 3], Side::Post);
    assert_eq!(values, Values::Ragged(ragged));
}

#[test]
fn missing_strings_are_empty() {
    use RaggedPolicy::{Post, Pre};
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("a"), Some("b")]);
    words.append_value([Some("c")]);
    let wanted = Wanted {
        inputs: vec![input("in", &[Some(2)], DType::String)],
        outputs: Vec::new(),
    };
    let values = padded(Arc::new(words.finish()), [Pre, Post], wanted).unwrap();
    let strings = ["a", "b", "", "c"].map(|text| text.as_bytes().into());
    assert_eq!(values, Values::Strings(strings.to_vec()));
    // A string is one value, whatever its length.
    let text: ArrayRef = Arc::new(StringArray::from(vec!["word"]));
    let wanted = Wanted {
        inputs: vec![input("in", &[Some(1)], DType::String)],
        outputs: Vec::new(),
    };
    let values = padded(text, [Pre, Post], wanted).unwrap();
    assert_eq!(values.len(), 1);
}

#[test]
fn labels_of_steps_are_filled_up_and_those_without_are_not() {
    let columns = Columns {
        sequence_padding: Choice::All(RaggedPolicy::Post),
        ..columns(&["x"], Some("y"), NullPolicy::Error)
    };
    let fit = |array: ArrayRef, label| {
        let batch = batch(vec![("x", ints(&[Some(0)])), ("y", array)]);
        let block = decode(&batch, &columns, labelled(label))?;
        Ok::<_, DataError>(block.labels.into_iter().flatten().next())
    };
    let tags = || lists(&[Some(&[2, 1])]);
    assert_eq!(
        fit(tags(), classes(&[3])).unwrap(),
        Some(Values::I64(vec![2, 1, 0]))
    );
    let open = Ragged::new(Values::I64(vec![2, 1]), vec![0, 2], Side::Post);
    assert_eq!(
        fit(tags(), classes(&[-1])).unwrap(),
        Some(Values::Ragged(open))
    );
    let error = fit(tags(), values(&[3])).unwrap_err();
    assert!(
        matches!(
            error,
            DataError::LabelWidth {
                found: 2,
                expected: 3,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn rows_with_nulls_are_left_out_of_ragged_ones() {
    let columns = Columns {
        sequence_padding: Choice::All(RaggedPolicy::Pre),
        ..columns(&["a"], None, NullPolicy::Drop)
    };
    let rows = lists(&[Some(&[1, 2]), None, Some(&[3])]);
    let block = decode(&one("a", rows), &columns, of_dtype(&[None], "float32")).unwrap();
    let ragged = Ragged::new(Values::F32(vec![1.0, 2.0, 3.0]), vec![0, 2, 3], Side::Pre);
    assert_eq!(
        (block.rows, block.inputs),
        (2, vec![Values::Ragged(ragged)])
    );
}
