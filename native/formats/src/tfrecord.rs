//! TFRecord framing: a stream of byte records, each guarded by two checksums.
//!
//! Per record, little-endian: `u64` length, masked CRC-32C of those eight bytes, the payload,
//! masked CRC-32C of the payload (TensorFlow's `lib/io/record_writer.h`).

mod frames;

pub use frames::{Record, RecordFrames};

use std::io::{ErrorKind, Read, Write};

use crate::masked_crc::MaskedCrc;
use crate::{Error, Result};

/// The largest record a reader accepts unless told otherwise: 1 GiB.
pub const DEFAULT_MAX_RECORD_BYTES: u64 = 1 << 30;

const CHECKSUM_BYTES: usize = 4;

/// Writes records to any byte sink. Wrap files in a `BufWriter`.
#[derive(Debug)]
pub struct RecordWriter<W> {
    output: W,
}

impl<W: Write> RecordWriter<W> {
    /// Starts writing at the sink's current position.
    pub fn new(output: W) -> Self {
        RecordWriter { output }
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`Error::Io`] from the sink; the record may then be there in part.
    pub fn write(&mut self, payload: &[u8]) -> Result<()> {
        let length = (payload.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [
            &length,
            &MaskedCrc::of(&length).0.to_le_bytes(),
            payload,
            &MaskedCrc::of(payload).0.to_le_bytes(),
        ];
        for part in parts {
            self.output
                .write_all(part)
                .map_err(|e| Error::io("writing a record", e))?;
        }
        Ok(())
    }

    /// Flushes the sink.
    ///
    /// # Errors
    /// [`Error::Io`] from the sink.
    pub fn flush(&mut self) -> Result<()> {
        self.output
            .flush()
            .map_err(|e| Error::io("flushing records", e))
    }

    /// Hands the sink back.
    pub fn into_inner(self) -> W {
        self.output
    }
}

/// Reads records from any byte source.
#[derive(Debug)]
pub struct RecordReader<R> {
    input: R,
    frames: RecordFrames,
    piece: Vec<u8>,
}

/// What a reader takes from its source at once.
const PIECE_BYTES: usize = 64 << 10;

impl<R: Read> RecordReader<R> {
    /// Reads from the source's current position, which counts as byte 0.
    pub fn new(input: R) -> Self {
        RecordReader {
            input,
            frames: RecordFrames::default(),
            piece: vec![0; PIECE_BYTES],
        }
    }

    /// Replaces the limit on the size of one record, in bytes.
    #[must_use]
    pub fn with_max_record_bytes(mut self, limit: u64) -> Self {
        self.frames = self.frames.with_max_record_bytes(limit);
        self
    }

