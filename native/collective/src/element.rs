//! Numbers seen as the bytes they are in memory, so that a ring sends and receives in place.

#![expect(
    unsafe_code,
    reason = "a slice of floats is viewed as bytes instead of being copied"
)]

use std::slice;

use multiversion::multiversion;

#[cfg(target_endian = "big")]
compile_error!("the wire is little-endian, and numbers go over it as they lie in memory");

/// A number that any bytes of the right size are a valid value of, without padding.
pub(crate) trait Element: Copy + Default + Send + 'static {
    /// Adds the little-endian numbers in `bytes` to `sums`, one by one.
    fn add(sums: &mut [Self], bytes: &[u8]);
}

impl Element for f32 {
    fn add(sums: &mut [Self], bytes: &[u8]) {
        add_f32(sums, bytes);
    }
}

impl Element for f64 {
    fn add(sums: &mut [Self], bytes: &[u8]) {
        for (sum, number) in sums.iter_mut().zip(bytes.as_chunks().0) {
            *sum += f64::from_le_bytes(*number);
        }
    }
}

/// With the widest registers there are: gradients are float32.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add_f32(sums: &mut [f32], bytes: &[u8]) {
    for (sum, number) in sums.iter_mut().zip(bytes.as_chunks().0) {
        *sum += f32::from_le_bytes(*number);
    }
}

impl Element for u8 {
    fn add(sums: &mut [Self], bytes: &[u8]) {
        for (sum, byte) in sums.iter_mut().zip(bytes) {
            *sum = sum.wrapping_add(*byte);
        }
    }
}

pub(crate) fn bytes<T: Element>(numbers: &[T]) -> &[u8] {
    // SAFETY: only f32, f64 and u8 are Elements; they have no padding, u8 needs no alignment, and
    // the length in bytes is that of the same memory, borrowed for as long.
    unsafe { slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

pub(crate) fn bytes_mut<T: Element>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`; in addition every bit pattern is a valid f32, f64 and u8, and the
    // borrow is exclusive.
    unsafe { slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}
