//! Checkpoints that are written and read stretch by stretch, so that nobody needs memory for all of one.
//!
//! The file is that of [`write`](super::write); tensors are float32.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Header, METADATA_KEY, RESERVED_NAME, TEMPORARY, file_name, manifest_checksum, tensor_place,
};
use crate::{Error, Result};

/// The longest header that is read: names and shapes of some millions of tensors.
const LONGEST_HEADER: u64 = 1 << 30;

/// Elements that are read at once.
const AT_ONCE: usize = 1 << 16;

/// What a file says of a tensor before its elements come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// The checksum of shape and elements.
    pub checksum: u32,
}

impl Described {
    /// That of a tensor whose elements are `values`, row-major.
    pub fn of(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        let mut checksum = crc32c::crc32c(format!("{shape:?}").as_bytes());
        for values in values.chunks(4096) {
            checksum = crc32c::crc32c_append(checksum, &bytes(values));
        }
        Self {
            name,
            shape,
            checksum,
        }
    }

    /// Number of its elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    directory: PathBuf,
    path: PathBuf,
    temporary: PathBuf,
    /// Elements that are still to come.
    due: usize,
}

impl Writer {
    /// Begins `ckpt-<step>.safetensors` in `dir`, with tensors that come in the order of `described`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name occurs twice; [`Error::Io`].
    pub fn create(
        dir: &Path,
        step: u64,
        manifest: &Value,
        described: &[Described],
    ) -> Result<Self> {
        let manifest = manifest.to_string();
        let header = Header {
            step,
            manifest_crc32c: manifest_checksum(step, &manifest),
            manifest,
            tensors: described
                .iter()
                .map(|one| (one.name.clone(), one.checksum))
                .collect(),
        };
        let header = serde_json::to_string(&header)
            .map_err(|error| Error::invalid("the checkpoint's manifest", error.to_string()))?;
        let mut table = serde_json::Map::new();
        table.insert(RESERVED_NAME.to_owned(), json!({ METADATA_KEY: header }));
        let mut at = 0;
        for one in described {
            let end = at + size_of::<f32>() * one.len();
            let entry = json!({"dtype": "F32", "shape": one.shape, "data_offsets": [at, end]});
            if table.insert(one.name.clone(), entry).is_some() {
                let reason = "two tensors have this name";
                return Err(Error::invalid(tensor_place(&one.name), reason));
            }
            at = end;
        }
        let mut table = Value::Object(table).to_string();
        // The elements begin at a multiple of eight.
        while !table.len().is_multiple_of(8) {
            table.push(' ');
        }
        let name = file_name(step);
        let (path, temporary) = (dir.join(&name), dir.join(format!("{name}{TEMPORARY}")));
        let create = || {
            let mut file = BufWriter::new(File::create(&temporary)?);
            file.write_all(&(table.len() as u64).to_le_bytes())?;
            file.write_all(table.as_bytes())?;
            Ok(file)
        };
        let file = create().map_err(|error| unwritten(&path, error))?;
        Ok(Self {
            file,
            directory: dir.to_owned(),
            path,
            temporary,
            due: at / size_of::<f32>(),
        })
    }

    /// Writes the next elements.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Invalid`] for more than were described.
    pub fn put(&mut self, values: &[f32]) -> Result<()> {
        self.due = self.due.checked_sub(values.len()).ok_or_else(|| {
            let reason = "it has more elements than it was begun with";
            Error::invalid("the checkpoint", reason)
        })?;
        for values in values.chunks(4096) {
            let written = self.file.write_all(&bytes(values));
            written.map_err(|error| unwritten(&self.path, error))?;
        }
        Ok(())
    }

    /// Ends the file, which is on disk, complete, when this returns.
    ///
    /// # Errors
    /// As [`put`](Self::put), also for fewer elements than were described.
    pub fn finish(mut self) -> Result<PathBuf> {
        if self.due > 0 {
            let reason = format!("it lacks {} elements", self.due);
            return Err(Error::invalid("the checkpoint", reason));
        }
        let end = || {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            File::open(&self.directory)?.sync_all()
        };
        let ended: std::io::Result<()> = { end }();
        ended.map_err(|error| unwritten(&self.path, error))?;
        Ok(self.path)
    }
}

