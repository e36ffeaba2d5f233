//! `tf.train.Example` by hand: a map from feature names to lists of bytes, floats or integers.
//!
//! Field numbers are those of TensorFlow's `core/example/{example,feature}.proto`. Numbers are
//! written packed, as TensorFlow does, and read packed or not. Unknown fields are skipped; of a
//! name that occurs twice the last occurrence counts, which is the rule for protobuf maps.

pub(crate) mod walk;

pub use walk::Kind;

use std::collections::BTreeMap;

use walk::{Run, Walked};

use crate::protobuf::{
    Message, WireError, delimited_len, packed, put_bytes, put_length, put_varint, varint_len,
};
use crate::{Error, Result};

const EXAMPLE_FEATURES: u32 = 1;
const FEATURES_FEATURE: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
const BYTES_LIST: u32 = 1;
const FLOAT_LIST: u32 = 2;
const INT64_LIST: u32 = 3;
const LIST_VALUE: u32 = 1;
const SEQUENCE_EXAMPLE_LISTS: u32 = 2;
const FEATURE_LIST_FEATURE: u32 = 1;

/// The values of one feature to encode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feature<'a> {
    /// A `BytesList`; strings are UTF-8 bytes.
    Bytes(&'a [&'a [u8]]),
    /// A `FloatList`.
    Floats(&'a [f32]),
    /// An `Int64List`.
    Ints(&'a [i64]),
}

/// The values of one decoded feature; byte strings borrow from the encoded message.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FeatureValues<'a> {
    /// A feature of no kind: TensorFlow's way to say that a value is missing.
    #[default]
    Missing,
    /// A `BytesList`.
    Bytes(Vec<&'a [u8]>),
    /// A `FloatList`.
    Floats(Vec<f32>),
    /// An `Int64List`.
    Ints(Vec<i64>),
}

/// Appends the encoded example to `out`, features in the order given. Names must differ.
pub fn encode_example(features: &[(&str, Feature<'_>)], out: &mut Vec<u8>) {
    let sizes: Vec<Sizes> = features
        .iter()
        .map(|(name, f)| Sizes::of(name, f))
        .collect();
    let total = sizes.iter().map(|size| delimited_len(size.entry)).sum();
    out.reserve(delimited_len(total));
    put_length(EXAMPLE_FEATURES, total, out);
    for ((name, feature), size) in features.iter().zip(&sizes) {
        put_length(FEATURES_FEATURE, size.entry, out);
        put_bytes(ENTRY_KEY, name.as_bytes(), out);
        put_length(ENTRY_VALUE, delimited_len(size.list), out);
        put_feature(feature, size, out);
    }
}

/// Appends the encoded sequence example to `out`: its context, and of each feature list the
/// features in their order. Names must differ within each.
pub fn encode_sequence_example(
    context: &[(&str, Feature<'_>)],
    feature_lists: &[(&str, Vec<Feature<'_>>)],
    out: &mut Vec<u8>,
) {
    // Its context is where an example has its features.
    encode_example(context, out);
    let mut lists = Vec::new();
    for (name, features) in feature_lists {
        let mut list = Vec::new();
        for feature in features {
            let size = Sizes::of("", feature);
            put_length(FEATURE_LIST_FEATURE, delimited_len(size.list), &mut list);
            put_feature(feature, &size, &mut list);
        }
        let entry = delimited_len(name.len()) + delimited_len(list.len());
        put_length(FEATURES_FEATURE, entry, &mut lists);
        put_bytes(ENTRY_KEY, name.as_bytes(), &mut lists);
        put_bytes(ENTRY_VALUE, &list, &mut lists);
    }
    put_bytes(SEQUENCE_EXAMPLE_LISTS, &lists, out);
}

/// Encoded sizes in bytes, needed before the first byte of a nested message is written.
struct Sizes {
    /// The packed numbers, without their tag and length.
    packed: usize,
    /// The bytes, float or int64 list message.
    list: usize,
    /// The map entry of name and feature.
    entry: usize,
}

impl Sizes {
    fn of(name: &str, feature: &Feature<'_>) -> Self {
        let packed = match feature {
            Feature::Bytes(_) => 0,
            Feature::Floats(values) => 4 * values.len(),
            Feature::Ints(values) => values.iter().map(|&v| varint_len(v.cast_unsigned())).sum(),
        };
        let list = match feature {
            Feature::Bytes(values) => values.iter().map(|v| delimited_len(v.len())).sum(),
            _ if packed == 0 => 0,
            _ => delimited_len(packed),
        };
        let entry = delimited_len(name.len()) + delimited_len(delimited_len(list));
        Sizes {
            packed,
            list,
            entry,
        }
    }
}

fn put_feature(feature: &Feature<'_>, size: &Sizes, out: &mut Vec<u8>) {
    let kind = match feature {
        Feature::Bytes(_) => BYTES_LIST,
        Feature::Floats(_) => FLOAT_LIST,
        Feature::Ints(_) => INT64_LIST,
    };
    put_length(kind, size.list, out);
    if size.packed > 0 {
        put_length(LIST_VALUE, size.packed, out);
    }
    match feature {
        Feature::Bytes(values) => values.iter().for_each(|v| put_bytes(LIST_VALUE, v, out)),
        Feature::Floats(values) => values.iter().for_each(|v| out.extend(v.to_le_bytes())),
        Feature::Ints(values) => values
            .iter()
            .for_each(|v| put_varint(v.cast_unsigned(), out)),
    }
}

/// Decodes an example into its features, sorted by name.
///
/// # Errors
/// [`Error::Corrupt`] naming the byte offset (within `bytes`) and the broken rule.
pub fn decode_example(bytes: &[u8]) -> Result<BTreeMap<&str, FeatureValues<'_>>> {
    let mut features = BTreeMap::new();
    let outcome = walk::features::<WireError>(bytes, |name, parts| {
        features.insert(name, values(parts)?);
        Ok(())
    });
    match outcome {
        Ok(()) => Ok(features),
        Err(WireError { offset, reason }) => Err(Error::corrupt(
            format!("tf.train.Example at byte {offset}"),
            reason,
        )),
    }
}

/// Values as a map holds them; the lists of one kind append to each other.
fn values<'a>(parts: &[Message<'a>]) -> Walked<FeatureValues<'a>> {
    let values = walk::lists::<_, WireError>(parts, |kind, lists| {
        let (mut bytes, mut floats, mut ints) = (Vec::new(), Vec::new(), Vec::new());
        walk::runs::<WireError>(kind, lists, |run| {
            match run {
                Run::Bytes(item) => bytes.push(item),
                Run::Float(item) => floats.push(item),
                Run::Floats(items) => packed::floats(items, &mut floats),
                Run::Int(item) => ints.push(item),
                Run::Ints(items) => items.packed_varints(&mut ints)?,
            }
            Ok(())
        })?;
        Ok(match kind {
            Kind::Bytes => FeatureValues::Bytes(bytes),
            Kind::Floats => FeatureValues::Floats(floats),
            Kind::Ints => FeatureValues::Ints(ints),
        })
    })?;
    Ok(values.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(features: &[(&str, Feature<'_>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_example(features, &mut bytes);
        bytes
    }

    #[test]
    fn the_bytes_are_those_tensorflow_writes() {
        let bytes = encoded(&[("n", Feature::Ints(&[1, -1]))]);
        let minus_one = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let start = b"\x0a\x16\x0a\x14\x0a\x01n\x12\x0f\x1a\x0d\x0a\x0b\x01";
        assert_eq!(bytes, [&start[..], minus_one].concat());
        let bytes = encoded(&[("f", Feature::Floats(&[1.0]))]);
        assert_eq!(
            bytes,
            b"\x0a\x0f\x0a\x0d\x0a\x01f\x12\x08\x12\x06\x0a\x04\0\0\x80\x3f"
        );
        let bytes = encoded(&[("b", Feature::Bytes(&[b"xy", b""]))]);
        assert_eq!(
            bytes,
            b"\x0a\x0f\x0a\x0d\x0a\x01b\x12\x08\x0a\x06\x0a\x02xy\x0a\0"
        );
    }

    #[test]
    fn unpacked_numbers_and_unknown_fields_are_read() {
        let ints = b"\x0a\x0e\x0a\x0c\x0a\x01n\x12\x07\x1a\x05\x08\x05\x08\x06\x00";
        assert!(decode_example(ints).is_err(), "field number 0 is refused");
        let ints = b"\x0a\x0d\x0a\x0b\x0a\x01n\x12\x06\x1a\x04\x08\x05\x08\x06\x7a\x01z";
        assert_eq!(
            decode_example(ints).unwrap()["n"],
            FeatureValues::Ints(vec![5, 6])
        );
        let floats = b"\x0a\x0e\x0a\x0c\x0a\x01f\x12\x07\x12\x05\x0d\0\0\x80\x3f";
        assert_eq!(
            decode_example(floats).unwrap()["f"],
            FeatureValues::Floats(vec![1.0])
        );
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let bytes = encoded(&[("n", Feature::Ints(&[1])), ("n", Feature::Floats(&[2.0]))]);
        let features = decode_example(&bytes).unwrap();
        assert_eq!(
            features,
            BTreeMap::from([("n", FeatureValues::Floats(vec![2.0]))])
        );
    }

    #[test]
    fn broken_messages_are_named_with_their_offset() {
        let error = decode_example(b"\x0a\x05\x0a\x03\x0a\x01\xff").unwrap_err();
        assert_eq!(
            error.to_string(),
            "tf.train.Example at byte 6 is damaged: a feature name is not UTF-8; take another copy \
             of it"
        );
        let short = b"\x0a\x0e\x0a\x0c\x0a\x01f\x12\x07\x12\x05\x0a\x03\0\0\x80";
        assert!(
            decode_example(short)
                .unwrap_err()
                .to_string()
                .contains("inside a number")
        );
        let mixed = b"\x0a\x0b\x0a\x09\x0a\x01f\x12\x04\x0a\x02\x08\x05";
        assert!(
            decode_example(mixed)
                .unwrap_err()
                .to_string()
                .contains("does not fit the kind of its list")
        );
    }

    #[test]
    fn a_feature_without_values_is_told_from_a_missing_one() {
        let bytes = encoded(&[("n", Feature::Ints(&[]))]);
        assert_eq!(
            decode_example(&bytes).unwrap()["n"],
            FeatureValues::Ints(vec![])
        );
        let missing = b"\x0a\x07\x0a\x05\x0a\x01n\x12\0";
        assert_eq!(
            decode_example(missing).unwrap()["n"],
            FeatureValues::Missing
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            bytes: Vec<Vec<u8>>, floats: Vec<f32>, ints: Vec<i64>, name in "\\PC{0,9}"
        ) {
            let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            let names = [name.clone() + "b", name.clone() + "f", name + "i"];
            let message = encoded(&[
                (&names[0], Feature::Bytes(&slices)),
                (&names[1], Feature::Floats(&floats)),
                (&names[2], Feature::Ints(&ints)),
            ]);
            let features = decode_example(&message).unwrap();
            prop_assert_eq!(&features[&*names[0]], &FeatureValues::Bytes(slices));
            prop_assert_eq!(&features[&*names[1]], &FeatureValues::Floats(floats));
            prop_assert_eq!(&features[&*names[2]], &FeatureValues::Ints(ints));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode_example(&bytes);
        }

        #[test]
        fn damaged_examples_never_panic(at in 0_usize..40, byte: u8) {
            let mut bytes = encoded(&[
                ("n", Feature::Ints(&[1, 2, 300])), ("b", Feature::Bytes(&[b"abc"])),
            ]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode_example(&bytes);
        }
    }
}
