//! Tensors of byte strings in a data file: the lengths as varints, a masked CRC-32C of the lengths,
//! then all strings one after the other.
//!
//! Checksums cover the lengths as fixed-size integers: four bytes, or eight above 4 GiB. That of the
//! tensor covers the lengths so, the checksum of the lengths, and the strings
//! (`WriteStringTensor` of `tensor_bundle.cc`).

use crate::array::element_count;
use crate::bundle::entry::Entry;
use crate::masked_crc::MaskedCrc;
use crate::protobuf::{Message, put_varint};
use crate::{Error, Result};

const CHECKSUM_BYTES: usize = 4;

/// An array of byte strings in row-major order. An empty shape is a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strings {
    shape: Vec<usize>,
    elements: Vec<Vec<u8>>,
}

impl Strings {
    /// Joins a shape and its elements.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number differs from the product of `shape`.
    pub fn new(shape: Vec<usize>, elements: Vec<Vec<u8>>) -> Result<Self> {
        if element_count(&shape) != Some(elements.len()) {
            let reason = format!("shape {shape:?} does not hold {} elements", elements.len());
            return Err(Error::invalid("the array of strings", reason));
        }
        Ok(Strings { shape, elements })
    }

    /// One string without axes.
    pub fn scalar(value: impl Into<Vec<u8>>) -> Self {
        Strings {
            shape: Vec::new(),
            elements: vec![value.into()],
        }
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The strings.
    pub fn elements(&self) -> &[Vec<u8>] {
        &self.elements
    }

    pub(super) fn decode(place: &str, entry: &Entry, bytes: &[u8]) -> Result<Self> {
        let short = || Error::corrupt(place, "its strings are longer than its bytes");
        // Every length takes at least a byte.
        let count = element_count(entry.shape()).filter(|&count| count <= bytes.len());
        let count = count.ok_or_else(short)?;
        let mut message = Message::new(bytes);
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push(message.varint().map_err(|_| short())?);
        }
        let (stored, text) = message
            .bytes()
            .split_first_chunk::<CHECKSUM_BYTES>()
            .ok_or_else(short)?;
        let lengths_checksum = checksum_of_lengths(&lengths);
        if MaskedCrc::masking(lengths_checksum) != MaskedCrc(u32::from_le_bytes(*stored)) {
            return Err(Error::corrupt(
                place,
                "the checksum of its lengths does not match",
            ));
        }
        let checksum = crc32c::crc32c_append(lengths_checksum, stored);
        let checksum = crc32c::crc32c_append(checksum, text);
        if MaskedCrc::masking(checksum) != entry.checksum {
            return Err(Error::corrupt(place, "its checksum does not match"));
        }
        let mut text = Message::new(text);
        let elements = lengths
            .into_iter()
            .map(|length| text.take(length).map(<[u8]>::to_vec).map_err(|_| short()))
            .collect::<Result<_>>()?;
        if !text.bytes().is_empty() {
            return Err(Error::corrupt(
                place,
                "its strings are shorter than its bytes",
            ));
        }
        Ok(Strings {
            shape: entry.shape().to_vec(),
            elements,
        })
    }

    /// The bytes of the data file and their checksum.
    pub(super) fn encode(&self) -> (Vec<u8>, MaskedCrc) {
        let lengths: Vec<u64> = self.elements.iter().map(|text| text.len() as u64).collect();
        let mut bytes = Vec::new();
        for &length in &lengths {
            put_varint(length, &mut bytes);
        }
        let checksum = checksum_of_lengths(&lengths);
        let stored = MaskedCrc::masking(checksum).0.to_le_bytes();
        bytes.extend(stored);
        let mut checksum = crc32c::crc32c_append(checksum, &stored);
        for text in &self.elements {
            bytes.extend(text);
            checksum = crc32c::crc32c_append(checksum, text);
        }
        (bytes, MaskedCrc::masking(checksum))
    }
}

fn checksum_of_lengths(lengths: &[u64]) -> u32 {
    lengths
        .iter()
        .fold(0, |checksum, &length| match u32::try_from(length) {
            Ok(length) => crc32c::crc32c_append(checksum, &length.to_le_bytes()),
            Err(_) => crc32c::crc32c_append(checksum, &length.to_le_bytes()),
        })
}