    /// The next payload, or `None` at the end.
    ///
    /// # Errors
    /// Those of [`RecordFrames::advance`], after which it goes on as there, and [`Error::Io`].
    pub fn read(&mut self) -> Result<Option<&[u8]>> {
        while !self.frames.advance()? {
            if self.frames.is_over() {
                return Ok(None);
            }
            match self.input.read(&mut self.piece) {
                Ok(0) => self.frames.end(),
                Ok(read) => self.frames.push(&self.piece[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let doing = format!("reading records at byte {}", self.frames.offset());
                    return Err(Error::io(doing, error));
                }
            }
        }
        Ok(self.frames.record().map(|record| record.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Damage;
    use proptest::prelude::*;

    fn written(payloads: &[&[u8]]) -> Vec<u8> {
        let mut writer = RecordWriter::new(Vec::new());
        for payload in payloads {
            writer.write(payload).unwrap();
        }
        writer.into_inner()
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut reader = RecordReader::new(bytes);
        let mut payloads = Vec::new();
        while let Some(payload) = reader.read()? {
            payloads.push(payload.to_vec());
        }
        Ok(payloads)
    }

    /// A source that yields one byte per call, as a slow pipe may.
    struct OneByte<'a>(&'a [u8]);

    impl Read for OneByte<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let end = buffer.len().min(1);
            self.0.read(&mut buffer[..end])
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_those_tensorflow_writes() {
        let expected = b"\x03\0\0\0\0\0\0\0\xb0\x99\x49\x0eabc\x6e\x57\xf1\x21";
        assert_eq!(written(&[b"abc"]), expected);
    }

    #[test]
    fn an_empty_file_holds_no_record() {
        assert_eq!(read_all(b"").unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_source_of_single_bytes_reads_the_same() {
        let bytes = written(&[b"abc", b"", b"defg"]);
        let mut reader = RecordReader::new(OneByte(&bytes));
        assert_eq!(reader.read().unwrap(), Some(&b"abc"[..]));
        assert_eq!(reader.read().unwrap(), Some(&b""[..]));
        assert_eq!(reader.read().unwrap(), Some(&b"defg"[..]));
        assert_eq!(reader.read().unwrap(), None);
    }

    #[test]
    fn every_one_byte_change_of_a_file_is_noticed_at_its_record() {
        let clean = written(&[b"first", b"", b"third one"]);
        let starts = [0, 21, 37, clean.len()];
        for at in 0..clean.len() {
            for change in 1..=255_u8 {
                let mut bytes = clean.clone();
                bytes[at] ^= change;
                let expected = starts.iter().rposition(|&start| start <= at).unwrap();
                match read_all(&bytes).unwrap_err() {
                    Error::CorruptRecord { record, offset, .. } => {
                        assert_eq!(record, Some(expected as u64));
                        assert_eq!(offset, starts[expected] as u64);
                    }
                    other => panic!("byte {at} xor {change}: {other}"),
                }
            }
        }
    }

    #[test]
    fn every_cut_inside_a_record_is_truncation_and_keeps_what_came_before() {
        let clean = written(&[b"first", b"second"]);
        for end in (0..clean.len()).filter(|&end| end != 0 && end != 21) {
            let mut reader = RecordReader::new(&clean[..end]);
            let error = loop {
                match reader.read() {
                    Ok(Some(payload)) => assert_eq!(payload, b"first"),
                    Ok(None) => panic!("cut at {end} went unnoticed"),
                    Err(error) => break error,
                }
            };
            let (record, offset) = if end < 21 { (0, 0) } else { (1, 21) };
            assert!(
                matches!(error, Error::TruncatedRecord { record: r, offset: o, end: e }
                    if r == Some(record) && o == offset && e == end as u64),
                "cut at {end}: {error}"
            );
            assert!(reader.read().unwrap().is_none());
        }
    }

    #[test]
    fn reading_goes_on_after_damaged_data_but_not_after_a_damaged_length() {
        let clean = written(&[b"one", b"two"]);
        let mut damaged = clean.clone();
        damaged[12] ^= 1;
        let mut reader = RecordReader::new(&damaged[..]);
        assert_eq!(
            reader.read().unwrap_err().to_string(),
            "corrupted record at 0 (record 0): the checksum of its data does not match; write the \
             file again from its source"
        );
        assert_eq!(reader.read().unwrap(), Some(&b"two"[..]));
        let mut damaged = clean;
        damaged[0] ^= 1;
        let mut reader = RecordReader::new(&damaged[..]);
        let error = reader.read().unwrap_err();
        assert!(matches!(
            error,
            Error::CorruptRecord {
                damage: Damage::Length,
                ..
            }
        ));
        assert!(reader.read().unwrap().is_none());
    }

    #[test]
    fn a_huge_length_is_refused_before_memory_is_taken() {
        let length = u64::MAX.to_le_bytes();
        let bytes = [&length[..], &MaskedCrc::of(&length).0.to_le_bytes()].concat();
        let error = RecordReader::new(&bytes[..]).read().unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLarge {
                    bytes: u64::MAX,
                    ..
                }
            ),
            "{error}"
        );
        let mut unlimited = RecordReader::new(&bytes[..]).with_max_record_bytes(u64::MAX);
        let error = unlimited.read().unwrap_err();
        assert!(matches!(error, Error::TruncatedRecord { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(payloads: Vec<Vec<u8>>) {
            let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(read_all(&written(&slices)).unwrap(), payloads);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read_all(&bytes);
        }
    }
}