/// A checkpoint that is read tensor by tensor.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    /// Updates done so far.
    pub step: u64,
    /// Whatever else the run needs to go on.
    pub manifest: Value,
    /// With the byte at which their elements begin, in the order of these.
    tensors: Vec<(Described, u64)>,
    /// The first that is still to be read.
    at: usize,
}

/// What the table of a safetensors file says of a tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Reader {
    /// Opens the checkpoint at `path`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`]; [`Error::Unsupported`] for a file of somebody else, or tensors
    /// that are not float32.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let unread = |error| Error::io(format!("reading {place}"), error);
        let mut file = BufReader::new(File::open(path).map_err(unread)?);
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(unread)?;
        let length = u64::from_le_bytes(length);
        let total = file.get_ref().metadata().map_err(unread)?.len();
        if length > LONGEST_HEADER.min(total.saturating_sub(8)) {
            return Err(Error::corrupt(&place, "its header is longer than the file"));
        }
        let mut table = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut table).map_err(unread)?;
        let corrupt = |error| Error::corrupt_because(&place, error);
        let mut table: HashMap<String, Value> = serde_json::from_slice(&table).map_err(corrupt)?;
        let header = table.remove(RESERVED_NAME);
        let header = header.as_ref().and_then(|all| all[METADATA_KEY].as_str());
        let Some(header) = header else {
            let reason = "it is no checkpoint written by Flambeau";
            return Err(Error::unsupported(&place, reason));
        };
        let header: Header = serde_json::from_str(header).map_err(corrupt)?;
        if manifest_checksum(header.step, &header.manifest) != header.manifest_crc32c {
            let reason = "the checksum of its manifest does not match";
            return Err(Error::corrupt(&place, reason));
        }
        let begin = 8 + length;
        let mut tensors = Vec::new();
        for (name, checksum) in header.tensors {
            let place = format!("{} of {place}", tensor_place(&name));
            let entry = table.remove(&name).unwrap_or_default();
            let entry: Entry =
                serde_json::from_value(entry).map_err(|e| Error::corrupt_because(&place, e))?;
            let described = Described {
                name,
                shape: entry.shape,
                checksum,
            };
            let [start, end] = entry.data_offsets;
            let elements = described
                .shape
                .iter()
                .try_fold(1_u64, |count, &size| count.checked_mul(size as u64));
            let size = elements.and_then(|count| count.checked_mul(4));
            if entry.dtype != "F32" {
                let reason = format!("its elements are {}, not float32", entry.dtype);
                return Err(Error::unsupported(place, reason));
            }
            if end.checked_sub(start) != size
                || begin.checked_add(end).is_none_or(|end| end > total)
            {
                return Err(Error::corrupt(place, "it does not lie where it should"));
            }
            tensors.push((described, begin + start));
        }
        tensors.sort_by_key(|(_, start)| *start);
        Ok(Self {
            file: file.into_inner(),
            path: path.to_owned(),
            step: header.step,
            manifest: serde_json::from_str(&header.manifest).map_err(corrupt)?,
            tensors,
            at: 0,
        })
    }

    /// What is still to be read.
    pub fn described(&self) -> impl Iterator<Item = &Described> {
        let left = self.tensors.iter().skip(self.at);
        left.map(|(described, _)| described)
    }

    /// The next tensor, with its elements; none if there are no more.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] naming the tensor.
    pub fn read_next(&mut self) -> Result<Option<(Described, Vec<f32>)>> {
        let Some((described, start)) = self.tensors.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        let values = self.elements(described, *start)?;
        Ok(Some((described.clone(), values)))
    }

    /// What the file says of the tensor `name`, and its elements; none if it has no such tensor.
    ///
    /// # Errors
    /// As [`read_next`](Self::read_next).
    pub fn read(&self, name: &str) -> Result<Option<(&Described, Vec<f32>)>> {
        let mut tensors = self.tensors.iter();
        let Some((described, start)) = tensors.find(|(described, _)| described.name == name) else {
            return Ok(None);
        };
        Ok(Some((described, self.elements(described, *start)?)))
    }

    fn elements(&self, described: &Described, start: u64) -> Result<Vec<f32>> {
        let place = || self.path.display().to_string();
        let mut values = vec![0.0_f32; described.len()];
        let mut buffer = vec![0; 4 * AT_ONCE];
        let mut at = start;
        for values in values.chunks_mut(AT_ONCE) {
            let buffer = &mut buffer[..4 * values.len()];
            let read = self.file.read_exact_at(buffer, at);
            read.map_err(|error| Error::io(format!("reading {}", place()), error))?;
            at += buffer.len() as u64;
            let (numbers, _) = buffer.as_chunks();
            for (value, number) in values.iter_mut().zip(numbers) {
                *value = f32::from_le_bytes(*number);
            }
        }
        let found = Described::of(described.name.clone(), described.shape.clone(), &values);
        if found != *described {
            let place = format!("{} of {}", tensor_place(&described.name), place());
            return Err(Error::corrupt(place, "its checksum does not match"));
        }
        Ok(values)
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn unwritten(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("writing {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Array;
    use crate::checkpoint::{Checkpoint, read, write};
    use std::collections::BTreeMap;

    fn sample() -> Vec<(String, Vec<usize>, Vec<f32>)> {
        vec![
            (
                "dense/kernel".to_owned(),
                vec![2, 3],
                vec![1.0, -2.5, 3.0, 4.0, 5.0, 6.5],
            ),
            ("a/scalar".to_owned(), vec![], vec![7.0]),
            ("empty".to_owned(), vec![0], vec![]),
            (
                "long".to_owned(),
                vec![5000],
                (0..5000_i16).map(f32::from).collect(),
            ),
        ]
    }

    fn described() -> Vec<Described> {
        let sample = sample().into_iter();
        sample
            .map(|(name, shape, values)| Described::of(name, shape, &values))
            .collect()
    }

    fn whole() -> Checkpoint {
        let tensors = sample().into_iter();
        let tensors =
            tensors.map(|(name, shape, values)| (name, Array::new(shape, values).unwrap()));
        Checkpoint {
            step: 12,
            manifest: json!({"epoch": 3}),
            tensors: tensors.collect(),
        }
    }

    #[test]
    fn what_is_written_in_stretches_is_read_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer =
            Writer::create(dir.path(), 12, &json!({"epoch": 3}), &described()).unwrap();
        for (_, _, values) in sample() {
            for stretch in values.chunks(7) {
                writer.put(stretch).unwrap();
            }
        }
        let path = writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), whole());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_written_as_a_whole_is_read_tensor_by_tensor() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &whole()).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!((reader.step, &reader.manifest), (12, &json!({"epoch": 3})));
        let mut found = BTreeMap::new();
        while let Some((described, values)) = reader.read_next().unwrap() {
            let again = reader.read(&described.name).unwrap();
            assert_eq!(again, Some((&described, values.clone())));
            found.insert(described.name, (described.shape, values));
        }
        assert_eq!(reader.read("other").unwrap(), None);
        let sample = sample().into_iter();
        let expected: BTreeMap<_, _> = sample
            .map(|(name, shape, values)| (name, (shape, values)))
            .collect();
        assert!(found == expected);
    }

    #[test]
    fn damage_is_named_and_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &whole()).unwrap();
        let clean = fs::read(&path).unwrap();
        let read_all = || -> Result<usize> {
            let mut reader = Reader::open(&path)?;
            let mut count = 0;
            while reader.read_next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(read_all().unwrap(), 4);
        for at in (0..clean.len()).step_by(clean.len() / 300) {
            let mut bytes = clean.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            if let Ok(count) = read_all() {
                assert_eq!(count, 4, "byte {at}");
            }
            fs::write(&path, &clean[..at]).unwrap();
            assert!(read_all().is_err(), "cut at {at}");
        }
        let mut bytes = clean.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let message = read_all().unwrap_err().to_string();
        assert!(message.contains("checksum does not match"), "{message}");
    }

    #[test]
    fn a_file_that_is_not_ended_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 1, &Value::Null, &described()).unwrap();
        writer.put(&[1.0]).unwrap();
        let message = writer.finish().unwrap_err().to_string();
        assert!(message.contains("lacks 5006 elements"), "{message}");
        let twice = [described(), described()].concat();
        assert!(Writer::create(dir.path(), 1, &Value::Null, &twice).is_err());
        let mut writer = Writer::create(dir.path(), 1, &Value::Null, &[]).unwrap();
        assert!(writer.put(&[1.0]).is_err());
    }
}
