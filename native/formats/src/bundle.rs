//! TensorFlow's checkpoints (format V2, the tensor bundle): `PREFIX.index`, a sorted table of what
//! there is, and `PREFIX.data-00000-of-00001`, the bytes of the tensors.
//!
//! A checkpoint of `tf.train.Checkpoint` also holds the graph of the objects that were saved, see
//! [`ObjectGraph`]; older ones name their tensors after variables and have no graph.
//!
//! Source of the rules: `tensorflow/core/util/tensor_bundle/tensor_bundle.{h,cc}`,
//! `tensorflow/core/protobuf/tensor_bundle.proto`, `tensorflow/core/lib/io/table_format.txt`.

mod entry;
pub mod object_graph;
mod strings;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use self::entry::{Header, TensorType};
use self::object_graph::ObjectGraph;
use self::table::TableBuilder;
use crate::array::element_count;
use crate::checkpoint::replace_file;
use crate::masked_crc::MaskedCrc;
use crate::{Array, Error, Result};

pub use self::entry::Entry;
pub use self::strings::Strings;

/// The key under which a checkpoint holds the graph of its objects.
pub const OBJECT_GRAPH_KEY: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tensor {
    /// Numbers or bools.
    Array(Array),
    /// Byte strings.
    Strings(Strings),
}

impl From<Array> for Tensor {
    fn from(array: Array) -> Self {
        Tensor::Array(array)
    }
}

impl From<Strings> for Tensor {
    fn from(strings: Strings) -> Self {
        Tensor::Strings(strings)
    }
}

/// Name of the index file of a checkpoint.
pub fn index_file_name(prefix: &str) -> String {
    format!("{prefix}.index")
}

/// Name of a data file of a checkpoint; `shard` counts from 0 to below `shards`.
pub fn data_file_name(prefix: &str, shard: usize, shards: usize) -> String {
    format!("{prefix}.data-{shard:05}-of-{shards:05}")
}

/// The index of a checkpoint: what it holds, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    shards: usize,
    entries: BTreeMap<String, Entry>,
}

impl Index {
    /// Reads the content of an index file. `place` names it in errors.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it breaks the format's rules; [`Error::Unsupported`] if it holds
    /// partitioned variables, or was written compressed, big-endian or by a later format.
    pub fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        let mut records = table::read(place, bytes)?.into_iter();
        let Some((key, header)) = records.next().filter(|(key, _)| key.is_empty()) else {
            return Err(Error::corrupt(place, "it has no header"));
        };
        debug_assert!(key.is_empty());
        let header = Header::decode(place, header)?;
        let mut entries = BTreeMap::new();
        for (key, value) in records {
            let Ok(key) = String::from_utf8(key) else {
                let reason = "a key is no text, as for parts of partitioned variables";
                return Err(Error::unsupported(place, reason));
            };
            let entry = Entry::decode(&tensor_place(&key), value)?;
            if entry.shard >= header.shards {
                let reason = format!("it is in shard {} of {}", entry.shard, header.shards);
                return Err(Error::corrupt(tensor_place(&key), reason));
            }
            entries.insert(key, entry);
        }
        check_overlaps(&entries)?;
        Ok(Index {
            shards: header.shards,
            entries,
        })
    }

    /// Number of data files that belong to this index.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// What is held under each key, in the keys' order.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The tensor of `key`; `shards` are the contents of all data files.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none, or its type has no place here; [`Error::Corrupt`]
    /// if the data contradict the index or its checksum.
    pub fn tensor(&self, key: &str, shards: &[impl AsRef<[u8]>]) -> Result<Tensor> {
        let place = tensor_place(key);
        let Some(entry) = self.entries.get(key) else {
            return Err(Error::unsupported(place, "the checkpoint has no such key"));
        };
        if shards.len() != self.shards {
            let reason = format!("it has {} data files, not {}", self.shards, shards.len());
            return Err(Error::unsupported("the checkpoint", reason));
        }
        let bytes = shards
            .get(entry.shard)
            .and_then(|shard| shard.as_ref().get(entry.range()?));
        let Some(bytes) = bytes else {
            let reason = format!("data file {} ends before it does", entry.shard);
            return Err(Error::corrupt(place, reason));
        };
        let dtype = match entry.tensor_type(&place)? {
            TensorType::String => {
                return Strings::decode(&place, entry, bytes).map(Tensor::Strings);
            }
            TensorType::Array(dtype) => dtype,
        };
        if MaskedCrc::of(bytes) != entry.checksum {
            return Err(Error::corrupt(place, "its checksum does not match"));
        }
        let needed = element_count(&entry.shape).and_then(|count| count.checked_mul(dtype.width()));
        if needed != Some(bytes.len()) {
            let reason = format!(
                "shape {:?} is not held by {} bytes",
                entry.shape,
                bytes.len()
            );
            return Err(Error::corrupt(place, reason));
        }
        Array::from_le_bytes(dtype, entry.shape.clone(), bytes.to_vec())
            .map(Tensor::Array)
            .map_err(|e| Error::corrupt_because(place, e))
    }

    /// The graph of the saved objects, if the checkpoint holds one.
    ///
    /// # Errors
    /// As [`Index::tensor`].
    pub fn object_graph(&self, shards: &[impl AsRef<[u8]>]) -> Result<Option<ObjectGraph>> {
        if !self.entries.contains_key(OBJECT_GRAPH_KEY) {
            return Ok(None);
        }
        match self.tensor(OBJECT_GRAPH_KEY, shards)? {
            Tensor::Strings(strings) if strings.elements().len() == 1 => {
                ObjectGraph::decode(&strings.elements()[0]).map(Some)
            }
            _ => {
                let reason = "it is not one string";
                Err(Error::corrupt(tensor_place(OBJECT_GRAPH_KEY), reason))
            }
        }
    }
}

