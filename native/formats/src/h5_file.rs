//! HDF5 files from front to back, as the HDF5 File Format Specification, version 3, has them: what
//! [`h5_tree`](crate::h5_tree) writes its groups and datasets with.
//!
//! Groups hold their links in their object header, datasets are contiguous, strings of attributes lie in
//! a global heap before the header of their object. Addresses and lengths take 8 bytes.

use std::io::Write;

use crate::array::ToArray;
use crate::h5_dtype;
use crate::{DType, Error, Result};

/// The address of what is nowhere.
const UNDEFINED: u64 = u64::MAX;
/// Objects begin at multiples of it.
const ALIGNMENT: u64 = 8;
/// The least that libhdf5 takes for a heap.
const LEAST_HEAP: usize = 4096;
/// Length of a superblock.
const SUPERBLOCK: u64 = 48;

/// Kinds of messages in an object header.
const DATASPACE: u8 = 0x01;
const LINK_INFO: u8 = 0x02;
const DATATYPE: u8 = 0x03;
const FILL_VALUE: u8 = 0x05;
const LINK: u8 = 0x06;
const LAYOUT: u8 = 0x08;
const GROUP_INFO: u8 = 0x0a;
const ATTRIBUTE: u8 = 0x0c;
const ATTRIBUTE_INFO: u8 = 0x15;

/// Flag of a message that nobody changes.
const CONSTANT: u8 = 1;

/// A value of an attribute, in the form that h5py gives it.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    /// A string.
    Text(String),
    /// A string that h5py reads as bytes.
    Bytes(String),
    /// A list of strings that h5py reads as bytes.
    List(Vec<String>),
}

/// A file that is being written, or of which only the length is being found out.
pub(crate) struct Output<'a> {
    sink: Option<&'a mut dyn Write>,
    position: u64,
}

impl<'a> Output<'a> {
    /// Counts what would be written.
    pub(crate) fn counting() -> Self {
        Self {
            sink: None,
            position: SUPERBLOCK,
        }
    }

    /// Writes to `sink` a file of `end` bytes whose root group is at `root`.
    pub(crate) fn begin(sink: &'a mut dyn Write, root: u64, end: u64) -> Result<Self> {
        let mut block = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
        for address in [0, UNDEFINED, end, root] {
            block.extend(address.to_le_bytes());
        }
        block.extend(lookup3(&block).to_le_bytes());
        let mut output = Self {
            sink: Some(sink),
            position: 0,
        };
        output.put(&block)?;
        Ok(output)
    }

    /// The bytes so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(sink) = &mut self.sink {
            let written = sink.write_all(bytes);
            let doing = || format!("writing HDF5 at byte {}", self.position);
            written.map_err(|error| Error::io(doing(), error))?;
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The address of what comes next.
    fn align(&mut self) -> Result<u64> {
        let over = self.position.next_multiple_of(ALIGNMENT) - self.position;
        self.put(&[0; 8][..usize::try_from(over).unwrap_or(0)])?;
        Ok(self.position)
    }

    /// Writes a dataset at `path`, whose elements are asked for now; its address.
    pub(crate) fn dataset(&mut self, path: &str, array: &dyn ToArray) -> Result<u64> {
        let start = self.align()?;
        let count = crate::array::element_count(array.shape());
        let bytes = count.and_then(|count| count.checked_mul(array.dtype().width()));
        let bytes = bytes.ok_or_else(|| Error::invalid(path, "its shape is too large"))?;
        if self.sink.is_some() {
            let array = array.to_array()?;
            if array.bytes().len() != bytes {
                return Err(Error::invalid(path, "its elements are not of its shape"));
            }
            self.put(array.bytes())?;
        } else {
            self.position += bytes as u64;
        }
        let mut header = Header::new(path);
        header.message(DATATYPE, CONSTANT, &h5_dtype::encode(array.dtype()))?;
        header.message(DATASPACE, 0, &dataspace(array.shape()))?;
        // Version 3: allocated late, written if it is set; it is not.
        header.message(FILL_VALUE, CONSTANT, &[3, 0x0a])?;
        let address = if bytes == 0 { UNDEFINED } else { start };
        let layout = [address.to_le_bytes(), (bytes as u64).to_le_bytes()];
        header.message(LAYOUT, 0, &[&[3, 1], layout.as_flattened()].concat())?;
        if array.dtype() == DType::BFloat16 {
            let name = Attribute::Text(array.dtype().name().to_owned());
            let name = [(h5_dtype::ATTRIBUTE.to_owned(), name)];
            self.attributes(&name, &mut header)?;
        }
        self.header(&header)
    }

