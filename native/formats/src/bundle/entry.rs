//! The messages of an index file: `BundleHeaderProto` and `BundleEntryProto`.

use std::ops::Range;

use crate::dtype::DType;
use crate::masked_crc::MaskedCrc;
use crate::protobuf::{Field, Message, Value, WireError, put_bytes, put_fixed32, put_uint};
use crate::{Error, Result};

/// The version of the format that TensorFlow writes and the latest that is read.
const VERSION: u64 = 1;

/// `DT_STRING` of `types.proto`.
pub(super) const STRING: u64 = 7;

/// What `types.proto` calls our types.
const CODES: [(DType, u64); 13] = [
    (DType::Float32, 1),
    (DType::Float64, 2),
    (DType::Int32, 3),
    (DType::UInt8, 4),
    (DType::Int16, 5),
    (DType::Int8, 6),
    (DType::Int64, 9),
    (DType::Bool, 10),
    (DType::BFloat16, 14),
    (DType::UInt16, 17),
    (DType::Float16, 19),
    (DType::UInt32, 22),
    (DType::UInt64, 23),
];

/// Others, for error messages.
const OTHERS: [(u64, &str); 14] = [
    (8, "complex64"),
    (11, "qint8"),
    (12, "quint8"),
    (13, "qint32"),
    (15, "qint16"),
    (16, "quint16"),
    (18, "complex128"),
    (20, "resource"),
    (21, "variant"),
    (24, "float8_e5m2"),
    (25, "float8_e4m3fn"),
    (29, "int4"),
    (30, "uint4"),
    (0, "of no type"),
];

pub(super) fn code_of(dtype: DType) -> u64 {
    let pair = CODES.iter().find(|(ours, _)| *ours == dtype);
    pair.map_or(0, |(_, code)| *code)
}

/// The type of a tensor's elements.
pub(super) enum TensorType {
    Array(DType),
    String,
}

/// The first record of an index file.
pub(super) struct Header {
    pub(super) shards: usize,
}

