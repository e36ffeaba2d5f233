//! A dense array of any Keras dtype, in row-major order: what weights and checkpoints are made of.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

use crate::dtype::{DType, Element};
use crate::{Error, Result};

/// An array in row-major (C) order. An empty shape is a scalar.
///
/// The elements are kept as little-endian bytes, as every format stores them, so reading, writing
/// and handing them to a tensor library are plain copies. Equality is that of the bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Array {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// Joins a shape and its elements.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number differs from the product of `shape`.
    pub fn new<T: Element>(shape: Vec<usize>, elements: impl AsRef<[T]>) -> Result<Self> {
        let elements = elements.as_ref();
        if element_count(&shape) != Some(elements.len()) {
            return Err(mismatch(&shape, elements.len()));
        }
        let mut bytes = Vec::new();
        T::put(elements, &mut bytes);
        Ok(Array {
            dtype: T::DTYPE,
            shape,
            bytes,
        })
    }

    /// Joins a shape and the little-endian bytes of its elements.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number differs from what `shape` and `dtype` need, or a bool is
    /// neither 0 nor 1.
    pub fn from_le_bytes(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self> {
        let needed = element_count(&shape).and_then(|count| count.checked_mul(dtype.width()));
        if needed != Some(bytes.len()) {
            return Err(mismatch(&shape, bytes.len() / dtype.width()));
        }
        if dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
            return Err(Error::invalid("the array", "a bool is neither 0 nor 1"));
        }
        Ok(Array {
            dtype,
            shape,
            bytes,
        })
    }

    /// A float32 array without axes; [`From`] makes scalars of the other types.
    pub fn scalar(value: f32) -> Self {
        Array::from(value)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.width()
    }

    /// Whether an axis has length 0.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements as little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if they are of another type.
    pub fn values<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype != T::DTYPE {
            let reason = format!("it is {}, not {}", self.dtype, T::DTYPE);
            return Err(Error::unsupported("the array", reason));
        }
        Ok(T::take(&self.bytes))
    }

    /// The elements of a float32, float16 or bfloat16 array; all of them are exact in float32.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other types.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        match self.dtype {
            DType::Float16 => Ok(self.values()?.into_iter().map(f16::to_f32).collect()),
            DType::BFloat16 => Ok(self.values()?.into_iter().map(bf16::to_f32).collect()),
            _ => self.values(),
        }
    }

    /// The only element of an integer array, such as a counter; `None` for other arrays, or if it
    /// is above [`i64::MAX`].
    pub fn integer(&self) -> Option<i64> {
        fn only<T: Element + TryInto<i64>>(array: &Array) -> Option<i64> {
            array.values::<T>().ok()?.pop()?.try_into().ok()
        }
        if self.len() != 1 {
            return None;
        }
        match self.dtype {
            DType::Int8 => only::<i8>(self),
            DType::Int16 => only::<i16>(self),
            DType::Int32 => only::<i32>(self),
            DType::Int64 => only::<i64>(self),
            DType::UInt8 => only::<u8>(self),
            DType::UInt16 => only::<u16>(self),
            DType::UInt32 => only::<u32>(self),
            DType::UInt64 => only::<u64>(self),
            _ => None,
        }
    }
}

/// An array without axes.
impl<T: Element> From<T> for Array {
    fn from(value: T) -> Self {
        let mut bytes = Vec::new();
        T::put(&[value], &mut bytes);
        Array {
            dtype: T::DTYPE,
            shape: Vec::new(),
            bytes,
        }
    }
}

/// What a file is to hold in the place of an array: its type and shape are known when the file is laid
/// out, its elements only need be there when it is their turn.
pub trait ToArray {
    /// The type of the elements.
    fn dtype(&self) -> DType;

    /// Length of each axis.
    fn shape(&self) -> &[usize];

    /// The array itself.
    ///
    /// # Errors
    /// Those of where it comes from.
    fn to_array(&self) -> Result<Cow<'_, Array>>;
}

impl ToArray for Array {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn to_array(&self) -> Result<Cow<'_, Array>> {
        Ok(Cow::Borrowed(self))
    }
}

/// Type, shape and the first bytes: arrays are too long to be shown whole.
impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        write!(f, "{}{:?} ", self.dtype, self.shape)?;
        for byte in self.bytes.iter().take(SHOWN) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(if self.bytes.len() > SHOWN { "..." } else { "" })
    }
}

fn mismatch(shape: &[usize], elements: usize) -> Error {
    let reason = format!("shape {shape:?} does not hold {elements} elements");
    Error::invalid("the array", reason)
}

/// Product of the axes, or `None` if it overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_usize, |count, &axis| count.checked_mul(axis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_number_of_elements_must_match_the_shape() {
        assert!(Array::new(vec![2, 3], [0.0_f32; 6]).is_ok());
        assert!(Array::new::<f32>(vec![0, 3], []).is_ok());
        assert!(Array::new::<f32>(vec![usize::MAX, 2, 0], []).is_ok());
        let error = Array::new(vec![2, 3], [0.0_f32; 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the array cannot be written: shape [2, 3] does not hold 5 elements"
        );
        assert!(Array::new::<f32>(vec![usize::MAX, 2], []).is_err());
        assert!(Array::from_le_bytes(DType::Int16, vec![2], vec![0; 3]).is_err());
        assert!(Array::from_le_bytes(DType::Int64, vec![usize::MAX / 4], vec![]).is_err());
        assert!(Array::from_le_bytes(DType::Bool, vec![2], vec![1, 2]).is_err());
    }

    #[test]
    fn elements_come_back_as_what_they_are_only() {
        let array = Array::new(vec![2], [1_i64, -2]).unwrap();
        assert_eq!(array.values::<i64>().unwrap(), [1, -2]);
        assert_eq!(
            array.values::<f32>().unwrap_err().to_string(),
            "the array cannot be read: it is int64, not float32"
        );
        assert_eq!(
            format!("{array:?}"),
            "int64[2] 0100000000000000feffffffffffffff"
        );
        assert!(Array::from(1.0_f64).to_f32().is_err());
        for half in [Array::from(f16::ONE), Array::from(bf16::ONE)] {
            assert_eq!(half.to_f32().unwrap(), [1.0]);
        }
        assert_eq!(Array::scalar(0.5).to_f32().unwrap(), [0.5]);
        assert_eq!(Array::from(true).values::<bool>().unwrap(), [true]);
    }

    #[test]
    fn counters_of_any_width_are_integers() {
        assert_eq!(Array::from(7_i32).integer(), Some(7));
        assert_eq!(Array::from(-7_i64).integer(), Some(-7));
        assert_eq!(Array::from(7_u8).integer(), Some(7));
        assert_eq!(Array::from(u64::MAX).integer(), None);
        assert_eq!(Array::from(7.0_f32).integer(), None);
        assert_eq!(Array::new(vec![2], [1_i32, 2]).unwrap().integer(), None);
    }

    proptest! {
        #[test]
        fn bytes_are_the_elements(elements: Vec<f64>) {
            let array = Array::new(vec![elements.len()], &elements).unwrap();
            let bytes = array.bytes().to_vec();
            let again = Array::from_le_bytes(DType::Float64, vec![elements.len()], bytes).unwrap();
            prop_assert_eq!(&again, &array);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&again.values::<f64>().unwrap()), bits(&elements));
        }
    }
}
