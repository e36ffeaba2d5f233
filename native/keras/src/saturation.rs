//! Casts that hold numbers to the ends of a dtype's range, where others wrap or overflow (Keras's
//! `saturate_cast`).

use tch::{Kind, Tensor};

use crate::dtype::is_float;
use crate::error::Result;

/// The least and the greatest number of a dtype.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limits {
    Integers(i64, i64),
    /// Both signs alike.
    Floats(f64),
}

impl Limits {
    /// Of what a tensor of `kind` holds.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Integers(0, 1),
            Kind::Uint8 => Self::Integers(0, 255),
            Kind::Int8 => Self::Integers(i64::from(i8::MIN), i64::from(i8::MAX)),
            Kind::Int16 => Self::Integers(i64::from(i16::MIN), i64::from(i16::MAX)),
            Kind::Int => Self::Integers(i64::from(i32::MIN), i64::from(i32::MAX)),
            Kind::Int64 => Self::Integers(i64::MIN, i64::MAX),
            Kind::Half => Self::Floats(65_504.0),
            Kind::BFloat16 => Self::Floats(f64::from(f32::from_bits(0x7f7f_0000))),
            Kind::Float => Self::Floats(f64::from(f32::MAX)),
            _ => Self::Floats(f64::MAX),
        }
    }

    /// Of the dtype that Keras calls `name`, some of which are held in a wider one.
    pub(crate) fn named(name: &str, kind: Kind) -> Self {
        match name {
            "uint16" => Self::Integers(0, i64::from(u16::MAX)),
            "uint32" => Self::Integers(0, i64::from(u32::MAX)),
            "uint64" => Self::Integers(0, i64::MAX),
            _ => Self::of(kind),
        }
    }

    /// The ends as integers, those of int64 where they lie beyond.
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    fn integers(self) -> (i64, i64) {
        match self {
            Self::Integers(low, high) => (low, high),
            Self::Floats(most) => (-most as i64, most as i64),
        }
    }

    /// The ends as floating-point numbers that have `digits` binary digits, none beyond them.
    #[expect(
        clippy::cast_precision_loss,
        reason = "what is lost is cut off beforehand"
    )]
    fn floats(self, digits: u32) -> (f64, f64) {
        let cut = |magnitude: u64| {
            let beyond = (u64::BITS - magnitude.leading_zeros()).saturating_sub(digits);
            ((magnitude >> beyond) << beyond) as f64
        };
        match self {
            Self::Integers(low, high) => (-cut(low.unsigned_abs()), cut(high.unsigned_abs())),
            Self::Floats(most) => {
                let beyond = 53 - digits;
                let most = f64::from_bits((most.to_bits() >> beyond) << beyond);
                (-most, most)
            }
        }
    }
}

/// The numbers in `kind`, those beyond `limits` as its ends.
pub(crate) fn saturated(x: &Tensor, kind: Kind, limits: Limits) -> Result<Tensor> {
    let from = x.f_kind()?;
    let held = match from {
        Kind::Bool => x.shallow_clone(),
        Kind::Half => within(x, limits, 11)?,
        Kind::BFloat16 => within(x, limits, 8)?,
        Kind::Float => within(x, limits, 24)?,
        from if is_float(from) => within(x, limits, 53)?,
        from => {
            let (low, high) = limits.integers();
            let (least, most) = Limits::of(from).integers();
            x.f_clamp(low.max(least), high.min(most))?
        }
    };
    Ok(held.f_to_kind(kind)?)
}

/// Numbers of `digits` binary digits between the limits.
fn within(x: &Tensor, limits: Limits, digits: u32) -> Result<Tensor> {
    let (low, high) = limits.floats(digits);
    // A number that the dtype of `x` does not hold is no limit to it.
    let (least, most) = Limits::of(x.f_kind()?).floats(53);
    Ok(x.f_clamp(low.max(least), high.min(most))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_cut_to_the_digits_there_are() {
        assert_eq!(
            Limits::of(Kind::Int).floats(24),
            (-2_147_483_648.0, 2_147_483_520.0)
        );
        assert_eq!(
            Limits::of(Kind::Int).floats(8),
            (-2_147_483_648.0, 2_139_095_040.0)
        );
        assert_eq!(Limits::of(Kind::Int16).floats(24), (-32_768.0, 32_767.0));
        assert_eq!(Limits::of(Kind::Half).floats(8), (-65_280.0, 65_280.0));
        let (_, most) = Limits::of(Kind::Int64).floats(53);
        assert_eq!(most, 9_223_372_036_854_774_784.0);
    }

    #[test]
    fn numbers_beyond_the_range_are_its_ends() {
        let x = Tensor::from_slice(&[-3.7_f32, 1e30, f32::INFINITY, 255.0, -1e30]);
        let cast = |kind| {
            let cast = saturated(&x, kind, Limits::of(kind)).unwrap();
            Vec::<i64>::try_from(cast.to_kind(Kind::Int64)).unwrap()
        };
        assert_eq!(cast(Kind::Uint8), [0, 255, 255, 255, 0]);
        assert_eq!(cast(Kind::Int8), [-3, 127, 127, 127, -128]);
        let bytes = Tensor::from_slice(&[0_u8, 127, 128, 255]);
        let cast = saturated(&bytes, Kind::Int8, Limits::of(Kind::Int8)).unwrap();
        assert_eq!(Vec::<i8>::try_from(cast).unwrap(), [0, 127, 127, 127]);
    }
}
