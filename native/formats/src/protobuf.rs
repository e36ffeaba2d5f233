//! The protocol buffers wire format: just what the messages of this crate need.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

pub(crate) mod packed;

/// How deep unknown groups may nest; the limit of the C++ and Python parsers.
const MAX_GROUP_DEPTH: usize = 100;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Bytes that [`put_varint`] writes.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn put_uint(number: u32, value: u64, out: &mut Vec<u8>) {
    put_tag(number, VARINT, out);
    put_varint(value, out);
}

pub(crate) fn put_fixed32(number: u32, value: u32, out: &mut Vec<u8>) {
    put_tag(number, FIXED32, out);
    out.extend(value.to_le_bytes());
}

pub(crate) fn put_f64(number: u32, value: f64, out: &mut Vec<u8>) {
    put_tag(number, FIXED64, out);
    out.extend(value.to_le_bytes());
}

pub(crate) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_length(number, bytes.len(), out);
    out.extend(bytes);
}

/// Tag and length of a length-delimited field; its `length` bytes follow.
pub(crate) fn put_length(number: u32, length: usize, out: &mut Vec<u8>) {
    put_tag(number, LENGTH_DELIMITED, out);
    put_varint(length as u64, out);
}

/// Bytes that a length-delimited field of `length` bytes takes, for field numbers below 16.
pub(crate) fn delimited_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

fn put_tag(number: u32, wire_type: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | wire_type, out);
}

/// The lower seven bits of each byte side by side.
fn sevens(word: u64) -> u64 {
    let pair = |word: u64, low: u64, bits: u32| word & low | (word & !low) >> bits;
    let word = pair(word & 0x7f7f_7f7f_7f7f_7f7f, 0x007f_007f_007f_007f, 1);
    let word = pair(word, 0x0000_3fff_0000_3fff, 2);
    pair(word, 0x0fff_ffff, 4)
}

/// One decoded field of a message.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
}

/// A field's value by wire type. Groups, long deprecated, are skipped.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(Message<'a>),
    Fixed32(u32),
}

/// A broken rule of the wire format and the byte offset where it was noticed.
#[derive(Debug)]
pub(crate) struct WireError {
    pub(crate) offset: usize,
    pub(crate) reason: &'static str,
}

