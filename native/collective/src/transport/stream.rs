//! A copy into memory that another core reads next, past this core's caches.
//!
//! A line of a ring was last read by the consumer, so it lies in that core's cache. An ordinary store
//! fetches it from there first and leaves it changed in this core's cache, from where the consumer
//! fetches it again: two trips between cores, which on processors of several dies take longer than
//! one to memory. A streaming store does neither.

#![expect(unsafe_code, reason = "streaming stores are instructions on addresses")]

use std::ptr;

/// Shorter copies are latency, and leave caches alone.
const LEAST: usize = 4096;

/// Copies `bytes` to `target`. All of it is there before any later store of this thread.
///
/// # Safety
/// As for [`ptr::copy_nonoverlapping`] of the bytes to the target.
pub(crate) unsafe fn copy(bytes: &[u8], target: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        if bytes.len() < LEAST || !stream(bytes, target) {
            ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }
}

/// Whether it could, as the target begins where it must.
#[cfg(target_arch = "x86_64")]
unsafe fn stream(bytes: &[u8], target: *mut u8) -> bool {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    if !target.addr().is_multiple_of(size_of::<__m128i>()) {
        return false;
    }
    let (lines, rest) = bytes.as_chunks::<64>();
    // SAFETY: 64 bytes of a line are read where it is, and written to as many bytes of the target,
    // which is aligned for it. Every x86_64 processor has these instructions. The fence orders
    // streaming stores before the store that publishes them.
    unsafe {
        for (index, line) in lines.iter().enumerate() {
            let from: *const __m128i = line.as_ptr().cast();
            let to: *mut __m128i = target.add(index * line.len()).cast();
            let quarters: [__m128i; 4] =
                std::array::from_fn(|quarter| _mm_loadu_si128(from.add(quarter)));
            for (quarter, value) in quarters.into_iter().enumerate() {
                _mm_stream_si128(to.add(quarter), value);
            }
        }
        let end = target.add(bytes.len() - rest.len());
        ptr::copy_nonoverlapping(rest.as_ptr(), end, rest.len());
        _mm_sfence();
    }
    true
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream(_bytes: &[u8], _target: *mut u8) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::copy;

    #[test]
    fn every_length_arrives_wherever_it_begins() {
        let bytes: Vec<u8> = (0..20_000u32).map(|index| index.to_le_bytes()[0]).collect();
        for length in [0, 1, 4095, 4096, 4097, 8191, 16_384, 19_999] {
            for start in [0, 1, 16, 32, 33] {
                let mut target = vec![0; 20_100];
                let (from, to) = (&bytes[..length], &mut target[start..start + length]);
                // SAFETY: both are as long.
                unsafe { copy(from, to.as_mut_ptr()) };
                assert_eq!(to, from);
                assert!(target[start + length..].iter().all(|byte| *byte == 0));
            }
        }
    }
}
