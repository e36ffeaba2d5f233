//! Records out of a file's bytes as they arrive, from the whole file or from one split of it.
//!
//! A record belongs to the split that it begins in. TFRecord has no marks between records, so the
//! reader of a split takes the first position at or after its start whose twelve bytes are a
//! length with its checksum, and the reader of the split before checks that this is where its own
//! chain of records goes on: of records that hold TFRecords themselves, or of a damaged length at
//! a border, one reader tells instead of both being wrong.

use std::ops::Range;

use super::{CHECKSUM_BYTES, DEFAULT_MAX_RECORD_BYTES};
use crate::masked_crc::MaskedCrc;
use crate::{Damage, Error, Result};

/// Length and its checksum.
const HEADER_BYTES: usize = 12;

/// Takes pieces of a file and gives records.
#[derive(Debug)]
pub struct RecordFrames {
    /// Its first `filled` bytes are the file's; what follows is room that was used before.
    buffer: Vec<u8>,
    filled: usize,
    /// The next byte of the buffer to look at.
    at: usize,
    /// Offset in the file of the buffer's first byte.
    base: u64,
    split: Range<u64>,
    max_record_bytes: u64,
    /// Records found.
    found: u64,
    /// Where the last one found begins in the file.
    start: u64,
    /// Where its payload is in the buffer.
    payload: Option<Range<usize>>,
    state: State,
    /// Whether the file has no further bytes.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Looking for the first record of the split.
    Seeking,
    /// A record begins at `at`.
    Reading,
    /// The chain has left the split; looking for the border that the next split's reader takes.
    Leaving { next: u64 },
    /// There is nothing more, or where it begins is unknown.
    Over,
}

/// One record with a sound checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// Offset in the file of the record's first byte.
    pub offset: u64,
    /// Index in the file, from 0; unknown in a split that does not begin with the file.
    pub index: Option<u64>,
}

impl Default for RecordFrames {
    /// Of a whole file.
    fn default() -> Self {
        Self::of_split(0..u64::MAX)
    }
}

impl RecordFrames {
    /// Of the records that begin at these bytes of a file. The first piece to come begins with the
    /// split's first byte; pieces go on beyond the split's end for as long as none is
    /// [over](Self::is_over).
    pub fn of_split(split: Range<u64>) -> Self {
        RecordFrames {
            buffer: Vec::new(),
            filled: 0,
            at: 0,
            base: split.start,
            state: match split.start {
                0 => State::Reading,
                _ => State::Seeking,
            },
            split,
            max_record_bytes: DEFAULT_MAX_RECORD_BYTES,
            found: 0,
            start: 0,
            payload: None,
            ended: false,
        }
    }

