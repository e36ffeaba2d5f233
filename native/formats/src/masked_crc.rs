//! The checksum of TFRecord files and of TensorFlow's checkpoints: CRC-32C, rotated and offset so
//! that it can be stored beside data which itself holds checksums (`lib/hash/crc32c.h`).

mod folding;

use std::fmt;

const MASK_DELTA: u32 = 0xa282_ead8;

/// A masked CRC-32C, as stored in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MaskedCrc(pub u32);

impl MaskedCrc {
    /// The masked checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        MaskedCrc::masking(folding::crc32c(bytes))
    }

    /// Masks a plain checksum.
    pub(crate) fn masking(checksum: u32) -> Self {
        MaskedCrc(checksum.rotate_right(15).wrapping_add(MASK_DELTA))
    }
}

impl fmt::Debug for MaskedCrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaskedCrc({:#010x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the header of a record of three bytes that TensorFlow wrote.
    #[test]
    fn the_checksum_is_that_of_tensorflow() {
        assert_eq!(MaskedCrc::of(b"\x03\0\0\0\0\0\0\0"), MaskedCrc(0x0e49_99b0));
    }

    #[test]
    fn debug_shows_hexadecimal() {
        assert_eq!(format!("{:?}", MaskedCrc(0xab)), "MaskedCrc(0x000000ab)");
    }
}