/// Each tensor is stored once: overlaps would let a small file promise any amount of data.
fn check_overlaps(entries: &BTreeMap<String, Entry>) -> Result<()> {
    let mut ranges: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| entry.size > 0)
        .map(|(key, entry)| (entry.shard, entry.offset, entry.size, key))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(shard, offset, size, _), (next_shard, next, _, key)] = *pair
            && shard == next_shard
            && offset.checked_add(size).is_none_or(|end| end > next)
        {
            let reason = "its bytes are those of another tensor too";
            return Err(Error::corrupt(tensor_place(key), reason));
        }
    }
    Ok(())
}

fn tensor_place(key: &str) -> String {
    format!("tensor {key:?} of the checkpoint")
}

/// Writes a checkpoint with one data file: the data go to `sink` as they come, the index follows.
#[derive(Debug)]
pub struct BundleWriter<W> {
    sink: W,
    offset: u64,
    entries: BTreeMap<String, Entry>,
}

impl<W: Write> BundleWriter<W> {
    /// Starts a checkpoint whose data file is `sink`.
    pub fn new(sink: W) -> Self {
        BundleWriter {
            sink,
            offset: 0,
            entries: BTreeMap::new(),
        }
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `key` is empty or was added before; [`Error::Io`] from the sink.
    pub fn add(&mut self, key: &str, tensor: &Tensor) -> Result<()> {
        if key.is_empty() || key.starts_with('\0') || self.entries.contains_key(key) {
            let reason = "its key must be new and not empty";
            return Err(Error::invalid(tensor_place(key), reason));
        }
        let strings;
        let (code, shape, bytes, checksum) = match tensor {
            Tensor::Array(array) => (
                entry::code_of(array.dtype()),
                array.shape(),
                array.bytes(),
                MaskedCrc::of(array.bytes()),
            ),
            Tensor::Strings(value) => {
                strings = value.encode();
                let (bytes, checksum) = &strings;
                (entry::STRING, value.shape(), bytes.as_slice(), *checksum)
            }
        };
        self.sink.write_all(bytes).map_err(|e| {
            let doing = format!("writing {} at byte {}", tensor_place(key), self.offset);
            Error::io(doing, e)
        })?;
        let size = bytes.len() as u64;
        let entry = Entry {
            code,
            shape: shape.to_vec(),
            shard: 0,
            offset: self.offset,
            size,
            checksum,
        };
        self.offset += size;
        self.entries.insert(key.to_owned(), entry);
        Ok(())
    }

    /// Adds the graph of the objects whose variables are added under the keys it names.
    ///
    /// # Errors
    /// As [`BundleWriter::add`].
    pub fn add_object_graph(&mut self, graph: &ObjectGraph) -> Result<()> {
        let strings = Strings::scalar(graph.encode());
        self.add(OBJECT_GRAPH_KEY, &Tensor::Strings(strings))
    }

    /// Gives back the sink and the content of the index file, which is to be stored after it.
    pub fn finish(self) -> (W, Vec<u8>) {
        let mut table = TableBuilder::default();
        table.add(b"", &Header::of_one_shard());
        for (key, entry) in &self.entries {
            table.add(key.as_bytes(), &entry.encode());
        }
        (self.sink, table.finish())
    }
}

/// Writes a checkpoint of these tensors into `dir`, which must exist: `NAME.data-00000-of-00001`,
/// then `NAME.index`, each complete or absent. Returns their paths.
///
/// # Errors
/// [`Error::Invalid`] as [`BundleWriter::add`]; [`Error::Io`] naming the path.
pub fn write(
    dir: &Path,
    name: &str,
    tensors: &BTreeMap<String, Tensor>,
    graph: Option<&ObjectGraph>,
) -> Result<[PathBuf; 2]> {
    let mut writer = BundleWriter::new(Vec::new());
    for (key, tensor) in tensors {
        writer.add(key, tensor)?;
    }
    if let Some(graph) = graph {
        writer.add_object_graph(graph)?;
    }
    let (data, index) = writer.finish();
    let data = replace_file(dir, &data_file_name(name, 0, 1), &data)?;
    let index = replace_file(dir, &index_file_name(name), &index)?;
    Ok([data, index])
}

/// Reads the index and the data files of the checkpoint `NAME` in `dir`.
///
/// # Errors
/// [`Error::Io`] naming the path, or as [`Index::from_bytes`].
pub fn read(dir: &Path, name: &str) -> Result<(Index, Vec<Vec<u8>>)> {
    let load = |name: String| {
        let path = dir.join(name);
        fs::read(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))
    };
    let index_name = index_file_name(name);
    let index = Index::from_bytes(&index_name, &load(index_name.clone())?)?;
    let shards = index.shards();
    let data = (0..shards)
        .map(|shard| load(data_file_name(name, shard, shards)))
        .collect::<Result<_>>()?;
    Ok((index, data))
}

#[cfg(test)]
mod tests;
