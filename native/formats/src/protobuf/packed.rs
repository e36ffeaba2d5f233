//! Packed numbers, many at a time: floats, and varints of one or two bytes, as pixels, classes and
//! small counts are.
#![expect(
    unsafe_code,
    reason = "vector instructions, and memory that is not written twice"
)]

use std::mem::MaybeUninit;

/// Values that one step may write, whether or not as many are there.
const STEP: usize = 64;

/// Bytes that are looked at in one call: memory is taken for no more, whatever they turn out to be.
const WINDOW: usize = 4096;

/// What was read and what was written.
#[derive(Clone, Copy, Default)]
struct Progress {
    bytes: usize,
    values: usize,
}

/// Appends the varints at the beginning of `bytes`, some or all up to the first of more than two
/// bytes; gives the bytes that they take.
pub(super) fn short_varints(bytes: &[u8], out: &mut Vec<i64>) -> usize {
    let bytes = &bytes[..bytes.len().min(WINDOW)];
    // No varint is shorter than a byte.
    out.reserve(bytes.len() + STEP);
    let progress = kernel()(bytes, out.spare_capacity_mut());
    // SAFETY: the kernels have written the first `values` of the spare capacity.
    unsafe { out.set_len(out.len() + progress.values) };
    progress.bytes
}

/// Appends little-endian floats.
pub(crate) fn floats(items: &[[u8; 4]], out: &mut Vec<f32>) {
    if cfg!(target_endian = "big") {
        return out.extend(items.iter().map(|&item| f32::from_le_bytes(item)));
    }
    out.reserve(items.len());
    let room = out.spare_capacity_mut().as_mut_ptr().cast();
    // SAFETY: there is room for as many floats as there are items, which are their bytes, and of
    // which any are a float.
    unsafe {
        std::ptr::copy_nonoverlapping(items.as_ptr(), room, items.len());
        out.set_len(out.len() + items.len());
    }
}

type Kernel = fn(&[u8], &mut [MaybeUninit<i64>]) -> Progress;

/// The fastest for this processor.
#[inline]
fn kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
        {
            return |bytes, out| {
                // SAFETY: the processor has the features, as was just asked.
                unsafe { by_64(bytes, out) }
            };
        }
        if is_x86_feature_detected!("avx2") {
            return |bytes, out| {
                // SAFETY: the processor has the feature, as was just asked.
                unsafe { by_8_avx2(bytes, out) }
            };
        }
    }
    by_8
}

/// The lowest `count` bits, at most 64.
#[inline]
fn mask_of(count: usize) -> u64 {
    if count == 0 {
        0
    } else {
        u64::MAX >> (64 - count)
    }
}

/// Takes 64 bytes at once: what each varint is, is computed at its first byte from that and the next
/// one, then the first bytes are moved together.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn by_64(bytes: &[u8], out: &mut [MaybeUninit<i64>]) -> Progress {
    use std::arch::x86_64::{
        _mm512_add_epi64, _mm512_and_si512, _mm512_mask_permutexvar_epi8,
        _mm512_maskz_compress_epi8, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8,
        _mm512_maskz_permutexvar_epi8, _mm512_movepi8_mask, _mm512_or_si512, _mm512_set_epi64,
        _mm512_set1_epi8, _mm512_set1_epi64, _mm512_slli_epi16, _mm512_srli_epi16,
        _mm512_storeu_si512, _mm512_test_epi8_mask,
    };
    const BYTE: i64 = 0x0101_0101_0101_0101;
    // In each of eight 64-bit lanes the lane's number, in all of its bytes.
    let lanes = _mm512_set_epi64(
        7 * BYTE,
        6 * BYTE,
        5 * BYTE,
        4 * BYTE,
        3 * BYTE,
        2 * BYTE,
        BYTE,
        0,
    );
    let eight = _mm512_set1_epi64(8 * BYTE);
    let low_seven = _mm512_set1_epi8(0x7f);
    let highest = _mm512_set1_epi8(i8::MIN);
    let mut done = Progress::default();
    while let window @ [_, rest @ ..] = &bytes[done.bytes..]
        && let Some(room) = out[done.values..].first_chunk_mut::<STEP>()
    {
        let here = window.len().min(64);
        let (mask, mask_after) = (mask_of(here), mask_of(rest.len().min(64)));
        // SAFETY: the masks leave out what is beyond the bytes.
        let (first, second) = unsafe {
            let second = _mm512_maskz_loadu_epi8(mask_after, rest.as_ptr().cast());
            (
                _mm512_maskz_loadu_epi8(mask, window.as_ptr().cast()),
                second,
            )
        };
        let long = _mm512_movepi8_mask(first);
        // The first byte of a varint of more than two bytes, or of one that is cut off here.
        let unread = long & (long >> 1 | 1 << (here - 1));
        let end = (unread.trailing_zeros() as usize).min(here);
        if end == 0 {
            break;
        }
        let starts = !(long << 1) & mask_of(end);
        let second = _mm512_maskz_mov_epi8(long, second);
        let low = _mm512_or_si512(
            _mm512_and_si512(first, low_seven),
            _mm512_and_si512(_mm512_slli_epi16::<7>(second), highest),
        );
        let high = _mm512_and_si512(_mm512_srli_epi16::<1>(second), low_seven);
        let has_high = _mm512_test_epi8_mask(high, high) & starts != 0;
        let low = _mm512_maskz_compress_epi8(starts, low);
        let high = _mm512_maskz_compress_epi8(starts, high);
        let count = starts.count_ones() as usize;
        let mut lanes = lanes;
        // All eight parts, whether or not there are values: no branch is left to guess.
        for part in room.chunks_exact_mut(8) {
            let mut values = _mm512_maskz_permutexvar_epi8(BYTE as u64, lanes, low);
            if has_high {
                values = _mm512_mask_permutexvar_epi8(values, (BYTE << 1) as u64, lanes, high);
            }
            // SAFETY: the part has eight values of 64 bits.
            unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), values) };
            lanes = _mm512_add_epi64(lanes, eight);
        }
        done.bytes += end;
        done.values += count;
    }
    done
}

