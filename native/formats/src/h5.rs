//! HDF5 files that may be hostile, read within bounds.
//!
//! `hdf5-pure` checks what it parses, but a file of a few kilobytes can still make it allocate
//! gigabytes (attributes whose elements all refer to one long string), walk for hours (links in
//! circles) or recurse as deep as its types nest. So every file is read here, under four bounds:
//!
//! - each variable and group is stored once, so all of them together may not take more than the
//!   file has; and compressed ones may only expand so far;
//! - the bytes are counted that one operation, and all of them, fetch from the file; a sound file
//!   is fetched once to three times;
//! - it happens on a thread of its own, with a stack for the deepest nesting that fits a message;
//! - a panic on that thread is an error that says the file is damaged.
//!
//! One thing stays unbounded by the file's size: for a compound type `hdf5-pure` reserves address
//! space, 4.7 MB at most for each level of nesting, which it does not touch if the members are not
//! there. No type that Keras writes is compound.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hdf5_pure::{AttrValue, Dataset, Datatype, File, FormatError, Group, Source};

use crate::array::{Array, element_count};
use crate::h5_dtype;
use crate::{Error, Result};

/// The first bytes of an HDF5 file.
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// The least a group takes in a file: an object header and a link to it.
const MIN_GROUP_BYTES: usize = 16;
/// The least a chunk takes, data and index: no writer makes smaller ones, and each costs memory.
const MIN_CHUNK_BYTES: u64 = 32;
/// How far compressed variables may expand beyond what they take in the file, and all variables
/// beyond the file; those of trained models hardly shrink, and Keras stores them as they are.
pub(crate) const MAX_EXPANSION: u64 = 32;
/// How often the whole file may be fetched by one operation, and by all.
const FETCHES_PER_OPERATION: u64 = 2;
const FETCHES: u64 = 16;
/// What may be fetched from the smallest file.
const LEAST_FETCH: u64 = 1 << 20;
/// Enough for 8,192 nested types (64 KiB, the longest message, at 8 bytes each), which overflow
/// the stack of a JVM's thread; pages are taken only when touched.
const STACK_BYTES: usize = 128 << 20;

/// Opens an HDF5 file in memory, called `place` in errors, and hands it to `walk`. All variables
/// that are read may take `limit` bytes of memory.
pub(crate) fn read<T: Send>(
    bytes: Vec<u8>,
    place: &str,
    limit: u64,
    walk: impl FnOnce(&mut Reader) -> Result<T> + Send,
) -> Result<T> {
    if !bytes.starts_with(SIGNATURE) {
        return Err(Error::corrupt(place, "it is no HDF5 file"));
    }
    let work = move || {
        let mut reader = Reader::open(bytes, place, limit)?;
        walk(&mut reader)
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("hdf5".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|e| Error::io(format!("starting a thread to read {place}"), e))?;
        reader
            .join()
            .unwrap_or_else(|_| Err(Error::corrupt(place, "its structure contradicts itself")))
    })
}

/// The attributes of a group.
pub(crate) struct Attributes {
    values: HashMap<String, AttrValue>,
    /// All names, also of attributes whose value could not be decoded.
    names: HashSet<String>,
}

impl Attributes {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The attribute `name` of the group at `path`, which must hold one string.
    pub(crate) fn text(&self, path: &str, name: &str) -> Result<Option<String>> {
        match self.texts(path, name)? {
            None => Ok(None),
            Some(mut texts) if texts.len() == 1 => Ok(texts.pop()),
            Some(texts) => {
                let reason = format!(
                    "its attribute {name} holds {} strings, not one",
                    texts.len()
                );
                Err(Error::corrupt(path, reason))
            }
        }
    }

    /// The attribute `name` of the group at `path`, which must hold a list of strings.
    pub(crate) fn texts(&self, path: &str, name: &str) -> Result<Option<Vec<String>>> {
        if !self.has(name) {
            return Ok(None);
        }
        let value = self.values.get(name);
        // What h5py makes of an empty list.
        if value
            .and_then(AttrValue::to_f64s)
            .is_some_and(|list| list.is_empty())
        {
            return Ok(Some(Vec::new()));
        }
        match value.and_then(AttrValue::as_strings) {
            Some(texts) => Ok(Some(texts.to_vec())),
            None => {
                let reason = format!("its attribute {name} holds no strings");
                Err(Error::corrupt(path, reason))
            }
        }
    }
}

/// An open file, with what may still be taken from it.
pub(crate) struct Reader {
    file: File,
    meter: Arc<Meter>,
    /// Length of the file.
    len: u64,
    /// Bytes of variables that the file can still hold.
    stored_left: u64,
    /// Bytes that variables may still take in memory.
    memory_left: u64,
    /// Groups that the file can still hold.
    groups_left: usize,
}

