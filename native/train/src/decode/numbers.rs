//! The numbers of an Arrow array, whatever their type, into slots of one type.

use super::downcast;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow_array::{Array, BooleanArray, PrimitiveArray};
use arrow_schema::DataType;

/// What slots hold. Into f32 a conversion loses at most precision: Keras computes in float32. Into
/// i64 it is exact for whole numbers, into i32 for those of columns that are no wider.
pub(crate) trait Target: Copy + Default {
    /// Whether fractions are errors.
    const WHOLE: bool;
    fn of_int(value: i64) -> Self;
    fn of_float(value: f64) -> Self;
}

impl Target for f32 {
    const WHOLE: bool = false;

    fn of_int(value: i64) -> Self {
        value as f32
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "float32 is the compute type"
    )]
    fn of_float(value: f64) -> Self {
        value as f32
    }
}

macro_rules! whole {
    ($($to:ty),*) => {$(
        impl Target for $to {
            const WHOLE: bool = true;

            #[allow(clippy::cast_possible_truncation, reason = "the target is as wide as its columns")]
            fn of_int(value: i64) -> Self {
                value as $to
            }

            #[expect(clippy::cast_possible_truncation, reason = "whole numbers only")]
            fn of_float(value: f64) -> Self {
                value as $to
            }
        }
    )*};
}
whole!(i32, i64);

/// A number of a column. The detour by the widest type costs nothing: the compiler folds it.
pub(crate) trait Source: Copy {
    fn to<T: Target>(self) -> T;
}

macro_rules! source {
    ($by:ident, $wide:ty, $($from:ty),*) => {$(
        impl Source for $from {
            #[inline]
            fn to<T: Target>(self) -> T {
                T::$by(<$wide>::from(self))
            }
        }
    )*};
}
source!(of_int, i64, u8, i8, i16, i32, i64);
source!(of_float, f64, f32, f64);

/// The values of a numeric array, without its null bitmap.
pub(crate) enum Numbers<'a> {
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
}

macro_rules! each {
    ($numbers:expr, $bools:ident => $on_bools:expr, $slice:ident => $on_slice:expr) => {
        match $numbers {
            Numbers::Bool($bools) => $on_bools,
            Numbers::I8($slice) => $on_slice,
            Numbers::I16($slice) => $on_slice,
            Numbers::I32($slice) => $on_slice,
            Numbers::I64($slice) => $on_slice,
            Numbers::F32($slice) => $on_slice,
            Numbers::F64($slice) => $on_slice,
        }
    };
}

impl<'a> Numbers<'a> {
    pub(crate) fn of(array: &'a dyn Array) -> Option<Self> {
        fn values<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<&[T::Native]> {
            downcast::<PrimitiveArray<T>>(array).map(|array| &array.values()[..])
        }
        Some(match array.data_type() {
            DataType::Boolean => Self::Bool(downcast(array)?),
            DataType::Int8 => Self::I8(values::<Int8Type>(array)?),
            DataType::Int16 => Self::I16(values::<Int16Type>(array)?),
            DataType::Int32 => Self::I32(values::<Int32Type>(array)?),
            DataType::Int64 => Self::I64(values::<Int64Type>(array)?),
            DataType::Float32 => Self::F32(values::<Float32Type>(array)?),
            DataType::Float64 => Self::F64(values::<Float64Type>(array)?),
            _ => return None,
        })
    }

    /// Every value into every `stride`-th slot of `out`.
    pub(crate) fn scatter<T: Target>(&self, out: &mut [T], stride: usize) {
        fn slice<S: Source, T: Target>(values: &[S], out: &mut [T], stride: usize) {
            for (value, slot) in values.iter().zip(out.iter_mut().step_by(stride)) {
                *slot = value.to();
            }
        }
        each!(self,
            bools => for (row, slot) in (0..bools.len()).zip(out.iter_mut().step_by(stride)) {
                *slot = u8::from(bools.value(row)).to();
            },
            values => slice(values, out, stride))
    }

    /// `out.len()` values from `start` on, side by side.
    pub(crate) fn copy<T: Target>(&self, start: usize, out: &mut [T]) {
        fn slice<S: Source, T: Target>(values: &[S], out: &mut [T]) {
            for (value, slot) in values.iter().zip(out) {
                *slot = value.to();
            }
        }
        each!(self,
            bools => for (row, slot) in (start..bools.len()).zip(out) {
                *slot = u8::from(bools.value(row)).to();
            },
            values => slice(&values[start..], out))
    }

    /// The first valid value that is no whole number, with its place.
    pub(crate) fn first_fraction(&self, valid: impl Fn(usize) -> bool) -> Option<(usize, f64)> {
        let fraction = |at: usize, value: f64| {
            let whole = value.fract() == 0.0 && value.is_finite();
            (!whole && valid(at)).then_some((at, value))
        };
        match self {
            Self::F32(values) => {
                let mut values = values.iter().enumerate();
                values.find_map(|(at, &value)| fraction(at, value.into()))
            }
            Self::F64(values) => {
                let mut values = values.iter().enumerate();
                values.find_map(|(at, &value)| fraction(at, value))
            }
            _ => None,
        }
    }
}
