//! The numbers of an Arrow array, whatever their type, into slots of one type.

use super::decimal;
use super::downcast;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, BooleanArray, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};

/// What slots hold. Into f32 a conversion loses at most precision: Keras computes in float32. Into
/// i64 it is exact for whole numbers, into i32 for those of columns that are no wider.
pub(crate) trait Target: Copy + Default {
    /// Whether fractions are errors.
    const WHOLE: bool;
    fn of_int(value: i64) -> Self;
    fn of_float(value: f64) -> Self;
    /// `unscaled` / 10^`scale`, rounded once; of whole numbers without the fraction.
    fn of_decimal(unscaled: i128, scale: u8) -> Self;
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

    fn of_decimal(unscaled: i128, scale: u8) -> Self {
        decimal::to_f32(unscaled, scale)
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

            #[expect(clippy::cast_possible_truncation, reason = "larger ones were refused")]
            fn of_decimal(unscaled: i128, scale: u8) -> Self {
                (unscaled / decimal::power(scale)) as $to
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
    /// Also dates: days since 1970-01-01.
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    /// Points in time: microseconds since 1970-01-01, read as seconds.
    Micros(&'a [i64]),
    /// Unscaled values and how many of their digits are behind the point.
    Decimal(&'a [i128], u8),
}

/// Digits of a microsecond behind the point of a second.
const MICROS: u8 = 6;

/// Hands the numbers from `$start` on, as an iterator of `T`, to `$take`.
macro_rules! each {
    ($numbers:expr, $start:expr, $values:ident => $take:expr) => {
        match $numbers {
            Numbers::Bool(bools) => {
                let $values = ($start..bools.len()).map(|row| u8::from(bools.value(row)).to());
                $take
            }
            Numbers::I8(values) => each!(values, $start, |value| value.to(), $values => $take),
            Numbers::I16(values) => each!(values, $start, |value| value.to(), $values => $take),
            Numbers::I32(values) => each!(values, $start, |value| value.to(), $values => $take),
            Numbers::I64(values) => each!(values, $start, |value| value.to(), $values => $take),
            Numbers::F32(values) => each!(values, $start, |value| value.to(), $values => $take),
            Numbers::F64(values) => each!(values, $start, |value| value.to(), $values => $take),
            Numbers::Micros(values) => {
                each!(values, $start, |value| T::of_decimal((*value).into(), MICROS), $values => $take)
            }
            Numbers::Decimal(values, scale) => {
                each!(values, $start, |value| T::of_decimal(*value, *scale), $values => $take)
            }
        }
    };
    ($slice:expr, $start:expr, $convert:expr, $values:ident => $take:expr) => {{
        let $values = $slice[$start..].iter().map($convert);
        $take
    }};
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
            DataType::Date32 => Self::I32(values::<Date32Type>(array)?),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Micros(values::<TimestampMicrosecondType>(array)?)
            }
            DataType::Decimal128(_, scale) => {
                Self::Decimal(values::<Decimal128Type>(array)?, u8::try_from(*scale).ok()?)
            }
            _ => return None,
        })
    }

    /// Every value into every `stride`-th slot of `out`.
    pub(crate) fn scatter<T: Target>(&self, out: &mut [T], stride: usize) {
        each!(self, 0, values => {
            for (value, slot) in values.zip(out.iter_mut().step_by(stride)) {
                *slot = value;
            }
        });
    }

    /// `out.len()` values from `start` on, side by side.
    pub(crate) fn copy<T: Target>(&self, start: usize, out: &mut [T]) {
        each!(self, start, values => {
            for (value, slot) in values.zip(out) {
                *slot = value;
            }
        });
    }

    /// The first valid value that is no whole number of 64 bits, with its place.
    pub(crate) fn first_fraction(&self, valid: impl Fn(usize) -> bool) -> Option<(usize, String)> {
        fn find<V: Copy>(
            values: &[V],
            is_whole: impl Fn(V) -> bool,
            valid: impl Fn(usize) -> bool,
        ) -> Option<(usize, V)> {
            let mut values = values.iter().copied().enumerate();
            values.find(|(at, value)| !is_whole(*value) && valid(*at))
        }
        // The first power of two beyond 64 bits; its negative is within.
        const END: f64 = 9_223_372_036_854_775_808.0;
        let is_whole = |value: f64| value.fract() == 0.0 && (-END..END).contains(&value);
        match self {
            Self::F32(values) => find(values, |value| is_whole(value.into()), valid)
                .map(|(at, value)| (at, value.to_string())),
            Self::F64(values) => {
                find(values, is_whole, valid).map(|(at, value)| (at, value.to_string()))
            }
            Self::Micros(values) => find(
                values,
                |value| value % decimal::MICROS_PER_SECOND == 0,
                valid,
            )
            .map(|(at, value)| (at, decimal::text(value.into(), MICROS))),
            Self::Decimal(values, scale) => {
                find(values, |value| decimal::is_whole(value, *scale), valid)
                    .map(|(at, value)| (at, decimal::text(value, *scale)))
            }
            _ => None,
        }
    }
}