    /// Replaces the limit on the size of one record, in bytes.
    #[must_use]
    pub fn with_max_record_bytes(mut self, limit: u64) -> Self {
        self.max_record_bytes = limit;
        self
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// Takes the next `count` bytes of the file, which the caller writes to the room that it gets.
    pub fn room(&mut self, count: usize) -> &mut [u8] {
        self.buffer.copy_within(self.at..self.filled, 0);
        self.base += self.at as u64;
        let start = self.filled - self.at;
        self.filled = start + count;
        self.at = 0;
        self.payload = None;
        if self.buffer.len() < self.filled {
            self.buffer.resize(self.filled, 0);
        }
        &mut self.buffer[start..self.filled]
    }

    /// Says that the file has no further bytes.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether there are no more records, whatever bytes come.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Offset in the file up to which bytes have been looked at.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Moves on to the next record; false if more bytes are needed or all is
    /// [over](Self::is_over). Memory grows with the bytes that really come, whatever length a
    /// record declares.
    ///
    /// # Errors
    /// [`Error::CorruptRecord`], [`Error::TruncatedRecord`], [`Error::TooLarge`], and
    /// [`Error::Unsupported`] for a file that cannot be split here. After [`Damage::Data`] the
    /// next call moves on to the next record; any other error ends the records.
    pub fn advance(&mut self) -> Result<bool> {
        self.payload = None;
        if self.state == State::Seeking {
            self.seek();
        }
        if let State::Leaving { next } = self.state {
            self.leave(next)?;
        }
        if self.state != State::Reading {
            return Ok(false);
        }
        let bytes = &self.buffer[self.at..self.filled];
        let mut length = 0;
        if let Some(header) = bytes.first_chunk() {
            length = match payload_bytes(header) {
                Some(length) => length,
                None => {
                    self.state = State::Over;
                    return Err(self.corrupt(self.offset(), Damage::Length));
                }
            };
            if length > self.max_record_bytes {
                self.state = State::Over;
                return Err(Error::TooLarge {
                    place: format!("the record at byte {}", self.offset()),
                    bytes: length,
                    limit: self.max_record_bytes,
                });
            }
        }
        let total = usize::try_from(length).unwrap_or(usize::MAX);
        let total = total.saturating_add(HEADER_BYTES + CHECKSUM_BYTES);
        let Some(record) = bytes.get(..total) else {
            return self.cut_off().map(|()| false);
        };
        let payload = HEADER_BYTES..total - CHECKSUM_BYTES;
        let outcome = if is_sound(record, &payload) {
            self.start = self.offset();
            self.payload = Some(self.at + payload.start..self.at + payload.end);
            Ok(true)
        } else {
            Err(self.corrupt(self.offset(), Damage::Data))
        };
        self.found += 1;
        self.go_to(self.at + total);
        outcome
    }

    /// The record that the last [`advance`](Self::advance) found.
    pub fn record(&self) -> Option<Record<'_>> {
        Some(Record {
            bytes: self.buffer.get(self.payload.clone()?)?,
            offset: self.start,
            index: self.index(self.found - 1),
        })
    }

    /// The bytes do not go as far as the record does.
    fn cut_off(&mut self) -> Result<()> {
        if !self.ended {
            return Ok(());
        }
        self.state = State::Over;
        if self.at == self.filled {
            return Ok(());
        }
        Err(Error::TruncatedRecord {
            record: self.index(self.found),
            offset: self.offset(),
            end: self.base + self.filled as u64,
        })
    }

    /// The next record, if any, begins at `next`.
    fn go_to(&mut self, next: usize) {
        let offset = self.base + next as u64;
        self.at = next;
        if offset >= self.split.end {
            // The buffer holds the last record, so the split's end is in it.
            let beyond = usize::try_from(offset - self.split.end).unwrap_or(0);
            self.at -= beyond;
            self.state = State::Leaving { next: offset };
        }
    }

    /// Goes to the first border in the split.
    fn seek(&mut self) {
        let found = self.find_border();
        if self.offset() >= self.split.end || (self.ended && !found) {
            self.state = State::Over;
        } else if found {
            self.state = State::Reading;
        }
    }

    /// Checks that the reader of the next split goes on where this one has stopped.
    fn leave(&mut self, next: u64) -> Result<()> {
        let found = self.find_border();
        let border = self.offset();
        if !found && !self.ended {
            return Ok(());
        }
        self.state = State::Over;
        if found && border < next {
            return Err(Error::unsupported(
                format!("a split of the file at byte {}", self.split.end),
                format!(
                    "the record that ends at byte {next} holds what looks like a record at byte \
                     {border}; read the file as a whole (splitFiles=false)"
                ),
            ));
        }
        let end = self.base + self.filled as u64;
        if (found && border > next) || (!found && next < end) {
            return Err(self.corrupt(next, Damage::Length));
        }
        Ok(())
    }

    /// Moves to the next position where a record can begin, in the bytes that are there.
    fn find_border(&mut self) -> bool {
        let windows = self.buffer[self.at..self.filled].windows(HEADER_BYTES);
        let mut headers = windows.map(|bytes| bytes.first_chunk().and_then(payload_bytes));
        match headers.position(|length| length.is_some_and(|n| n <= self.max_record_bytes)) {
            Some(position) => {
                self.at += position;
                true
            }
            None => {
                let last = self.filled.saturating_sub(HEADER_BYTES - 1);
                self.at = self.at.max(last);
                false
            }
        }
    }

    fn corrupt(&self, offset: u64, damage: Damage) -> Error {
        Error::CorruptRecord {
            record: self.index(self.found),
            offset,
            damage,
        }
    }

