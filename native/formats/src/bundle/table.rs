//! The sorted table in which an index file is kept: LevelDB's, blocks of key-value pairs whose keys
//! leave out what they share with the key before.
//!
//! A block: entries (`varint shared, varint unshared, varint value length, key rest, value`), the
//! offsets of the entries that share nothing (`u32` each), their number (`u32`); then one byte, 0
//! unless compressed, and a masked CRC-32C of all that. The last 48 bytes of the file hold the
//! handles (varint offset, varint size) of an empty block and of the index block, whose values are
//! the handles of the data blocks, and a magic number. All integers are little-endian.

use crate::masked_crc::MaskedCrc;
use crate::protobuf::{Message, put_varint};
use crate::{Error, Result};

const FOOTER_BYTES: usize = 48;
const MAGIC: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();
/// A byte for the compression and four for the checksum.
const TRAILER_BYTES: usize = 5;
const UNCOMPRESSED: u8 = 0;
const SNAPPY: u8 = 1;
/// Where a block ends when it has grown this long; TensorFlow's own default.
const BLOCK_BYTES: usize = 262_144;
/// Every so many entries the key is written whole.
const RESTART_INTERVAL: usize = 16;
/// How far keys may expand beyond the file's size by what they share; real ones do not.
const KEY_EXPANSION: usize = 16;

/// A key and its value.
pub(super) type Record<'a> = (Vec<u8>, &'a [u8]);

/// Reads all records of a table, in the order of their keys.
pub(super) fn read<'a>(place: &str, bytes: &'a [u8]) -> Result<Vec<Record<'a>>> {
    let mut reader = Reader {
        place,
        bytes,
        key_bytes_left: KEY_EXPANSION.saturating_mul(bytes.len()),
    };
    let footer = bytes.split_last_chunk::<FOOTER_BYTES>();
    let Some((_, footer)) = footer.filter(|(_, footer)| footer.ends_with(&MAGIC)) else {
        return Err(reader.corrupt("it does not end as an index file of TensorFlow does"));
    };
    let mut handles = Message::new(footer);
    let (_, index) = (reader.handle(&mut handles)?, reader.handle(&mut handles)?);
    let mut records: Vec<Record<'a>> = Vec::new();
    let mut end_of_last = 0;
    for (_, handle) in reader.block(index)? {
        let handle = reader.handle(&mut Message::new(handle))?;
        // Blocks follow one another, so none is read twice.
        if handle.0 < end_of_last {
            return Err(reader.corrupt("its blocks overlap"));
        }
        end_of_last = handle.0.saturating_add(handle.1);
        records.append(&mut reader.block(handle)?);
    }
    if records.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(reader.corrupt("its keys are out of order"));
    }
    Ok(records)
}

struct Reader<'a, 'p> {
    place: &'p str,
    bytes: &'a [u8],
    /// How many bytes the keys to come may have together.
    key_bytes_left: usize,
}

impl<'a> Reader<'a, '_> {
    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.place, reason)
    }

    /// Offset and size of a block.
    fn handle(&self, message: &mut Message<'_>) -> Result<(usize, usize)> {
        let mut next = || usize::try_from(message.varint().ok()?).ok();
        match (next(), next()) {
            (Some(offset), Some(size)) => Ok((offset, size)),
            _ => Err(self.corrupt("the place of a block is not readable")),
        }
    }

    fn block(&mut self, (offset, size): (usize, usize)) -> Result<Vec<Record<'a>>> {
        let bytes = self.bytes;
        let block = offset
            .checked_add(size)
            .and_then(|end| bytes.get(offset..end.checked_add(TRAILER_BYTES)?));
        let Some((covered, checksum)) = block.and_then(<[u8]>::split_last_chunk::<4>) else {
            return Err(self.corrupt(format!("its block at byte {offset} is cut off")));
        };
        if MaskedCrc::of(covered) != MaskedCrc(u32::from_le_bytes(*checksum)) {
            let reason = format!("the checksum of its block at byte {offset} does not match");
            return Err(self.corrupt(reason));
        }
        match covered.split_last() {
            Some((&UNCOMPRESSED, content)) => self.entries(content),
            Some((&SNAPPY, _)) => {
                let reason = "it is compressed with snappy, which TensorFlow itself never does";
                Err(Error::unsupported(self.place, reason))
            }
            _ => Err(self.corrupt(format!("its block at byte {offset} is of no known kind"))),
        }
    }

    fn entries(&mut self, content: &'a [u8]) -> Result<Vec<Record<'a>>> {
        let entries = content.split_last_chunk::<4>().and_then(|(rest, count)| {
            let restarts = usize::try_from(u32::from_le_bytes(*count)).ok()?;
            rest.get(..rest.len().checked_sub(restarts.checked_mul(4)?)?)
        });
        let Some(entries) = entries else {
            return Err(self.corrupt("the end of a block is not readable"));
        };
        let mut records: Vec<Record<'a>> = Vec::new();
        let mut message = Message::new(entries);
        while !message.bytes().is_empty() {
            let before = records.last().map_or(&[][..], |(key, _)| key);
            let Some((shared, rest, value)) = entry(&mut message, before) else {
                return Err(self.corrupt("an entry is longer than its block"));
            };
            let length = shared.len() + rest.len();
            let Some(left) = self.key_bytes_left.checked_sub(length) else {
                return Err(self.corrupt("its keys are longer than its size allows"));
            };
            self.key_bytes_left = left;
            records.push(([shared, rest].concat(), value));
        }
        Ok(records)
    }
}

