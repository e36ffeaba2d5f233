//! TensorFlow's hashes of strings, bit for bit: FarmHash's `Fingerprint64` (`StringToHashBucketFast`),
//! SipHash-2-4 under a key (`StringToHashBucketStrong`), and how fingerprints are joined
//! (`FingerprintCat64` in `tensorflow/core/platform/fingerprint.h`).

use std::hash::Hasher;

use serde_json::Value as Json;
use siphasher::sip::SipHasher24;

use crate::config::Options;
use crate::error::Result;

/// Strings brought to numbered buckets.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    count: u64,
    salt: Option<[u64; 2]>,
}

impl Buckets {
    /// `count` buckets, with the key of option `salt`: null, an integer or two of them.
    ///
    /// # Errors
    /// The salt is something else, or there is no bucket.
    pub(super) fn read(options: &Options<'_>, count: i64) -> Result<Self> {
        let invalid = || options.invalid("salt must be an integer or two integers".to_owned());
        // As TensorFlow's kernel takes it: negative numbers wrap around.
        let integer = |value: &Json| value.as_i64().map(i64::cast_unsigned).or(value.as_u64());
        let salt = match options.value("salt") {
            None => None,
            Some(Json::Array(parts)) => match parts.as_slice() {
                [a, b] => Some([
                    integer(a).ok_or_else(invalid)?,
                    integer(b).ok_or_else(invalid)?,
                ]),
                _ => return Err(invalid()),
            },
            Some(value) => Some([integer(value).ok_or_else(invalid)?; 2]),
        };
        let count = u64::try_from(count).ok().filter(|&count| count > 0);
        let none = || options.invalid("there must be at least one bucket".to_owned());
        Ok(Self {
            count: count.ok_or_else(none)?,
            salt,
        })
    }

    /// The bucket of a string.
    pub(super) fn of(&self, text: &[u8]) -> i64 {
        let hash = match self.salt {
            None => fingerprint(text),
            Some([first, second]) => {
                let mut hasher = SipHasher24::new_with_keys(first, second);
                hasher.write(text);
                hasher.finish()
            }
        };
        (hash % self.count).cast_signed()
    }
}

/// FarmHash's `Fingerprint64`.
pub(super) fn fingerprint(text: &[u8]) -> u64 {
    farmhash::fingerprint64(text)
}

/// The fingerprint of two things of which each has one.
pub(super) fn joined(first: u64, second: u64) -> u64 {
    /// MurmurHash's multiplier.
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let shift_mix = |value: u64| value ^ (value >> 47);
    let mixed = shift_mix(second.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    let joined = (first ^ FACTOR ^ mixed).wrapping_mul(FACTOR);
    shift_mix(shift_mix(joined).wrapping_mul(FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TensorFlow 2.21 gives for `(7 i + n) mod 256`, i below n, in 2^62 buckets: fast, and
    /// strong under the key (1, 2).
    const KNOWN: [(u8, i64, i64); 17] = [
        (0, 1_936_946_117_179_621_455, 443_797_209_252_341_627),
        (1, 550_085_751_958_558_782, 4_365_220_300_980_176_642),
        (3, 50_737_162_503_519_588, 4_565_641_951_008_766_667),
        (4, 74_291_032_824_012_392, 3_017_298_630_766_364_753),
        (7, 3_398_365_883_158_499_592, 2_400_118_067_033_179_709),
        (8, 3_403_648_104_430_010_920, 573_619_684_272_792_544),
        (15, 3_575_310_498_258_597_009, 3_618_801_196_438_242_320),
        (16, 663_651_183_927_826_904, 1_748_100_174_260_822_229),
        (17, 3_125_010_364_355_856_015, 3_283_781_455_520_671_934),
        (31, 2_801_713_092_741_292_786, 3_110_257_496_423_842_244),
        (32, 3_992_320_350_721_670_009, 2_898_457_898_083_507_100),
        (33, 3_233_698_670_931_835_597, 367_136_090_311_788_102),
        (63, 1_203_207_000_702_784_873, 1_132_052_511_030_708_519),
        (64, 1_859_692_024_977_922_284, 2_798_266_876_038_377_283),
        (65, 444_801_980_686_921_533, 2_323_018_304_374_953_427),
        (100, 1_729_132_356_228_634_543, 238_477_510_101_394_784),
        (200, 202_520_530_910_294_351, 497_539_462_450_961_282),
    ];

    #[test]
    fn strings_of_every_length_are_in_tensorflows_buckets() {
        for (n, fast, strong) in KNOWN {
            let text: Vec<u8> = (0..n).map(|i| i.wrapping_mul(7).wrapping_add(n)).collect();
            let buckets = |salt| Buckets {
                count: 1 << 62,
                salt,
            };
            assert_eq!(buckets(None).of(&text), fast, "{n}");
            assert_eq!(buckets(Some([1, 2])).of(&text), strong, "{n}");
        }
    }
}