    fn index(&self, found: u64) -> Option<u64> {
        (self.split.start == 0).then_some(found)
    }
}

/// The length that a header declares, if its checksum is right.
fn payload_bytes(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    let (length, checksum) = header.split_first_chunk::<8>()?;
    let checksum = u32::from_le_bytes(*checksum.first_chunk()?);
    (MaskedCrc::of(length) == MaskedCrc(checksum)).then_some(u64::from_le_bytes(*length))
}

fn is_sound(record: &[u8], payload: &Range<usize>) -> bool {
    let checksum = record[payload.end..].first_chunk();
    checksum.is_some_and(|checksum| {
        MaskedCrc::of(&record[payload.clone()]) == MaskedCrc(u32::from_le_bytes(*checksum))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tfrecord::RecordWriter;
    use proptest::prelude::*;

    fn written(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = RecordWriter::new(Vec::new());
        payloads.iter().for_each(|p| writer.write(p).unwrap());
        writer.into_inner()
    }

    /// What the reader of one split gives, from pieces of `piece` bytes.
    fn read_split(file: &[u8], split: Range<usize>, piece: usize) -> Result<Vec<Vec<u8>>> {
        let mut frames = RecordFrames::of_split(split.start as u64..split.end as u64);
        let mut pieces = file[split.start..].chunks(piece);
        let mut payloads = Vec::new();
        loop {
            while frames.advance()? {
                let record = frames.record().unwrap();
                assert!((split.start as u64..split.end as u64).contains(&record.offset));
                payloads.push(record.bytes.to_vec());
            }
            if frames.is_over() {
                return Ok(payloads);
            }
            match pieces.next() {
                Some(piece) => frames.push(piece),
                None => frames.end(),
            }
        }
    }

    fn read_splits(file: &[u8], size: usize, piece: usize) -> Result<Vec<Vec<u8>>> {
        let mut payloads = Vec::new();
        for start in (0..file.len()).step_by(size) {
            let end = (start + size).min(file.len());
            payloads.extend(read_split(file, start..end, piece)?);
        }
        Ok(payloads)
    }

    #[test]
    fn a_record_inside_a_record_is_never_taken_for_one_of_the_file() {
        let inner = written(&[b"abc".to_vec(), b"defg".to_vec()]);
        let file = written(&[b"first".to_vec(), inner.clone(), b"last".to_vec()]);
        let start = 21 + HEADER_BYTES;
        for end in 1..file.len() {
            let both = read_split(&file, 0..end, 7)
                .and_then(|one| Ok((one, read_split(&file, end..file.len(), 7)?)));
            match both {
                Ok((mut one, other)) => {
                    one.extend(other);
                    assert_eq!(one, [b"first".to_vec(), inner.clone(), b"last".to_vec()]);
                }
                Err(error) => {
                    assert!(matches!(error, Error::Unsupported { .. }), "{end}: {error}");
                    assert!((22..start + inner.len()).contains(&end));
                }
            }
        }
        let error = read_split(&file, 0..30, 7).unwrap_err().to_string();
        assert!(error.contains("looks like a record at byte 33"), "{error}");
    }

    #[test]
    fn damage_anywhere_is_told_by_one_of_the_readers() {
        let payloads: Vec<_> = (0..6_u8).map(|n| vec![n; 9]).collect();
        let clean = written(&payloads);
        for at in 0..clean.len() {
            let mut file = clean.clone();
            file[at] ^= 0x40;
            for size in [10, 25, 26, 60] {
                let readers = (0..file.len()).step_by(size);
                let outcomes = readers.map(|start| {
                    let end = (start + size).min(file.len());
                    read_split(&file, start..end, 8)
                });
                let failed = outcomes.filter(Result::is_err).count();
                assert!(failed > 0, "byte {at}, splits of {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_record_is_in_one_split(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..40),
            size in 1_usize..300,
            piece in 1_usize..100,
        ) {
            let file = written(&payloads);
            prop_assert_eq!(read_splits(&file, size, piece).unwrap(), payloads);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            file in proptest::collection::vec(any::<u8>(), 0..200),
            size in 1_usize..50,
        ) {
            let _ = read_splits(&file, size, 13);
        }
    }
}
