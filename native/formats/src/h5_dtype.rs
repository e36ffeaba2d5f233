//! How HDF5 files tell the type of a variable, as h5py writes it.

use hdf5_pure::{AttrValue, Datatype, DatatypeByteOrder, FloatingPointLayout};

use crate::dtype::DType;
use crate::{Error, Result};

/// The attribute by which Keras tells what an opaque two-byte dataset holds.
pub(crate) const ATTRIBUTE: &str = "dtype";

const BINARY16: FloatingPointLayout = FloatingPointLayout {
    bit_offset: 0,
    bit_precision: 16,
    exponent_location: 10,
    exponent_size: 5,
    mantissa_location: 0,
    mantissa_size: 10,
    exponent_bias: 15,
};

/// HDF5 2.0 has it as a float; Keras stores opaque bytes.
const BFLOAT16: FloatingPointLayout = FloatingPointLayout {
    bit_offset: 0,
    bit_precision: 16,
    exponent_location: 7,
    exponent_size: 8,
    mantissa_location: 0,
    mantissa_size: 7,
    exponent_bias: 127,
};

/// The type of a dataset at `path` that is not opaque.
pub(crate) fn of(path: &str, datatype: &Datatype) -> Result<DType> {
    if let Some(dtype) = numeric(datatype) {
        return Ok(dtype);
    }
    if let Datatype::Enumeration {
        base_type, members, ..
    } = datatype
    {
        let mut members: Vec<(&str, &[u8])> = members
            .iter()
            .map(|member| (member.name.as_str(), member.value.as_slice()))
            .collect();
        members.sort_unstable();
        let one_byte = matches!(numeric(base_type), Some(DType::Int8 | DType::UInt8));
        if one_byte && members == [("FALSE", &[0][..]), ("TRUE", &[1])] {
            return Ok(DType::Bool);
        }
    }
    Err(unsupported(path, datatype))
}

/// The type of an opaque dataset with this [`ATTRIBUTE`].
pub(crate) fn of_opaque(
    path: &str,
    datatype: &Datatype,
    attribute: Option<&AttrValue>,
) -> Result<DType> {
    let name = attribute.and_then(AttrValue::as_str);
    match (datatype, name.and_then(DType::from_name)) {
        (Datatype::Opaque { size: 2, .. }, Some(DType::BFloat16)) => Ok(DType::BFloat16),
        _ => Err(unsupported(path, datatype)),
    }
}

fn numeric(datatype: &Datatype) -> Option<DType> {
    match *datatype {
        Datatype::FloatingPoint {
            size,
            byte_order: DatatypeByteOrder::LittleEndian,
            layout,
        } => match (size, layout) {
            (2, BINARY16) => Some(DType::Float16),
            (2, BFLOAT16) => Some(DType::BFloat16),
            (4, FloatingPointLayout::IEEE754_BINARY32) => Some(DType::Float32),
            (8, FloatingPointLayout::IEEE754_BINARY64) => Some(DType::Float64),
            _ => None,
        },
        Datatype::FixedPoint {
            size,
            byte_order,
            layout,
        } => {
            let whole = layout.bit_offset == 0 && u32::from(layout.bit_precision) == 8 * size;
            let little = size == 1 || byte_order == DatatypeByteOrder::LittleEndian;
            match (whole && little, layout.signed, size) {
                (true, true, 1) => Some(DType::Int8),
                (true, true, 2) => Some(DType::Int16),
                (true, true, 4) => Some(DType::Int32),
                (true, true, 8) => Some(DType::Int64),
                (true, false, 1) => Some(DType::UInt8),
                (true, false, 2) => Some(DType::UInt16),
                (true, false, 4) => Some(DType::UInt32),
                (true, false, 8) => Some(DType::UInt64),
                _ => None,
            }
        }
        _ => None,
    }
}

fn unsupported(path: &str, datatype: &Datatype) -> Error {
    let kind = match datatype {
        Datatype::FixedPoint { size, .. } => {
            format!("an integer of {size} bytes in another layout than little-endian")
        }
        Datatype::FloatingPoint { size, .. } => {
            format!("a float of {size} bytes in another layout than little-endian IEEE 754")
        }
        Datatype::Time { .. } => "a time".into(),
        Datatype::String { .. } => "a string".into(),
        Datatype::BitField { .. } => "a bit field".into(),
        Datatype::Opaque { size, .. } => {
            format!("{size} opaque bytes without a dtype attribute that tells what they mean")
        }
        Datatype::Compound { .. } => "a compound".into(),
        Datatype::Reference { .. } => "a reference".into(),
        Datatype::Enumeration { .. } => "an enumeration other than bool".into(),
        Datatype::VariableLength { .. } => "of variable length".into(),
        Datatype::Array { .. } => "an array in each element".into(),
        _ => "of a new kind".into(),
    };
    let reason = format!("its elements are no dtype of a Keras variable, but {kind}");
    Error::unsupported(path, reason)
}

/// A datatype message (version 1) of the type in which h5py stores `dtype`.
pub(crate) fn encode(dtype: DType) -> Vec<u8> {
    match dtype {
        DType::Float16 => float(2, 15, BINARY16),
        DType::Float32 => float(4, 31, FloatingPointLayout::IEEE754_BINARY32),
        DType::Float64 => float(8, 63, FloatingPointLayout::IEEE754_BINARY64),
        // Opaque bytes without a tag.
        DType::BFloat16 => message(5, [0; 3], 2, &[]),
        DType::Int8 => integer(1, true),
        DType::Int16 => integer(2, true),
        DType::Int32 => integer(4, true),
        DType::Int64 => integer(8, true),
        DType::UInt8 => integer(1, false),
        DType::UInt16 => integer(2, false),
        DType::UInt32 => integer(4, false),
        DType::UInt64 => integer(8, false),
        // An enumeration of two: names filled up to 8 bytes, then values.
        DType::Bool => {
            let members = b"FALSE\0\0\0TRUE\0\0\0\0\x00\x01";
            let members = [integer(1, true).as_slice(), members].concat();
            message(8, [2, 0, 0], 1, &members)
        }
    }
}

/// The datatype message of strings of any length, of which a dataset or attribute has references.
pub(crate) fn encode_string(utf8: bool) -> Vec<u8> {
    let character_set = u8::from(utf8);
    let one_byte = message(3, [character_set << 4, 0, 0], 1, &[]);
    message(9, [1, character_set, 0], 16, &one_byte)
}

fn integer(size: u8, signed: bool) -> Vec<u8> {
    let precision = [0, 0, 8 * size, 0];
    message(0, [u8::from(signed) << 3, 0, 0], size, &precision)
}

/// A little-endian float with an implied first bit, whose sign is bit `sign`.
fn float(size: u8, sign: u8, layout: FloatingPointLayout) -> Vec<u8> {
    let mut properties = Vec::new();
    properties.extend(layout.bit_offset.to_le_bytes());
    properties.extend(layout.bit_precision.to_le_bytes());
    properties.extend([layout.exponent_location, layout.exponent_size]);
    properties.extend([layout.mantissa_location, layout.mantissa_size]);
    properties.extend(layout.exponent_bias.to_le_bytes());
    message(1, [0x20, sign, 0], size, &properties)
}

fn message(class: u8, bits: [u8; 3], size: u8, properties: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1 << 4 | class];
    bytes.extend(bits);
    bytes.extend(u32::from(size).to_le_bytes());
    bytes.extend(properties);
    bytes
}
