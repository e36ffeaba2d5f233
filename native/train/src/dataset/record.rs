//! Rows as the spill file holds them: a record each, so that one read brings a whole row.
//!
//! ```text
//! record: | numbers of each part | length of each string: i32 | the strings |
//! block:  | where each record begins and the last one ends: i64 | record | record | ..
//! ```
//!
//! Only a block with strings has the table of beginnings, for else all records are of one size. The
//! values of a ragged part are one string, a `blob`.
//! Numbers are in this machine's byte order: no other reads the file.

use crate::block::{Block, Kind, Number, Part, Side, Values, reserve};
use crate::dataset::blob;
use crate::dataset::row::{Form, Row, gather};
use crate::error::{DataError, Error};

/// What the records of one block look like.
#[derive(Debug)]
pub(crate) struct Layout {
    fields: Vec<Field>,
    /// Outputs of the model, also those without labels.
    outputs: usize,
    /// Bytes of all numbers of a record.
    numbers: usize,
    /// Strings of a record.
    strings: usize,
}

#[derive(Debug)]
struct Field {
    part: Part,
    kind: Kind,
    /// Values in a record; of a ragged part one blob.
    width: usize,
    /// Of numbers their first byte; of strings and blobs how many come before them in the record.
    at: usize,
    /// Of a ragged part.
    padding: Option<Side>,
}

pub(crate) const LENGTH: usize = size_of::<i32>();
const BEGINNING: usize = size_of::<i64>();

impl Layout {
    /// That of a block with rows.
    pub(crate) fn of(block: &Block) -> Self {
        let (mut numbers, mut strings) = (0, 0);
        let fields = block.parts().map(|(part, values)| {
            let padding = values.padding();
            let width = match padding {
                None => values.len() / block.rows.max(1),
                Some(_) => 1,
            };
            let (before, size) = match values.kind() {
                _ if padding.is_some() => (&mut strings, 1),
                Kind::Strings => (&mut strings, 1),
                Kind::U8 => (&mut numbers, 1),
                Kind::F32 | Kind::I32 => (&mut numbers, 4),
                Kind::I64 => (&mut numbers, 8),
            };
            let at = *before;
            *before += width * size;
            Field {
                part,
                kind: values.kind(),
                width,
                at,
                padding,
            }
        });
        Self {
            fields: fields.collect(),
            outputs: block.labels.len(),
            numbers,
            strings,
        }
    }

    /// Where the table has the beginnings of `rows` rows from `first` on and the end of the last,
    /// within the block; none if records are of one size.
    pub(crate) fn table(&self, first: usize, rows: usize) -> Option<(usize, usize)> {
        (self.strings > 0).then_some((first * BEGINNING, (rows + 1) * BEGINNING))
    }

    /// Where records begin and the last one ends, within the block: of `rows` rows from `first` on,
    /// with what [`table`](Self::table) says of them.
    pub(crate) fn beginnings(&self, first: usize, rows: usize, table: &[u8]) -> Vec<usize> {
        if self.strings == 0 {
            return (first..=first + rows)
                .map(|row| row * self.numbers)
                .collect();
        }
        let beginnings = table.chunks_exact(BEGINNING);
        let beginnings = beginnings.map(|bytes| usize::try_from(i64::from_bytes(bytes)));
        beginnings.map(Result::unwrap_or_default).collect()
    }

    /// The bytes of all rows of the block that this is the layout of.
    ///
    /// # Errors
    /// [`DataError::TooLarge`].
    pub(crate) fn write(&self, block: &Block) -> Result<Vec<u8>, Error> {
        let beginnings = self.beginnings_of(block);
        let end = beginnings.last().copied().unwrap_or(0);
        let mut bytes = buffer(block.rows, end)?;
        if self.strings > 0 {
            for (beginning, bytes) in beginnings.iter().zip(bytes.chunks_exact_mut(BEGINNING)) {
                (*beginning as i64).to_bytes(bytes);
            }
        }
        // Where each record's next string goes.
        let mut next: Vec<_> = beginnings
            .iter()
            .map(|beginning| beginning + self.numbers + self.strings * LENGTH)
            .collect();
        for (field, (_, values)) in self.fields.iter().zip(block.parts()) {
            match values {
                Values::U8(values) => field.put(values, &beginnings, &mut bytes),
                Values::F32(values) => field.put(values, &beginnings, &mut bytes),
                Values::I32(values) => field.put(values, &beginnings, &mut bytes),
                Values::I64(values) => field.put(values, &beginnings, &mut bytes),
                Values::Strings(values) => {
                    let rows = values.chunks(field.width.max(1)).zip(&beginnings);
                    for ((strings, beginning), next) in rows.zip(&mut next) {
                        let first = beginning + self.numbers + field.at * LENGTH;
                        let lengths = bytes[first..][..strings.len() * LENGTH].chunks_mut(LENGTH);
                        for (string, bytes) in strings.iter().zip(lengths) {
                            length(string).to_bytes(bytes);
                        }
                        for string in strings {
                            bytes[*next..][..string.len()].copy_from_slice(string);
                            *next += string.len();
                        }
                    }
                }
                Values::Ragged(ragged) => {
                    for (row, (beginning, next)) in beginnings.iter().zip(&mut next).enumerate() {
                        let Some(range) = ragged.range(row) else {
                            continue;
                        };
                        let size = blob::size(ragged.values(), range.clone());
                        let slot = &mut bytes[beginning + self.numbers + field.at * LENGTH..];
                        bounded(size).to_bytes(&mut slot[..LENGTH]);
                        blob::write(ragged.values(), range, &mut bytes[*next..][..size]);
                        *next += size;
                    }
                }
            }
        }
        Ok(bytes)
    }