impl Reader {
    fn open(bytes: Vec<u8>, place: &str, limit: u64) -> Result<Self> {
        let len = bytes.len();
        let meter = Arc::new(Meter::new(len as u64));
        let source = Metered {
            bytes,
            meter: Arc::clone(&meter),
        };
        let file = File::from_source(source).map_err(|e| damaged(place, e))?;
        Ok(Reader {
            file,
            meter,
            len: len as u64,
            stored_left: len as u64,
            memory_left: limit,
            groups_left: len / MIN_GROUP_BYTES,
        })
    }

    pub(crate) fn root(&self) -> Group {
        self.file.root()
    }

    /// The groups directly below `group`, whose path is `path`.
    pub(crate) fn subgroups(
        &mut self,
        path: &str,
        group: &Group,
    ) -> Result<BTreeMap<String, Group>> {
        self.meter.next_operation();
        let groups: BTreeMap<String, Group> =
            group.iter_groups().map_err(|e| damaged(path, e))?.collect();
        let Some(left) = self.groups_left.checked_sub(groups.len()) else {
            let reason = "it has more groups than its size allows";
            return Err(Error::corrupt(path, reason));
        };
        self.groups_left = left;
        Ok(groups)
    }

    /// The datasets directly below `group`.
    pub(crate) fn datasets(
        &mut self,
        path: &str,
        group: &Group,
    ) -> Result<BTreeMap<String, Dataset>> {
        self.meter.next_operation();
        let datasets = group.iter_datasets().map_err(|e| damaged(path, e))?;
        Ok(datasets.collect())
    }

    pub(crate) fn attributes(&mut self, path: &str, group: &Group) -> Result<Attributes> {
        self.meter.next_operation();
        let names = group.attr_datatypes().map_err(|e| damaged(path, e))?;
        Ok(Attributes {
            values: group.attrs().map_err(|e| damaged(path, e))?,
            names: names.into_keys().collect(),
        })
    }

    pub(crate) fn array(&mut self, path: &str, dataset: &Dataset) -> Result<Array> {
        self.meter.next_operation();
        let axes = dataset.shape().map_err(|e| damaged(path, e))?;
        let datatype = dataset.datatype().map_err(|e| damaged(path, e))?;
        let dtype = match &datatype {
            Datatype::Opaque { .. } => {
                let attributes = dataset.attrs().map_err(|e| damaged(path, e))?;
                h5_dtype::of_opaque(path, &datatype, attributes.get(h5_dtype::ATTRIBUTE))?
            }
            _ => h5_dtype::of(path, &datatype)?,
        };
        let shape: Vec<usize> = axes
            .iter()
            .map(|&axis| usize::try_from(axis).unwrap_or(usize::MAX))
            .collect();
        let bytes = element_count(&shape).and_then(|count| count.checked_mul(dtype.width()));
        let bytes = bytes.map_or(u64::MAX, |bytes| bytes as u64);
        let stored = self.stored(path, &axes, dataset)?.unwrap_or(bytes);
        let stored_left = self.stored_left.checked_sub(stored);
        let memory_left = self.memory_left.checked_sub(bytes);
        let within = bytes <= stored.saturating_mul(MAX_EXPANSION);
        let (Some(stored_left), Some(memory_left), true) = (stored_left, memory_left, within)
        else {
            let reason = format!("shape {axes:?} needs more bytes than the file has");
            return Err(Error::corrupt(path, reason));
        };
        (self.stored_left, self.memory_left) = (stored_left, memory_left);
        let data = dataset.read_raw().map_err(|e| damaged(path, e))?;
        Array::from_le_bytes(dtype, shape, data).map_err(|e| Error::corrupt_because(path, e))
    }

    /// What the chunks of a dataset take in the file, if it has chunks. Refuses more of them, or
    /// larger ones, than the file has room for.
    fn stored(&self, path: &str, axes: &[u64], dataset: &Dataset) -> Result<Option<u64>> {
        let Some(chunk) = dataset.chunk_shape().map_err(|e| damaged(path, e))? else {
            return Ok(None);
        };
        let width = dataset.element_size().map_err(|e| damaged(path, e))?;
        let count = (axes.iter().zip(&chunk)).try_fold(1_u64, |count, (&axis, &side)| {
            count.checked_mul(axis.checked_div(side)?.checked_add(1)?)
        });
        let bytes = (chunk.iter()).try_fold(width, |bytes, &side| bytes.checked_mul(side));
        if count.is_none_or(|count| count > 1 + self.len / MIN_CHUNK_BYTES)
            || bytes.is_none_or(|bytes| bytes > self.len.max(LEAST_FETCH))
        {
            let reason =
                format!("chunks of {chunk:?} in {axes:?} are more than the file has room for");
            return Err(Error::corrupt(path, reason));
        }
        let chunks = dataset.chunks().map_err(|e| damaged(path, e))?;
        let sizes = chunks.iter().map(|chunk| chunk.storage_size);
        Ok(Some(sizes.fold(0, u64::saturating_add)))
    }
}