    /// Writes a group at `path` with its attributes and links to what is at these addresses; its own
    /// address.
    pub(crate) fn group(
        &mut self,
        path: &str,
        attributes: &[(String, Attribute)],
        links: &[(&str, u64)],
    ) -> Result<u64> {
        let mut header = Header::new(path);
        let nowhere = [0xff; 16];
        header.message(LINK_INFO, 0, &[&[0, 0], nowhere.as_slice()].concat())?;
        header.message(GROUP_INFO, 0, &[0, 0])?;
        for (name, address) in links {
            let length = u16::try_from(name.len());
            let length = length.map_err(|_| Error::invalid(path, "a name in it is too long"))?;
            // Version 1, names in UTF-8, their lengths in 2 bytes, a hard link.
            let mut link = vec![1, 0x11, 1];
            link.extend(length.to_le_bytes());
            link.extend(name.as_bytes());
            link.extend(address.to_le_bytes());
            header.message(LINK, 0, &link)?;
        }
        self.attributes(attributes, &mut header)?;
        self.header(&header)
    }

    /// Writes the strings of attributes, and adds the attributes to the header of their object.
    fn attributes(
        &mut self,
        attributes: &[(String, Attribute)],
        header: &mut Header<'_>,
    ) -> Result<()> {
        if !attributes.is_empty() {
            header.message(
                ATTRIBUTE_INFO,
                0,
                &[&[0, 0], [0xff; 16].as_slice()].concat(),
            )?;
        }
        for (name, value) in attributes {
            let (strings, utf8) = match value {
                Attribute::Text(text) => (std::slice::from_ref(text), true),
                Attribute::Bytes(text) => (std::slice::from_ref(text), false),
                Attribute::List(texts) => (texts.as_slice(), false),
            };
            let shape: &[usize] = match value {
                Attribute::List(texts) => &[texts.len()],
                _ => &[],
            };
            // What h5py makes of an empty list.
            let datatype = match value {
                Attribute::List(texts) if texts.is_empty() => h5_dtype::encode(DType::Float64),
                _ => h5_dtype::encode_string(utf8),
            };
            let data = self.heap(strings)?;
            let dataspace = dataspace(shape);
            // Version 2, nothing shared.
            let mut attribute = vec![2, 0];
            for length in [name.len() + 1, datatype.len(), dataspace.len()] {
                let length = u16::try_from(length);
                let length = length.map_err(|_| header.too_long())?;
                attribute.extend(length.to_le_bytes());
            }
            attribute.extend(name.as_bytes());
            attribute.push(0);
            attribute.extend([datatype, dataspace, data].concat());
            header.message(ATTRIBUTE, 0, &attribute)?;
        }
        Ok(())
    }

    /// Writes a heap with these strings, unless all are empty; what refers to them.
    fn heap(&mut self, strings: &[String]) -> Result<Vec<u8>> {
        let address = self.align()?;
        let mut objects = Vec::new();
        let mut references = Vec::new();
        let mut index = 0_u16;
        for string in strings {
            let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
            references.extend(length.to_le_bytes());
            if string.is_empty() {
                references.extend([0; 12]);
                continue;
            }
            index += 1;
            references.extend(address.to_le_bytes());
            references.extend(u32::from(index).to_le_bytes());
            objects.extend(index.to_le_bytes());
            objects.extend([1, 0, 0, 0, 0, 0]);
            objects.extend(u64::from(length).to_le_bytes());
            objects.extend(string.as_bytes());
            objects.resize(objects.len().next_multiple_of(8), 0);
        }
        if index == 0 {
            return Ok(references);
        }
        // A heap ends with an object of number 0, of all that is free.
        let size = (16 + objects.len() + 16).max(LEAST_HEAP);
        let mut heap = b"GCOL\x01\0\0\0".to_vec();
        heap.extend((size as u64).to_le_bytes());
        heap.extend(objects);
        let free = (size - heap.len()) as u64;
        heap.extend([0; 8]);
        heap.extend(free.to_le_bytes());
        heap.resize(size, 0);
        self.put(&heap)?;
        Ok(references)
    }

