//! The messages inside `tf.train.Example` and `tf.train.SequenceExample`, in the order in which
//! they are encoded, without a copy.
//!
//! What protobuf says of a message in several parts holds: of a name that occurs twice the last
//! entry counts, values of one kind append to each other, and another kind replaces.

use crate::protobuf::{Field, Message, Value, WireError};

/// `Example.features` and `SequenceExample.context`.
const FEATURES: u32 = 1;
/// `SequenceExample.feature_lists`.
const FEATURE_LISTS: u32 = 2;
/// Of both maps the entries.
const MAP_ENTRY: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
/// `FeatureList.feature`.
const LIST_FEATURE: u32 = 1;
/// `BytesList.value` and those of the other kinds.
const LIST_VALUE: u32 = 1;

pub(crate) type Walked<T> = Result<T, WireError>;

/// The kinds of values that a feature has; their numbers are the fields of `Feature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A `BytesList`.
    Bytes = 1,
    /// A `FloatList`.
    Floats = 2,
    /// An `Int64List`.
    Ints = 3,
}

impl Kind {
    fn of_field(number: u32) -> Option<Self> {
        [Kind::Bytes, Kind::Floats, Kind::Ints]
            .into_iter()
            .find(|&kind| kind as u32 == number)
    }

    /// The message that holds such values.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bytes => "BytesList",
            Kind::Floats => "FloatList",
            Kind::Ints => "Int64List",
        }
    }
}

/// Values as a message holds them.
#[derive(Debug)]
pub(crate) enum Run<'a> {
    /// One byte string.
    Bytes(&'a [u8]),
    /// Packed floats, little-endian.
    Floats(&'a [[u8; 4]]),
    /// One float.
    Float(f32),
    /// Packed varints.
    Ints(Message<'a>),
    /// One integer.
    Int(i64),
}

/// Calls `each` with the name and the encoded `Feature`, mostly in one part, of every entry of an
/// example's features, or of a sequence example's context.
pub(crate) fn features<'a, E: From<WireError>>(
    example: &'a [u8],
    each: impl FnMut(&'a str, &[Message<'a>]) -> Result<(), E>,
) -> Result<(), E> {
    entries(example, FEATURES, each)
}

/// Calls `each` with the name and the encoded `FeatureList` of every entry of a sequence example's
/// feature lists.
pub(crate) fn feature_lists<'a, E: From<WireError>>(
    example: &'a [u8],
    each: impl FnMut(&'a str, &[Message<'a>]) -> Result<(), E>,
) -> Result<(), E> {
    entries(example, FEATURE_LISTS, each)
}

fn entries<'a, E: From<WireError>>(
    example: &'a [u8],
    map_field: u32,
    mut each: impl FnMut(&'a str, &[Message<'a>]) -> Result<(), E>,
) -> Result<(), E> {
    let mut example = Message::new(example);
    while let Some(Field { number, value }) = example.next()? {
        if number != map_field {
            continue;
        }
        let mut map = nested(&example, value)?;
        while let Some(Field { number, value }) = map.next()? {
            if number == MAP_ENTRY {
                entry(nested(&map, value)?, &mut each)?;
            }
        }
    }
    Ok(())
}

/// Calls `each` with the name and the value of a map's entry.
#[inline(always)]
fn entry<'a, E: From<WireError>>(
    mut entry: Message<'a>,
    each: &mut impl FnMut(&'a str, &[Message<'a>]) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = entry.clone();
    if let Some((ENTRY_KEY, key)) = rest.delimited()
        && let Some((ENTRY_VALUE, value)) = rest.sole()
    {
        return each(text(&key)?, &[value]);
    }
    let (mut name, mut parts) = ("", Vec::new());
    while let Some(Field { number, value }) = entry.next()? {
        match number {
            ENTRY_KEY => name = text(&nested(&entry, value)?)?,
            ENTRY_VALUE => parts.push(nested(&entry, value)?),
            _ => {}
        }
    }
    each(name, &parts)
}

fn text<'a>(key: &Message<'a>) -> Walked<&'a str> {
    str::from_utf8(key.bytes()).map_err(|_| key.error("a feature name is not UTF-8"))
}

/// Calls `each` with every feature of an encoded `FeatureList`.
pub(crate) fn steps<'a, E: From<WireError>>(
    parts: &[Message<'a>],
    mut each: impl FnMut(&[Message<'a>]) -> Result<(), E>,
) -> Result<(), E> {
    for part in parts {
        let mut list = part.clone();
        while let Some(Field { number, value }) = list.next()? {
            if number == LIST_FEATURE {
                each(&[nested(&list, value)?])?;
            }
        }
    }
    Ok(())
}

/// Calls `take` with the kind of an encoded `Feature` and the lists that hold its values; gives none
/// if it has no kind.
#[inline(always)]
pub(crate) fn lists<'a, T, E: From<WireError>>(
    parts: &[Message<'a>],
    take: impl FnOnce(Kind, &[Message<'a>]) -> Result<T, E>,
) -> Result<Option<T>, E> {
    if let [part] = parts
        && let Some((number, list)) = part.sole()
        && let Some(kind) = Kind::of_field(number)
    {
        return take(kind, &[list]).map(Some);
    }
    let (mut kind, mut lists) = (None, Vec::new());
    for part in parts {
        let mut feature = part.clone();
        while let Some(Field { number, value }) = feature.next()? {
            let Some(found) = Kind::of_field(number) else {
                continue;
            };
            let list = nested(&feature, value)?;
            if kind != Some(found) {
                lists.clear();
                kind = Some(found);
            }
            lists.push(list);
        }
    }
    kind.map(|kind| take(kind, &lists)).transpose()
}

/// Calls `each` with the values of lists of one kind.
pub(crate) fn runs<'a, E: From<WireError>>(
    kind: Kind,
    lists: &[Message<'a>],
    mut each: impl FnMut(Run<'a>) -> Result<(), E>,
) -> Result<(), E> {
    for list in lists {
        let mut list = list.clone();
        while let Some(Field { number, value }) = list.next()? {
            if number != LIST_VALUE {
                continue;
            }
            each(match (kind, value) {
                (Kind::Bytes, Value::Bytes(item)) => Run::Bytes(item.bytes()),
                (Kind::Floats, Value::Fixed32(bits)) => Run::Float(f32::from_bits(bits)),
                (Kind::Ints, Value::Varint(item)) => Run::Int(item.cast_signed()),
                (Kind::Ints, Value::Bytes(packed)) => Run::Ints(packed),
                (Kind::Floats, Value::Bytes(packed)) => {
                    let (items, rest) = packed.bytes().as_chunks();
                    if !rest.is_empty() {
                        return Err(packed.error("packed floats end inside a number").into());
                    }
                    Run::Floats(items)
                }
                _ => {
                    let error = list.error("a value does not fit the kind of its list");
                    return Err(error.into());
                }
            })?;
        }
    }
    Ok(())
}

#[inline(always)]
fn nested<'a>(parent: &Message<'a>, value: Value<'a>) -> Walked<Message<'a>> {
    match value {
        Value::Bytes(message) => Ok(message),
        _ => Err(parent.error("a message field has another wire type")),
    }
}
