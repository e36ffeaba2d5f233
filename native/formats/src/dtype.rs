//! The element types of variables, under the names that Keras gives them.

use std::fmt;

use half::{bf16, f16};

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32, what Keras uses unless told otherwise.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    BFloat16,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// Unsigned 8-bit integer.
    UInt8,
    /// Unsigned 16-bit integer.
    UInt16,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Unsigned 64-bit integer.
    UInt64,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// Every type there is.
    pub const ALL: [DType; 13] = [
        DType::Float32,
        DType::Float64,
        DType::Float16,
        DType::BFloat16,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::UInt8,
        DType::UInt16,
        DType::UInt32,
        DType::UInt64,
        DType::Bool,
    ];

    /// Keras's name for it, such as `float32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::Float32 => "float32",
            DType::Float64 => "float64",
            DType::Float16 => "float16",
            DType::BFloat16 => "bfloat16",
            DType::Int8 => "int8",
            DType::Int16 => "int16",
            DType::Int32 => "int32",
            DType::Int64 => "int64",
            DType::UInt8 => "uint8",
            DType::UInt16 => "uint16",
            DType::UInt32 => "uint32",
            DType::UInt64 => "uint64",
            DType::Bool => "bool",
        }
    }

    /// The type of a Keras name, or `None` for one that has no place here.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element.
    pub fn width(self) -> usize {
        match self {
            DType::Int8 | DType::UInt8 | DType::Bool => 1,
            DType::Float16 | DType::BFloat16 | DType::Int16 | DType::UInt16 => 2,
            DType::Float32 | DType::Int32 | DType::UInt32 => 4,
            DType::Float64 | DType::Int64 | DType::UInt64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that is the element type of some array. Implemented here only.
pub trait Element: Copy + sealed::Bytes {
    /// The type as a value.
    const DTYPE: DType;
}

pub(crate) mod sealed {
    /// An element as little-endian bytes.
    pub trait Bytes: Sized {
        /// Appends the elements.
        fn put(elements: &[Self], bytes: &mut Vec<u8>);
        /// The elements of `bytes`, whose length is a multiple of the width.
        fn take(bytes: &[u8]) -> Vec<Self>;
    }
}

macro_rules! elements {
    ($($element:ty: $dtype:ident, $width:literal;)*) => {$(
        impl sealed::Bytes for $element {
            fn put(elements: &[Self], bytes: &mut Vec<u8>) {
                let start = bytes.len();
                bytes.resize(start + $width * elements.len(), 0);
                let (places, _) = bytes[start..].as_chunks_mut::<$width>();
                for (place, element) in places.iter_mut().zip(elements) {
                    *place = element.to_le_bytes();
                }
            }

            fn take(bytes: &[u8]) -> Vec<Self> {
                let (places, _) = bytes.as_chunks::<$width>();
                places.iter().map(|&place| Self::from_le_bytes(place)).collect()
            }
        }

        impl Element for $element {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

elements! {
    f32: Float32, 4;
    f64: Float64, 8;
    f16: Float16, 2;
    bf16: BFloat16, 2;
    i8: Int8, 1;
    i16: Int16, 2;
    i32: Int32, 4;
    i64: Int64, 8;
    u8: UInt8, 1;
    u16: UInt16, 2;
    u32: UInt32, 4;
    u64: UInt64, 8;
}

impl sealed::Bytes for bool {
    fn put(elements: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend(elements.iter().map(|&element| u8::from(element)));
    }

    fn take(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|&byte| byte != 0).collect()
    }
}

impl Element for bool {
    const DTYPE: DType = DType::Bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_types() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DType::from_name("complex64"), None);
    }
}
