//! How numbers travel: as they lie in memory, or float32 in 16 bits.
//!
//! In 16 bits a number is rounded to the nearest, ties to even, each time it is sent, and sums are
//! made in float32. Who sends a number keeps the rounded one, so that all have the same.

use half::f16;
use half::slice::HalfFloatSliceExt;
use multiversion::multiversion;

use crate::element::{Element, bytes_mut};

/// How the numbers of an allreduce travel between ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// As they are.
    #[default]
    Float32,
    /// As bfloat16: the range of float32 with 8 significant bits.
    Bfloat16,
    /// As float16: 11 significant bits; what is beyond 65,504 becomes infinite.
    Float16,
}

/// An encoding of numbers.
pub(crate) trait Encoding<T> {
    /// Bytes of a number on its way.
    const BYTES: usize;
    /// Whether that is how it lies in memory.
    const AS_IT_IS: bool;

    /// Rounds `numbers` to what they become on the way, and appends that to `into`.
    fn encode(numbers: &mut [T], into: &mut Vec<u8>);
    /// Replaces `into` by the numbers in `encoded`.
    fn store(into: &mut [T], encoded: &[u8]);
    /// Adds the numbers in `encoded` to `into`, one by one.
    fn add(into: &mut [T], encoded: &[u8]);
}

/// Numbers as they are.
pub(crate) struct Plain;

impl<T: Element> Encoding<T> for Plain {
    const BYTES: usize = size_of::<T>();
    const AS_IT_IS: bool = true;

    fn encode(numbers: &mut [T], into: &mut Vec<u8>) {
        into.extend_from_slice(bytes_mut(numbers));
    }

    fn store(into: &mut [T], encoded: &[u8]) {
        let length = size_of_val(into).min(encoded.len());
        bytes_mut(into)[..length].copy_from_slice(&encoded[..length]);
    }

    fn add(into: &mut [T], encoded: &[u8]) {
        T::add(into, encoded);
    }
}

/// float32 as bfloat16.
pub(crate) struct Bfloat16;

impl Encoding<f32> for Bfloat16 {
    const BYTES: usize = 2;
    const AS_IT_IS: bool = false;

    fn encode(numbers: &mut [f32], into: &mut Vec<u8>) {
        let start = into.len();
        into.resize(start + 2 * numbers.len(), 0);
        encode_bfloat16(numbers, &mut into[start..]);
    }

    fn store(into: &mut [f32], encoded: &[u8]) {
        for (number, half) in into.iter_mut().zip(encoded.as_chunks().0) {
            *number = widen(*half);
        }
    }

    fn add(into: &mut [f32], encoded: &[u8]) {
        add_bfloat16(into, encoded);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn encode_bfloat16(numbers: &mut [f32], into: &mut [u8]) {
    for (number, half) in numbers.iter_mut().zip(into.as_chunks_mut().0) {
        let bits = number.to_bits();
        let even = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // Not a number stays none, whatever bits of it are cut off.
        let rounded = if number.is_nan() {
            bits | 0x0040_0000
        } else {
            even
        };
        *number = f32::from_bits(rounded & 0xffff_0000);
        let [_, _, low, high] = rounded.to_le_bytes();
        *half = [low, high];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn add_bfloat16(into: &mut [f32], encoded: &[u8]) {
    for (sum, half) in into.iter_mut().zip(encoded.as_chunks().0) {
        *sum += widen(*half);
    }
}

fn widen([low, high]: [u8; 2]) -> f32 {
    f32::from_le_bytes([0, 0, low, high])
}

/// float32 as float16.
pub(crate) struct Float16;

/// Numbers converted at a time, to stay in the fastest memory.
const PIECE: usize = 256;

impl Encoding<f32> for Float16 {
    const BYTES: usize = 2;
    const AS_IT_IS: bool = false;

    fn encode(numbers: &mut [f32], into: &mut Vec<u8>) {
        let mut halves = [f16::ZERO; PIECE];
        for numbers in numbers.chunks_mut(PIECE) {
            let halves = &mut halves[..numbers.len()];
            halves.convert_from_f32_slice(numbers);
            halves.convert_to_f32_slice(numbers);
            into.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        }
    }

    fn store(into: &mut [f32], encoded: &[u8]) {
        decode_float16(into, encoded, |number, came| *number = came);
    }

    fn add(into: &mut [f32], encoded: &[u8]) {
        decode_float16(into, encoded, |sum, came| *sum += came);
    }
}

fn decode_float16(into: &mut [f32], encoded: &[u8], each: impl Fn(&mut f32, f32)) {
    let (mut halves, mut floats) = ([f16::ZERO; PIECE], [0.0; PIECE]);
    for (into, encoded) in into.chunks_mut(PIECE).zip(encoded.chunks(2 * PIECE)) {
        for (half, bytes) in halves.iter_mut().zip(encoded.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        let floats = &mut floats[..into.len()];
        halves[..into.len()].convert_to_f32_slice(floats);
        for (number, came) in into.iter_mut().zip(floats) {
            each(number, *came);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{Bfloat16, Encoding, Float16};

    fn numbers() -> Vec<f32> {
        let of_bits = (0..100_000u32).map(|index| f32::from_bits(index.wrapping_mul(42_949)));
        let special = [
            0.0,
            -0.0,
            1.0,
            f32::NAN,
            f32::INFINITY,
            65_519.0,
            65_520.0,
            1e-8,
            f32::MAX,
        ];
        special.into_iter().chain(of_bits).collect()
    }

    fn check<E: Encoding<f32>>(expected: impl Fn(f32) -> f32) {
        let given = numbers();
        let (mut rounded, mut encoded) = (given.clone(), Vec::new());
        E::encode(&mut rounded, &mut encoded);
        assert_eq!(encoded.len(), 2 * given.len());
        let (mut stored, mut sums) = (vec![7.0; given.len()], vec![0.0; given.len()]);
        E::store(&mut stored, &encoded);
        E::add(&mut sums, &encoded);
        for (index, number) in given.into_iter().enumerate() {
            let expected = expected(number);
            for came in [rounded[index], stored[index], sums[index]] {
                assert!(
                    came == expected || came.is_nan() && expected.is_nan(),
                    "{number} {came}"
                );
            }
        }
    }

    #[test]
    fn bfloat16_rounds_to_nearest_even() {
        check::<Bfloat16>(|number| bf16::from_f32(number).to_f32());
    }

    #[test]
    fn float16_rounds_to_nearest_even() {
        check::<Float16>(|number| f16::from_f32(number).to_f32());
    }
}