    fn header(&mut self, header: &Header<'_>) -> Result<u64> {
        let address = self.align()?;
        // Version 2, the length of its messages in 4 bytes.
        let mut bytes = b"OHDR\x02\x02".to_vec();
        let length = u32::try_from(header.messages.len()).map_err(|_| header.too_long())?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(&header.messages);
        bytes.extend(lookup3(&bytes).to_le_bytes());
        self.put(&bytes)?;
        Ok(address)
    }
}

/// The messages of an object.
struct Header<'a> {
    path: &'a str,
    messages: Vec<u8>,
}

impl<'a> Header<'a> {
    fn new(path: &'a str) -> Self {
        Self {
            path,
            messages: Vec::new(),
        }
    }

    fn message(&mut self, kind: u8, flags: u8, body: &[u8]) -> Result<()> {
        let length = u16::try_from(body.len()).map_err(|_| self.too_long())?;
        self.messages.push(kind);
        self.messages.extend(length.to_le_bytes());
        self.messages.push(flags);
        self.messages.extend(body);
        Ok(())
    }

    fn too_long(&self) -> Error {
        Error::invalid(
            self.path,
            "HDF5 has no place for names or attributes so long",
        )
    }
}

/// Axes of so many elements; of a scalar none.
fn dataspace(shape: &[usize]) -> Vec<u8> {
    let rank = u8::try_from(shape.len()).unwrap_or(u8::MAX);
    let mut bytes = vec![2, rank, 0, u8::from(rank > 0)];
    let axes = shape.iter().map(|&axis| (axis as u64).to_le_bytes());
    bytes.extend(axes.flatten());
    bytes
}

/// The checksum of HDF5's metadata: Bob Jenkins's lookup3, from 0.
fn lookup3(bytes: &[u8]) -> u32 {
    let length = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(0);
    let start = 0xdead_beef_u32.wrapping_add(length);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut blocks = bytes.chunks(12).peekable();
    while let Some(block) = blocks.next() {
        let mut words = [0_u32; 3];
        for (word, part) in words.iter_mut().zip(block.chunks(4)) {
            let mut four = [0; 4];
            four[..part.len()].copy_from_slice(part);
            *word = u32::from_le_bytes(four);
        }
        a = a.wrapping_add(words[0]);
        b = b.wrapping_add(words[1]);
        c = c.wrapping_add(words[2]);
        if blocks.peek().is_none() {
            for (turn, rotation) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
                let (x, y) = match turn % 3 {
                    0 => (&mut c, b),
                    1 => (&mut a, c),
                    _ => (&mut b, a),
                };
                *x = (*x ^ y).wrapping_sub(y.rotate_left(rotation));
            }
        } else {
            for (turn, rotation) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
                let (x, y, z) = match turn % 3 {
                    0 => (&mut a, &mut c, b),
                    1 => (&mut b, &mut a, c),
                    _ => (&mut c, &mut b, a),
                };
                *x = x.wrapping_sub(*y) ^ y.rotate_left(rotation);
                *y = y.wrapping_add(z);
            }
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that its author gives.
    #[test]
    fn the_checksum_is_lookup3() {
        assert_eq!(lookup3(b""), 0xdead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_path() {
        let mut output = Output::counting();
        let names = vec!["x".to_owned(); 5000];
        let list = [("names".to_owned(), Attribute::List(names))];
        let error = output.group("layers", &list, &[]).unwrap_err().to_string();
        assert!(error.starts_with("layers cannot be written"), "{error}");
        let long = "x".repeat(70_000);
        let error = output.group("layers", &[], &[(&long, 0)]).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
