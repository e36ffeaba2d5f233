//! How HDF5 files tell the type of a variable, as h5py writes it.

use hdf5_pure::{
    AttrValue, Datatype, DatatypeByteOrder, EnumTypeBuilder, FloatingPointLayout, make_f32_type,
    make_f64_type, make_i8_type, make_i16_type, make_i32_type, make_i64_type, make_u8_type,
    make_u16_type, make_u32_type, make_u64_type,
};

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

/// The HDF5 type in which h5py stores `dtype`.
pub(crate) fn to_h5(dtype: DType) -> Result<Datatype> {
    Ok(match dtype {
        DType::Float16 => Datatype::FloatingPoint {
            size: 2,
            byte_order: DatatypeByteOrder::LittleEndian,
            layout: BINARY16,
        },
        DType::BFloat16 => Datatype::Opaque {
            size: 2,
            tag: Vec::new(),
        },
        DType::Float32 => make_f32_type(),
        DType::Float64 => make_f64_type(),
        DType::Int8 => make_i8_type(),
        DType::Int16 => make_i16_type(),
        DType::Int32 => make_i32_type(),
        DType::Int64 => make_i64_type(),
        DType::UInt8 => make_u8_type(),
        DType::UInt16 => make_u16_type(),
        DType::UInt32 => make_u32_type(),
        DType::UInt64 => make_u64_type(),
        DType::Bool => EnumTypeBuilder::with_base(make_i8_type())
            .raw_value("FALSE", &[0])
            .raw_value("TRUE", &[1])
            .build()
            .map_err(|e| Error::invalid("a bool array", e.to_string()))?,
    })
}