/// A cursor over encoded bytes; `offset` counts from the start of the outermost message.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Message<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Message { bytes, offset: 0 }
    }

    /// The bytes not read yet.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn error(&self, reason: &'static str) -> WireError {
        WireError {
            offset: self.offset,
            reason,
        }
    }

    /// The next field, or `None` at the end.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        while !self.bytes.is_empty() {
            let (number, wire_type) = self.tag()?;
            let value = match wire_type {
                START_GROUP => {
                    self.skip_group(number)?;
                    continue;
                }
                END_GROUP => return Err(self.error("a group ends that never began")),
                _ => self.value(wire_type)?,
            };
            return Ok(Some(Field { number, value }));
        }
        Ok(None)
    }

    /// The next field, if it is a length-delimited one with a short tag that is whole. Else nothing is
    /// read, and [`next`](Self::next) tells what there is.
    #[inline(always)]
    pub(crate) fn delimited(&mut self) -> Option<(u32, Message<'a>)> {
        let (length, start) = match *self.bytes {
            [_, length, ..] if length < 0x80 => (usize::from(length), 2),
            [_, low, high, ..] if high < 0x80 => {
                (usize::from(low & 0x7f) | usize::from(high) << 7, 3)
            }
            _ => return None,
        };
        let tag = self.bytes[0];
        if u64::from(tag & 0x87) != LENGTH_DELIMITED || tag < 8 {
            return None;
        }
        let (bytes, rest) = self.bytes[start..].split_at_checked(length)?;
        let offset = self.offset + start;
        self.bytes = rest;
        self.offset = offset + length;
        Some(((tag >> 3).into(), Message { bytes, offset }))
    }

    /// The one field, if it is what [`delimited`](Self::delimited) reads and nothing follows.
    #[inline(always)]
    pub(crate) fn sole(&self) -> Option<(u32, Message<'a>)> {
        let mut rest = self.clone();
        rest.delimited().filter(|_| rest.bytes.is_empty())
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match *self.bytes {
            [byte, ..] if byte < 0x80 => {
                self.skip(1);
                Ok(byte.into())
            }
            [byte, second, ..] if second < 0x80 => {
                self.skip(2);
                Ok(u64::from(byte & 0x7f) | u64::from(second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        if let Some(word) = self.bytes.first_chunk() {
            let word = u64::from_le_bytes(*word);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                let last = ends.trailing_zeros() / 8;
                self.skip(last as usize + 1);
                return Ok(sevens(word & u64::MAX >> (56 - 8 * last)));
            }
        }
        let mut value = 0_u64;
        for index in 0..10 {
            let [byte] = self.take_array()?;
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("an integer is longer than 64 bits"))
    }

    /// Appends the integers that the bytes are, one after the other.
    pub(crate) fn packed_varints(mut self, out: &mut Vec<i64>) -> Result<(), WireError> {
        loop {
            self.skip(packed::short_varints(self.bytes, out));
            if self.bytes.is_empty() {
                return Ok(());
            }
            out.push(self.varint()?.cast_signed());
            while let [first, second, ..] = self.bytes
                && first & second >= 0x80
            {
                out.push(self.long_varint()?.cast_signed());
            }
        }
    }

    #[inline]
    fn skip(&mut self, count: usize) {
        self.bytes = &self.bytes[count..];
        self.offset += count;
    }

    #[inline(always)]
    fn tag(&mut self) -> Result<(u32, u64), WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&n| n > 0 && n < 1 << 29);
        Ok((
            number.ok_or_else(|| self.error("a field number is out of range"))?,
            tag & 7,
        ))
    }

    #[inline(always)]
    fn value(&mut self, wire_type: u64) -> Result<Value<'a>, WireError> {
        match wire_type {
            VARINT => self.varint().map(Value::Varint),
            FIXED64 => self.take_array::<8>().map(|_| Value::Fixed64),
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                let offset = self.offset;
                let bytes = self.take(length)?;
                Ok(Value::Bytes(Message { bytes, offset }))
            }
            FIXED32 => self
                .take_array()
                .map(|bytes| Value::Fixed32(u32::from_le_bytes(bytes))),
            _ => Err(self.error("a field has an unknown wire type")),
        }
    }

    /// Skips to the end of group `number`, whose start tag was just read.
    #[cold]
    fn skip_group(&mut self, number: u32) -> Result<(), WireError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            match self.tag()? {
                (number, START_GROUP) => {
                    if open.len() == MAX_GROUP_DEPTH {
                        return Err(self.error("groups nest too deeply"));
                    }
                    open.push(number);
                }
                (number, END_GROUP) if number == innermost => {
                    open.pop();
                }
                (_, END_GROUP) => return Err(self.error("a group ends that never began")),
                (_, wire_type) => {
                    self.value(wire_type)?;
                }
            }
        }
        Ok(())
    }

    /// The next `length` bytes.
    #[inline]
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|at| self.bytes.split_at_checked(at));
        let Some((taken, rest)) = split else {
            return Err(self.error("a field is longer than its message"));
        };
        self.bytes = rest;
        self.offset += taken.len();
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.error("the message ends inside a field"));
        };
        self.bytes = rest;
        self.offset += N;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_survive_the_wire(value: u64) {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            prop_assert_eq!(bytes.len(), varint_len(value));
            prop_assert_eq!(Message::new(&bytes).varint().unwrap(), value);
        }
    }

    proptest! {
        #[test]
        fn packed_integers_are_those_read_one_by_one(
            values in proptest::collection::vec(prop_oneof![
                0..128_u64, 0..300_u64, any::<u64>(),
            ], 0..60),
        ) {
            let mut bytes = Vec::new();
            values.iter().for_each(|&value| put_varint(value, &mut bytes));
            let mut read = Vec::new();
            Message::new(&bytes).packed_varints(&mut read).unwrap();
            let values: Vec<_> = values.into_iter().map(u64::cast_signed).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn packed_integers_of_any_bytes_are_those_read_one_by_one(bytes: Vec<u8>) {
            let mut read = Vec::new();
            let outcome = Message::new(&bytes).packed_varints(&mut read);
            let mut message = Message::new(&bytes);
            let mut expected = Vec::new();
            let expected_outcome = loop {
                if message.bytes().is_empty() {
                    break Ok(());
                }
                match message.varint() {
                    Ok(value) => expected.push(value.cast_signed()),
                    Err(error) => break Err(error),
                }
            };
            prop_assert_eq!(read, expected);
            match (outcome, expected_outcome) {
                (Ok(()), Ok(())) => {}
                (Err(one), Err(other)) => {
                    prop_assert_eq!((one.offset, one.reason), (other.offset, other.reason));
                }
                (one, other) => prop_assert!(false, "{one:?} {other:?}"),
            }
        }
    }

    #[test]
    fn packed_integers_may_be_many() {
        let values: Vec<i64> = (0..20_000).map(|n| n * 7 % 300).collect();
        let mut bytes = Vec::new();
        values
            .iter()
            .for_each(|&value| put_varint(value.cast_unsigned(), &mut bytes));
        let mut read = Vec::new();
        Message::new(&bytes).packed_varints(&mut read).unwrap();
        assert_eq!(read, values);
    }

    fn count_fields(bytes: &[u8]) -> Result<usize, WireError> {
        let mut message = Message::new(bytes);
        let mut count = 0;
        while message.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn unknown_groups_are_skipped_up_to_a_depth() {
        assert_eq!(
            count_fields(b"\x0b\x10\x01\x13\x14\x0c\x08\x01").unwrap(),
            1
        );
        assert_eq!(
            count_fields(&[0x0b; 200]).unwrap_err().reason,
            "groups nest too deeply"
        );
        assert!(count_fields(b"\x0b\x14").is_err());
        assert!(count_fields(b"\x0c").is_err());
    }

    #[test]
    fn broken_rules_are_named_with_their_offset() {
        let error = count_fields(b"\x08\x01\x12\x05ab").unwrap_err();
        assert_eq!(
            (error.offset, error.reason),
            (4, "a field is longer than its message")
        );
        assert!(count_fields(b"\x00\x01").is_err());
        assert!(count_fields(b"\x0f").is_err());
        assert!(count_fields(&[0xff; 11]).is_err());
        assert!(count_fields(b"\x0d\x01\x02").is_err());
    }
}
