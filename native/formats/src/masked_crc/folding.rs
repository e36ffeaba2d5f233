//! CRC-32C by folding: of the polynomial that the bytes are, 64 bytes at once are replaced by what
//! they leave further on, modulo the checksum's polynomial (Gopal and others, "Fast CRC Computation
//! for Generic Polynomials Using PCLMULQDQ Instruction", 2009).
#![expect(unsafe_code, reason = "vector instructions")]

/// Fewer bytes gain nothing.
const LEAST: usize = 256;

/// The CRC-32C of `bytes`.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= LEAST
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("sse4.2")
    {
        // SAFETY: the processor has the features, as was just asked.
        let (checksum, rest) = unsafe { folded(bytes) };
        return crc32c::crc32c_append(checksum, rest);
    }
    crc32c::crc32c(bytes)
}

/// The checksum of all but the last few bytes, and those. Of fewer than [`LEAST`] bytes it is of
/// none.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,vpclmulqdq,pclmulqdq,sse4.2")]
fn folded(bytes: &[u8]) -> (u32, &[u8]) {
    use std::arch::x86_64::{
        __m512i, _mm_crc32_u64, _mm512_and_si512, _mm512_clmulepi64_epi128, _mm512_loadu_si512,
        _mm512_set_epi64, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
    };
    const XOR: i32 = 0x96;

    /// What each half of 128 bits leaves, in two parts.
    #[target_feature(enable = "avx512f,vpclmulqdq,pclmulqdq")]
    fn left(block: __m512i, factors: __m512i) -> (__m512i, __m512i) {
        let low = _mm512_clmulepi64_epi128::<0x00>(block, factors);
        (low, _mm512_clmulepi64_epi128::<0x11>(block, factors))
    }

    #[target_feature(enable = "avx512f,vpclmulqdq,pclmulqdq")]
    fn fold(block: __m512i, factors: __m512i, onto: __m512i) -> __m512i {
        let (low, high) = left(block, factors);
        _mm512_ternarylogic_epi64::<XOR>(low, high, onto)
    }

    #[target_feature(enable = "avx512f")]
    fn load(block: &[u8; 64]) -> __m512i {
        // SAFETY: the block has the 64 bytes.
        unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f")]
    fn distance([low, high]: [i64; 2]) -> __m512i {
        _mm512_set_epi64(high, low, high, low, high, low, high, low)
    }

    let (blocks, rest) = bytes.as_chunks::<64>();
    let Some((first, blocks)) = blocks.split_first_chunk::<4>() else {
        return (0, bytes);
    };
    let initial = _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, 0xffff_ffff);
    let mut four = first.each_ref().map(|block| load(block));
    four[0] = _mm512_xor_si512(four[0], initial);
    let (fours, ones) = blocks.as_chunks::<4>();
    let by_four = distance(const { factors(4 * 512) });
    for blocks in fours {
        for (folded, block) in four.iter_mut().zip(blocks) {
            *folded = fold(*folded, by_four, load(block));
        }
    }
    let by_one = distance(const { factors(512) });
    let [mut one, others @ ..] = four;
    for block in others {
        one = fold(one, by_one, block);
    }
    for block in ones {
        one = fold(one, by_one, load(block));
    }
    // The first three quarters onto the last one, which stays as it is.
    let [a, b, c] = const { [factors(384), factors(256), factors(128)] };
    let onto_last = _mm512_set_epi64(0, 0, c[1], c[0], b[1], b[0], a[1], a[0]);
    let (low, high) = left(one, onto_last);
    let last = _mm512_set_epi64(-1, -1, 0, 0, 0, 0, 0, 0);
    let kept = _mm512_and_si512(one, last);
    let quarters = _mm512_ternarylogic_epi64::<XOR>(low, high, kept);
    let mut words = [0_u64; 8];
    // SAFETY: the words have 64 bytes.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), quarters) };
    let low = words[0] ^ words[2] ^ words[4] ^ words[6];
    let high = words[1] ^ words[3] ^ words[5] ^ words[7];
    let state = _mm_crc32_u64(_mm_crc32_u64(0, low), high);
    (!u32::try_from(state).unwrap_or(0), rest)
}

/// What the two halves of 128 bits are multiplied by to be folded `bits` further on: the powers of x
/// that far, modulo the polynomial, with the lowest power in the highest bit.
const fn factors(bits: u32) -> [i64; 2] {
    [power(bits + 32), power(bits - 32)]
}

const fn power(exponent: u32) -> i64 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut power = 1_u32 << 31;
    let mut step = 0;
    while step < exponent {
        power = power >> 1 ^ (POLYNOMIAL * (power & 1));
        step += 1;
    }
    (power as i64) << 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_checksum_is_that_of_the_crate(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(crc32c(&bytes), crc32c::crc32c(&bytes));
        }
    }

    #[test]
    fn every_length_is_right() {
        let bytes: Vec<u8> = (0..1500_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for length in 0..1500 {
            let bytes = &bytes[..length];
            assert_eq!(crc32c(bytes), crc32c::crc32c(bytes), "{length} bytes");
        }
    }
}