impl Header {
    pub(super) fn decode(place: &str, bytes: &[u8]) -> Result<Self> {
        let mut shards = 0;
        let mut big_endian = false;
        let mut needed_version = 0;
        let decoded = each_field(bytes, |field| {
            match (field.number, field.value) {
                (1, Value::Varint(value)) => shards = value,
                (2, Value::Varint(value)) => big_endian = value != 0,
                (3, Value::Bytes(version)) => {
                    each_field(version.bytes(), |field| {
                        if let (2, Value::Varint(value)) = (field.number, field.value) {
                            needed_version = value;
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        });
        decoded.map_err(|e| wire_error(place, &e))?;
        if big_endian {
            return Err(Error::unsupported(place, "its tensors are big-endian"));
        }
        if needed_version > VERSION {
            let reason = format!("it needs a reader of version {needed_version}, above {VERSION}");
            return Err(Error::unsupported(place, reason));
        }
        // File names have five digits for it; a sound file has no more shards than that.
        match usize::try_from(shards) {
            Ok(shards @ 1..=99_999) => Ok(Header { shards }),
            _ => Err(Error::corrupt(
                place,
                format!("it claims {shards} data files"),
            )),
        }
    }

    /// The encoded header of a checkpoint with one data file.
    pub(super) fn of_one_shard() -> Vec<u8> {
        let mut version = Vec::new();
        put_uint(1, VERSION, &mut version);
        let mut header = Vec::new();
        put_uint(1, 1, &mut header);
        put_bytes(3, &version, &mut header);
        header
    }
}

/// Where and as what a tensor is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The type's number in `types.proto`.
    pub(super) code: u64,
    pub(super) shape: Vec<usize>,
    pub(super) shard: usize,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) checksum: MaskedCrc,
}

impl Entry {
    /// The type of the elements; `None` for strings and what has no place here.
    pub fn dtype(&self) -> Option<DType> {
        let pair = CODES.iter().find(|(_, code)| *code == self.code);
        pair.map(|(dtype, _)| *dtype)
    }

    /// Whether the elements are byte strings.
    pub fn is_strings(&self) -> bool {
        self.code == STRING
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where the bytes are in the data file.
    pub(super) fn range(&self) -> Option<Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        Some(start..start.checked_add(usize::try_from(self.size).ok()?)?)
    }

    pub(super) fn tensor_type(&self, place: &str) -> Result<TensorType> {
        if self.is_strings() {
            return Ok(TensorType::String);
        }
        self.dtype().map(TensorType::Array).ok_or_else(|| {
            let other = OTHERS.iter().find(|(code, _)| *code == self.code);
            let name = other.map_or("of a type", |(_, name)| name);
            let reason = format!("it is {name} (number {}), no dtype of Keras", self.code);
            Error::unsupported(place, reason)
        })
    }

    pub(super) fn decode(place: &str, bytes: &[u8]) -> Result<Self> {
        let mut entry = Entry {
            code: 0,
            shape: Vec::new(),
            shard: 0,
            offset: 0,
            size: 0,
            checksum: MaskedCrc(0),
        };
        let mut shape = None;
        let mut partitioned = false;
        let mut shard = 0;
        let decoded = each_field(bytes, |field| {
            match (field.number, field.value) {
                (1, Value::Varint(value)) => entry.code = value,
                (2, Value::Bytes(value)) => shape = Some(value.bytes()),
                (3, Value::Varint(value)) => shard = value,
                (4, Value::Varint(value)) => entry.offset = value,
                (5, Value::Varint(value)) => entry.size = value,
                (6, Value::Fixed32(value)) => entry.checksum = MaskedCrc(value),
                (7, Value::Bytes(_)) => partitioned = true,
                _ => {}
            }
            Ok(())
        });
        decoded.map_err(|e| wire_error(place, &e))?;
        if partitioned {
            let reason = "it is a partitioned variable; save it whole";
            return Err(Error::unsupported(place, reason));
        }
        entry.shard = usize::try_from(shard).unwrap_or(usize::MAX);
        entry.shape = decode_shape(place, shape.unwrap_or_default())?;
        Ok(entry)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut shape = Vec::new();
        for &axis in &self.shape {
            let mut dimension = Vec::new();
            put_nonzero(1, axis as u64, &mut dimension);
            put_bytes(2, &dimension, &mut shape);
        }
        let mut bytes = Vec::new();
        put_uint(1, self.code, &mut bytes);
        put_bytes(2, &shape, &mut bytes);
        put_nonzero(3, self.shard as u64, &mut bytes);
        put_nonzero(4, self.offset, &mut bytes);
        put_nonzero(5, self.size, &mut bytes);
        put_fixed32(6, self.checksum.0, &mut bytes);
        bytes
    }
}

/// Zero is what an absent field means.
fn put_nonzero(number: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        put_uint(number, value, out);
    }
}

/// A `TensorShapeProto`.
fn decode_shape(place: &str, bytes: &[u8]) -> Result<Vec<usize>> {
    let mut shape = Vec::new();
    let mut sizes_fit = true;
    let decoded = each_field(bytes, |field| {
        if let (2, Value::Bytes(dimension)) = (field.number, field.value) {
            let mut size = 0;
            each_field(dimension.bytes(), |field| {
                if let (1, Value::Varint(value)) = (field.number, field.value) {
                    size = value;
                }
                Ok(())
            })?;
            // Negative sizes, which stand for unknown ones, are huge as unsigned integers.
            sizes_fit &= i64::try_from(size).is_ok();
            shape.push(usize::try_from(size).unwrap_or(usize::MAX));
        }
        Ok(())
    });
    decoded.map_err(|e| wire_error(place, &e))?;
    if !sizes_fit {
        return Err(Error::corrupt(place, "its shape is not known"));
    }
    Ok(shape)
}

pub(super) fn each_field<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(Field<'a>) -> std::result::Result<(), WireError>,
) -> std::result::Result<(), WireError> {
    let mut message = Message::new(bytes);
    while let Some(field) = message.next()? {
        take(field)?;
    }
    Ok(())
}

pub(super) fn wire_error(place: &str, error: &WireError) -> Error {
    let reason = format!("{} at byte {} of its record", error.reason, error.offset);
    Error::corrupt(place, reason)
}
