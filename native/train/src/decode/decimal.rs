//! Decimal numbers: an unscaled integer and how many of its digits are behind the point.

/// Digits behind the point that Spark and Arrow know at most.
pub(super) const MAX_SCALE: u8 = 38;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;

/// Powers of ten that a float64 holds exactly are the first 23.
const EXACT: usize = 23;
const POWERS: [f64; EXACT] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// `unscaled` / 10^`scale`, rounded once.
pub(super) fn to_f32(unscaled: i128, scale: u8) -> f32 {
    if let Some(power) = POWERS.get(usize::from(scale))
        && unscaled.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS
    {
        let quotient = unscaled as f64 / power;
        if !is_middle(quotient) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the one rounding that counts"
            )]
            return quotient as f32;
        }
    }
    // Parsing is exact to the last bit, and rare enough.
    format!("{unscaled}e-{scale}").parse().unwrap_or(f32::NAN)
}

/// Whether a float64 lies in the middle between two float32, where it may have been rounded to.
fn is_middle(value: f64) -> bool {
    const LOST: u32 = f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS;
    let lost = value.to_bits() & ((1 << LOST) - 1);
    lost == 1 << (LOST - 1)
}

/// 10^`scale`.
pub(super) fn power(scale: u8) -> i128 {
    10_i128.pow(scale.min(MAX_SCALE).into())
}

/// Whether it is a whole number of 64 bits.
pub(super) fn is_whole(unscaled: i128, scale: u8) -> bool {
    let power = power(scale);
    unscaled % power == 0 && i64::try_from(unscaled / power).is_ok()
}

/// As people write it.
pub(super) fn text(unscaled: i128, scale: u8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let (value, power) = (unscaled.unsigned_abs(), power(scale).unsigned_abs());
    let (whole, fraction) = (value / power, value % power);
    match scale {
        0 => format!("{sign}{whole}"),
        scale => format!("{sign}{whole}.{fraction:0width$}", width = scale.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_decimal_is_rounded_once() {
        // In float64 first, this is the middle of two float32 and then the lower one.
        let unscaled = 16_777_217_000_000_001;
        assert_eq!(to_f32(unscaled, 9), 16_777_218.0);
        assert_eq!(to_f32(-unscaled, 9), -16_777_218.0);
        assert_eq!(to_f32(1, 38), 1e-38);
        assert_eq!(to_f32(123_456, 3), 123.456);
    }

    #[test]
    fn digits_are_where_they_belong() {
        assert_eq!(text(-5, 2), "-0.05");
        assert_eq!(text(1234, 0), "1234");
        assert_eq!(text(1_500_000, 6), "1.500000");
        assert!(is_whole(300, 2) && !is_whole(301, 2));
        assert!(is_whole(i64::MIN.into(), 0) && !is_whole(i128::from(i64::MAX) + 1, 0));
    }

    proptest! {
        #[test]
        fn every_decimal_is_what_its_text_says(
            unscaled in -(10_i128.pow(38) - 1)..10_i128.pow(38),
            drop in 0..38_u32,
            scale in 0..=MAX_SCALE,
        ) {
            let unscaled = unscaled / 10_i128.pow(drop);
            let expected: f32 = text(unscaled, scale).parse().unwrap();
            prop_assert_eq!(to_f32(unscaled, scale), expected);
        }
    }
}