/// What the key shares with the one `before`, the rest of it, and the value.
fn entry<'a, 'k>(
    message: &mut Message<'a>,
    before: &'k [u8],
) -> Option<(&'k [u8], &'a [u8], &'a [u8])> {
    let shared = usize::try_from(message.varint().ok()?).ok()?;
    let (unshared, length) = (message.varint().ok()?, message.varint().ok()?);
    let rest = message.take(unshared).ok()?;
    Some((before.get(..shared)?, rest, message.take(length).ok()?))
}

/// Builds a table from records that come in the order of their keys.
#[derive(Default)]
pub(super) struct TableBuilder {
    file: Vec<u8>,
    block: Block,
    index: Block,
}

impl TableBuilder {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.block.add(key, value, RESTART_INTERVAL);
        if self.block.bytes.len() >= BLOCK_BYTES {
            self.end_block();
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_block();
        let empty = put_block(&mut self.file, Block::default());
        let index = put_block(&mut self.file, self.index);
        let mut footer = [empty, index].concat();
        footer.resize(FOOTER_BYTES - MAGIC.len(), 0);
        self.file.extend(footer);
        self.file.extend(MAGIC);
        self.file
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        if block.entries > 0 {
            let last_key = block.last_key.clone();
            let handle = put_block(&mut self.file, block);
            self.index.add(&last_key, &handle, 1);
        }
    }
}

#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    entries: usize,
    last_key: Vec<u8>,
}

impl Block {
    fn add(&mut self, key: &[u8], value: &[u8], restart_interval: usize) {
        let mut shared = 0;
        if self.entries.is_multiple_of(restart_interval) {
            // A block ends long before 4 GiB: values are a few bytes each.
            self.restarts
                .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        } else {
            let pairs = self.last_key.iter().zip(key);
            shared = pairs.take_while(|(a, b)| a == b).count();
        }
        let rest = &key[shared..];
        for length in [shared, rest.len(), value.len()] {
            put_varint(length as u64, &mut self.bytes);
        }
        self.bytes.extend(rest);
        self.bytes.extend(value);
        self.entries += 1;
        self.last_key = key.to_vec();
    }
}

/// Appends a block to the file and returns its handle. An empty block has one restart, too.
fn put_block(file: &mut Vec<u8>, mut block: Block) -> Vec<u8> {
    if block.restarts.is_empty() {
        block.restarts.push(0);
    }
    let offset = file.len();
    file.append(&mut block.bytes);
    for restart in &block.restarts {
        file.extend(restart.to_le_bytes());
    }
    let count = u32::try_from(block.restarts.len()).unwrap_or(u32::MAX);
    file.extend(count.to_le_bytes());
    let size = file.len() - offset;
    file.push(UNCOMPRESSED);
    let MaskedCrc(checksum) = MaskedCrc::of(&file[offset..]);
    file.extend(checksum.to_le_bytes());
    let mut handle = Vec::new();
    put_varint(offset as u64, &mut handle);
    put_varint(size as u64, &mut handle);
    handle
}

/// A table of one block with these keys, of which only the first is written whole.
#[cfg(test)]
pub(super) fn of_one_block(keys: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut table = TableBuilder::default();
    for key in keys {
        table.block.add(&key, b"", usize::MAX);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A table whose only data block says that it is compressed like this.
    fn of_kind(kind: u8) -> Vec<u8> {
        let mut table = TableBuilder::default();
        table.add(b"a", b"1");
        table.end_block();
        let (block, _) = table.file.split_last_chunk::<4>().unwrap();
        let mut block = block.to_vec();
        *block.last_mut().unwrap() = kind;
        let checksum = MaskedCrc::of(&block).0.to_le_bytes();
        table.file = [block, checksum.to_vec()].concat();
        table.finish()
    }

    #[test]
    fn compressed_blocks_are_refused_by_name() {
        assert_eq!(
            read("x", &of_kind(0)).unwrap(),
            [(b"a".to_vec(), &b"1"[..])]
        );
        let message = |kind| read("x.index", &of_kind(kind)).unwrap_err().to_string();
        assert!(message(1).starts_with("x.index cannot be read: it is compressed with snappy"));
        assert!(message(2).contains("of no known kind"));
    }

    proptest! {
        /// What no checksum protects, as far as a hostile writer is concerned.
        #[test]
        fn arbitrary_blocks_never_panic(mut content: Vec<u8>, restarts in 0_u32..4) {
            content.extend(restarts.to_le_bytes());
            let mut reader = Reader { place: "x", bytes: &content, key_bytes_left: 1 << 20 };
            let _ = reader.entries(&content);
        }
    }
}