/// [`by_8`] for processors with AVX2, which shifts lanes by different amounts.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn by_8_avx2(bytes: &[u8], out: &mut [MaybeUninit<i64>]) -> Progress {
    by_8(bytes, out)
}

/// Takes eight bytes at once: a table knows where varints begin in them.
#[inline]
fn by_8(bytes: &[u8], out: &mut [MaybeUninit<i64>]) -> Progress {
    let mut done = Progress::default();
    while let Some(word) = bytes[done.bytes..].first_chunk::<8>()
        && let Some(room) = out[done.values..].first_chunk_mut::<8>()
    {
        let word = u64::from_le_bytes(*word);
        // The highest bit of each byte, gathered in the highest byte of the product.
        let long = (word & 0x8080_8080_8080_8080).wrapping_mul(0x0002_0408_1020_4081) >> 56;
        let short = &SHORT_VARINTS[usize::from(long.to_le_bytes()[0])];
        if short.count == 0 {
            break;
        }
        for (start, value) in short.starts.iter().zip(room) {
            let bytes = word >> start;
            let second = (bytes >> 8 & 0x7f) * (bytes >> 7 & 1);
            value.write((bytes & 0x7f | second << 7).cast_signed());
        }
        // Those beyond are of no varint.
        done.values += usize::from(short.count);
        done.bytes += usize::from(short.bytes);
    }
    done
}

/// The varints of one or two bytes at the beginning of eight bytes.
#[derive(Clone, Copy)]
struct ShortVarints {
    /// The bit that each begins at.
    starts: [u8; 8],
    count: u8,
    /// Bytes that they take together.
    bytes: u8,
}

/// By which of the eight bytes have the highest bit, which says that another byte follows.
static SHORT_VARINTS: [ShortVarints; 256] = {
    let none = ShortVarints {
        starts: [0; 8],
        count: 0,
        bytes: 0,
    };
    let mut table = [none; 256];
    let mut long = 0;
    while long < 256 {
        let found = &mut table[long];
        while found.bytes < 8 {
            let size = if long >> found.bytes & 1 == 0 { 1 } else { 2 };
            let ends = found.bytes + size <= 8 && long >> (found.bytes + size - 1) & 1 == 0;
            if !ends {
                break;
            }
            found.starts[found.count as usize] = 8 * found.bytes;
            found.count += 1;
            found.bytes += size;
        }
        long += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a kernel takes of the bytes.
    fn taken(kernel: Kernel, bytes: &[u8]) -> (usize, Vec<i64>) {
        let mut out = Vec::with_capacity(bytes.len() + STEP);
        let progress = kernel(bytes, out.spare_capacity_mut());
        // SAFETY: as in `short_varints`.
        unsafe { out.set_len(progress.values) };
        (progress.bytes, out)
    }

    proptest! {
        #[test]
        fn floats_are_those_of_their_bytes(bytes: Vec<[u8; 4]>, before: Vec<f32>) {
            let mut out = before.clone();
            floats(&bytes, &mut out);
            let expected = bytes.iter().map(|&item| f32::from_le_bytes(item));
            let expected = before.into_iter().chain(expected).map(f32::to_bits);
            prop_assert!(out.into_iter().map(f32::to_bits).eq(expected));
        }

        #[test]
        fn kernels_take_what_varints_of_one_or_two_bytes_are(
            bytes in proptest::collection::vec(
                prop_oneof![4 => 0..128_u8, 1 => any::<u8>()], 0..300,
            ),
        ) {
            for kernel in [kernel(), by_8] {
                let (count, values) = taken(kernel, &bytes);
                let mut expected = Vec::new();
                let mut rest = &bytes[..count];
                while let [byte, after @ ..] = rest {
                    rest = after;
                    let mut value = i64::from(byte & 0x7f);
                    if *byte >= 0x80 {
                        prop_assert!(rest[0] < 0x80);
                        value |= i64::from(rest[0]) << 7;
                        rest = &rest[1..];
                    }
                    expected.push(value);
                }
                prop_assert_eq!(values, expected);
                let left = &bytes[count..];
                let long = matches!(left, [a, b, ..] if *a >= 0x80 && *b >= 0x80);
                prop_assert!(long || left.len() < 8, "{} bytes are left", left.len());
            }
        }
    }
}