    fn beginnings_of(&self, block: &Block) -> Vec<usize> {
        let table = self.table(0, block.rows).map_or(0, |(_, bytes)| bytes);
        let size = self.numbers + self.strings * LENGTH;
        let mut beginnings: Vec<_> = (0..=block.rows).map(|row| table + row * size).collect();
        for (field, (_, values)) in self.fields.iter().zip(block.parts()) {
            let mut before = 0;
            match values {
                Values::Strings(values) => {
                    let rows = values.chunks(field.width.max(1));
                    for (strings, beginning) in rows.zip(&mut beginnings[1..]) {
                        before += strings.iter().map(|string| string.len()).sum::<usize>();
                        *beginning += before;
                    }
                }
                Values::Ragged(ragged) => {
                    for (row, beginning) in beginnings[1..].iter_mut().enumerate() {
                        let range = ragged.range(row);
                        before += range.map_or(0, |range| blob::size(ragged.values(), range));
                        *beginning += before;
                    }
                }
                _ => {}
            }
        }
        beginnings
    }

    fn field(&self, part: Part) -> Option<&Field> {
        self.fields.iter().find(|field| field.part == part)
    }

    /// The block that rows of this layout make.
    ///
    /// # Errors
    /// [`DataError::TooLarge`].
    pub(crate) fn block(&self, rows: &[Row<'_>]) -> Result<Block, Error> {
        let mut block = Block {
            rows: rows.len(),
            inputs: Vec::new(),
            labels: vec![None; self.outputs],
            weights: None,
        };
        for field in &self.fields {
            let values = gather(rows, field.part)?.map(|(values, _)| values);
            match field.part {
                Part::Input(_) => block.inputs.extend(values),
                Part::Label(at) => block.labels[at] = values,
                Part::Weights => block.weights = values,
            }
        }
        Ok(block)
    }
}

impl Field {
    fn put<T: Number>(&self, values: &[T], beginnings: &[usize], bytes: &mut [u8]) {
        let size = self.width * size_of::<T>();
        let rows = values.chunks(self.width.max(1));
        for (values, beginning) in rows.zip(beginnings) {
            let slots = bytes[beginning + self.at..][..size].chunks_exact_mut(size_of::<T>());
            for (value, slot) in values.iter().zip(slots) {
                value.to_bytes(slot);
            }
        }
    }
}

/// A row that was read from the spill file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// What a part's values are, and how many.
    pub(crate) fn form(&self, part: Part) -> Option<Form> {
        let field = self.layout.field(part)?;
        Some(Form {
            kind: field.kind,
            width: field.width,
            padding: field.padding,
        })
    }

    /// The blob of a ragged part of this kind.
    pub(crate) fn blob(&self, part: Part, kind: Kind) -> Option<&'a [u8]> {
        let field = self.layout.field(part)?;
        if field.kind != kind {
            return None;
        }
        field.padding?;
        self.texts(field)?.next()
    }

    /// The bytes of a part's `width` numbers, if it has so many of this type.
    pub(crate) fn numbers<T: Number>(&self, part: Part, width: usize) -> Option<&'a [u8]> {
        let field = self.layout.field(part)?;
        if (field.kind, field.width) != (T::KIND, width) || field.padding.is_some() {
            return None;
        }
        let size = width * size_of::<T>();
        self.bytes.get(field.at..)?.get(..size)
    }

    /// A part's strings, if it has any.
    pub(crate) fn strings(&self, part: Part) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let field = self.layout.field(part)?;
        if field.kind != Kind::Strings || field.padding.is_some() {
            return None;
        }
        self.texts(field)
    }

    /// The strings or the blob of a field.
    fn texts(&self, field: &'a Field) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let lengths = self.bytes.get(self.layout.numbers..)?;
        let (lengths, strings) = lengths.split_at_checked(self.layout.strings * LENGTH)?;
        let mut lengths = lengths.chunks_exact(LENGTH).map(|bytes| {
            let length = i32::from_bytes(bytes);
            usize::try_from(length).unwrap_or(0)
        });
        let before = lengths.by_ref().take(field.at).sum::<usize>();
        let mut strings = strings.get(before..)?;
        let split = move |length| {
            let (string, rest) = strings.split_at_checked(length)?;
            strings = rest;
            Some(string)
        };
        Some(lengths.take(field.width).map_while(split))
    }
}

/// The length of a string, which Arrow keeps within an i32.
pub(crate) fn length(string: &[u8]) -> i32 {
    bounded(string.len())
}

fn bounded(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// Zeros for the records of `rows` rows.
///
/// # Errors
/// [`DataError::TooLarge`].
pub(crate) fn buffer(rows: usize, size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = reserve(size, 1).map_err(|bytes| DataError::TooLarge {
        what: "the rows beyond spark.flambeau.cache.memory".to_owned(),
        rows,
        bytes,
    })?;
    bytes.resize(size, 0);
    Ok(bytes)
}