/// A file in memory that counts what is fetched from it.
struct Metered {
    bytes: Vec<u8>,
    meter: Arc<Meter>,
}

impl Source for Metered {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::result::Result<(), FormatError> {
        self.meter.fetch(buffer.len() as u64)?;
        let wanted = usize::try_from(offset)
            .ok()
            .and_then(|start| self.bytes.get(start..)?.get(..buffer.len()));
        let Some(wanted) = wanted else {
            return Err(FormatError::UnexpectedEof {
                expected: buffer.len(),
                available: self.bytes.len(),
            });
        };
        buffer.copy_from_slice(wanted);
        Ok(())
    }
}

/// Bytes that may still be fetched.
struct Meter {
    operation: u64,
    left_of_operation: AtomicU64,
    left: AtomicU64,
}

impl Meter {
    fn new(len: u64) -> Self {
        let least = len.max(LEAST_FETCH);
        let operation = least.saturating_mul(FETCHES_PER_OPERATION);
        Meter {
            operation,
            left_of_operation: AtomicU64::new(operation),
            left: AtomicU64::new(least.saturating_mul(FETCHES)),
        }
    }

    fn next_operation(&self) {
        self.left_of_operation
            .store(self.operation, Ordering::Relaxed);
    }

    fn fetch(&self, bytes: u64) -> std::result::Result<(), FormatError> {
        for left in [&self.left_of_operation, &self.left] {
            let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
            if taken.is_err() {
                let reason = "its parts refer to one another far more often than they should";
                return Err(FormatError::Source(reason.into()));
            }
        }
        Ok(())
    }
}

/// What `hdf5-pure` found wrong at `path`.
pub(crate) fn damaged(path: &str, error: hdf5_pure::Error) -> Error {
    Error::corrupt_because(path, error)
}

#[cfg(test)]
mod tests {
    use hdf5_pure::{FileBuilder, make_i8_type};

    use super::*;
    use crate::weights_h5::WeightsFile;

    /// A file whose only variable has a type that nests as deep as a message is long.
    fn nested() -> Vec<u8> {
        let mut datatype = make_i8_type();
        for _ in 0..8000 {
            datatype = Datatype::VariableLength {
                is_string: false,
                padding: None,
                charset: None,
                base_type: Box::new(datatype),
            };
        }
        let mut file = FileBuilder::new();
        let mut vars = file.create_group("vars");
        vars.create_dataset("0")
            .with_raw_data(datatype, vec![0; 16], 1);
        file.add_group(vars.finish());
        file.finish().unwrap()
    }

    fn on_stack_of<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(bytes);
            thread.spawn_scoped(scope, work).unwrap().join().unwrap()
        })
    }

    #[test]
    fn deeply_nested_types_do_not_overflow_the_stack() {
        let bytes = on_stack_of(STACK_BYTES, nested);
        let error = on_stack_of(1 << 18, || WeightsFile::from_bytes(bytes)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vars/0 cannot be read: its elements are no dtype of a Keras variable, but of variable \
             length"
        );
    }

    #[test]
    fn a_panic_is_damage() {
        let bytes = FileBuilder::new().finish().unwrap();
        let panics = |_: &mut Reader| -> Result<()> { panic!("what hdf5-pure may do") };
        let error = read(bytes, "x.h5", 0, panics).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.h5 is damaged: its structure contradicts itself; take another copy of it"
        );
    }

    #[test]
    fn what_is_fetched_is_counted() {
        let meter = Meter::new(LEAST_FETCH);
        for _ in 0..FETCHES {
            meter.next_operation();
            assert!(meter.fetch(LEAST_FETCH).is_ok());
        }
        meter.next_operation();
        assert!(meter.fetch(1).is_err());
        let meter = Meter::new(1);
        assert!(meter.fetch(FETCHES_PER_OPERATION * LEAST_FETCH).is_ok());
        assert!(meter.fetch(1).is_err());
        meter.next_operation();
        assert!(meter.fetch(1).is_ok());
    }
}
