//! The resume format: one safetensors file per checkpoint, complete or absent, never in between.
//!
//! `ckpt-<step>.safetensors` holds tensors by name. Its `__metadata__` has one key,
//! `flambeau`: JSON text with the step, the caller's manifest and a CRC-32C of each tensor and of
//! the manifest, since safetensors itself carries no checksum.

pub mod stretches;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::{Array, Error, Result};

/// Key of the metadata in the header of a safetensors file, beside the tensors' names.
const RESERVED_NAME: &str = "__metadata__";
const METADATA_KEY: &str = "flambeau";
const PREFIX: &str = "ckpt-";
const EXTENSION: &str = ".safetensors";
pub(crate) const TEMPORARY: &str = ".tmp";

/// The state of a training run after `step` updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Updates done so far.
    pub step: u64,
    /// Whatever else the run needs to go on.
    pub manifest: serde_json::Value,
    /// The tensors, in the caller's order; names must differ.
    pub tensors: Vec<(String, Array)>,
}

/// The content of the metadata key. The manifest is kept as text, so that its checksum is that of
/// the bytes that were written.
#[derive(Serialize, Deserialize)]
struct Header {
    step: u64,
    manifest: String,
    manifest_crc32c: u32,
    tensors: Vec<(String, u32)>,
}

impl Checkpoint {
    /// The safetensors file in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the tensor, if a name occurs twice or a shape does not match.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut names = HashSet::new();
        for (name, _) in &self.tensors {
            if name == RESERVED_NAME {
                let reason = "safetensors keeps this name for itself";
                return Err(Error::invalid(tensor_place(name), reason));
            }
            if !names.insert(name) {
                let reason = "two tensors have this name";
                return Err(Error::invalid(tensor_place(name), reason));
            }
        }
        let manifest = self.manifest.to_string();
        let header = Header {
            step: self.step,
            manifest_crc32c: manifest_checksum(self.step, &manifest),
            manifest,
            tensors: self.tensors.iter().map(checksum_entry).collect(),
        };
        let header = serde_json::to_string(&header)
            .map_err(|e| Error::invalid("the checkpoint's manifest", e.to_string()))?;
        let tensors = self.tensors.iter().map(|(name, array)| (name, Lent(array)));
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), header)]);
        safetensors::serialize(tensors, Some(metadata))
            .map_err(|e| Error::invalid("the checkpoint", e.to_string()))
    }

    /// Reads a safetensors file in memory that [`Checkpoint::to_bytes`] made. `place` names it in
    /// errors.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the tensor; [`Error::Unsupported`] if the file is not a
    /// checkpoint of ours.
    pub fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| Error::corrupt_because(place, e))?;
        let (_, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|e| Error::corrupt_because(place, e))?;
        let header = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get(METADATA_KEY));
        let Some(header) = header else {
            let reason = "it is no checkpoint written by Flambeau";
            return Err(Error::unsupported(place, reason));
        };
        let header: Header =
            serde_json::from_str(header).map_err(|e| Error::corrupt_because(place, e))?;
        if manifest_checksum(header.step, &header.manifest) != header.manifest_crc32c {
            let reason = "the checksum of its manifest does not match";
            return Err(Error::corrupt(place, reason));
        }
        let (listed, held) = (header.tensors.len(), file.len());
        let names: HashSet<_> = header.tensors.iter().map(|(name, _)| name).collect();
        if listed != held || names.len() != held {
            let reason = format!("its manifest lists {listed} tensors where it holds {held}");
            return Err(Error::corrupt(place, reason));
        }
        let tensors = header
            .tensors
            .iter()
            .map(|entry| tensor(place, &file, entry));
        Ok(Checkpoint {
            step: header.step,
            manifest: serde_json::from_str(&header.manifest)
                .map_err(|e| Error::corrupt_because(place, e))?,
            tensors: tensors.collect::<Result<_>>()?,
        })
    }
}

/// Writes `ckpt-<step>.safetensors` into `dir`, which must exist, and returns its path. The file is
/// on disk, complete, when this returns; a crash before leaves at most a `.tmp` file behind.
///
/// # Errors
/// [`Error::Invalid`] as [`Checkpoint::to_bytes`]; [`Error::Io`] naming the path.
pub fn write(dir: &Path, checkpoint: &Checkpoint) -> Result<PathBuf> {
    replace_file(dir, &file_name(checkpoint.step), &checkpoint.to_bytes()?)
}

/// Reads the checkpoint at `path`.
///
/// # Errors
/// [`Error::Io`], or as [`Checkpoint::from_bytes`].
pub fn read(path: &Path) -> Result<Checkpoint> {
    let bytes = fs::read(path).map_err(|e| Error::io(format!("reading {}", path.display()), e))?;
    Checkpoint::from_bytes(&path.display().to_string(), &bytes)
}

/// The file of the checkpoint of `step`.
pub fn file_name(step: u64) -> String {
    format!("{PREFIX}{step}{EXTENSION}")
}

/// The step of the checkpoint in a file of this name.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix(PREFIX)?.strip_suffix(EXTENSION)?;
    step.parse().ok().filter(|&step| file_name(step) == name)
}

/// Puts `bytes` under `name` in `dir` so that a reader finds the old content or the new, whenever
/// this process or the machine stops: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn replace_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = dir.join(name);
    let temporary = dir.join(format!("{name}{TEMPORARY}"));
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    if let Err(error) = written {
        // The first error is the one to report; the file may not even exist.
        let _ = fs::remove_file(&temporary);
        let doing = format!("writing {} ({} bytes)", path.display(), bytes.len());
        return Err(Error::io(doing, error));
    }
    Ok(path)
}

fn tensor(place: &str, file: &SafeTensors<'_>, entry: &(String, u32)) -> Result<(String, Array)> {
    let (name, checksum) = entry;
    let place = format!("{} of {place}", tensor_place(name));
    let view = file
        .tensor(name)
        .map_err(|e| Error::corrupt_because(&place, e))?;
    let Some((dtype, _)) = DTYPES.iter().find(|(_, dtype)| *dtype == view.dtype()) else {
        let reason = format!("its elements are {}, no dtype of Keras", view.dtype());
        return Err(Error::corrupt(place, reason));
    };
    let array = Array::from_le_bytes(*dtype, view.shape().to_vec(), view.data().to_vec())
        .map_err(|e| Error::corrupt_because(&place, e))?;
    let entry = (name.clone(), array);
    if checksum_entry(&entry).1 != *checksum {
        return Err(Error::corrupt(place, "its checksum does not match"));
    }
    Ok(entry)
}

/// What safetensors calls our types.
const DTYPES: [(DType, Dtype); 13] = [
    (DType::Float32, Dtype::F32),
    (DType::Float64, Dtype::F64),
    (DType::Float16, Dtype::F16),
    (DType::BFloat16, Dtype::BF16),
    (DType::Int8, Dtype::I8),
    (DType::Int16, Dtype::I16),
    (DType::Int32, Dtype::I32),
    (DType::Int64, Dtype::I64),
    (DType::UInt8, Dtype::U8),
    (DType::UInt16, Dtype::U16),
    (DType::UInt32, Dtype::U32),
    (DType::UInt64, Dtype::U64),
    (DType::Bool, Dtype::BOOL),
];

/// A tensor's name with the checksum of its type, shape and elements. A float32 tensor's leaves
/// its type out, as those of the first version did.
fn checksum_entry((name, array): &(String, Array)) -> (String, u32) {
    let mut described = format!("{:?}", array.shape());
    if array.dtype() != DType::Float32 {
        described.insert_str(0, array.dtype().name());
    }
    let described = crc32c::crc32c(described.as_bytes());
    let checksum = crc32c::crc32c_append(described, array.bytes());
    (name.clone(), checksum)
}

fn manifest_checksum(step: u64, manifest: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&step.to_le_bytes()), manifest.as_bytes())
}

fn tensor_place(name: &str) -> String {
    format!("tensor {name:?}")
}

/// An array as safetensors wants to see it.
struct Lent<'a>(&'a Array);

impl View for Lent<'_> {
    fn dtype(&self) -> Dtype {
        let ours = DTYPES.iter().find(|(ours, _)| *ours == self.0.dtype());
        ours.map_or(Dtype::F32, |(_, dtype)| *dtype)
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn sample() -> Checkpoint {
        let kernel = Array::new(vec![2, 2], [1.0, -2.5, f32::MIN_POSITIVE, 4.0]).unwrap();
        Checkpoint {
            step: 469,
            manifest: json!({"epoch": 1, "loss": 0.1 + 0.2, "rank": [0, 1]}),
            tensors: vec![
                ("dense/kernel".into(), kernel),
                ("a/scalar".into(), Array::scalar(7.0)),
                ("empty".into(), Array::new::<f64>(vec![0], []).unwrap()),
                ("count".into(), Array::from(-1_i64)),
                ("mask".into(), Array::new(vec![2], [true, false]).unwrap()),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &sample()).unwrap();
        assert_eq!(path, dir.path().join("ckpt-469.safetensors"));
        assert_eq!(read(&path).unwrap(), sample());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn equal_checkpoints_have_equal_bytes() {
        assert_eq!(sample().to_bytes().unwrap(), sample().to_bytes().unwrap());
    }

    #[test]
    fn every_one_byte_change_is_an_error_or_changes_nothing() {
        let clean = sample().to_bytes().unwrap();
        for at in 0..clean.len() {
            for change in 1..=255_u8 {
                let mut bytes = clean.clone();
                bytes[at] ^= change;
                if let Ok(checkpoint) = Checkpoint::from_bytes("test", &bytes) {
                    assert_eq!(checkpoint, sample(), "byte {at} xor {change}");
                }
            }
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        let clean = sample().to_bytes().unwrap();
        for end in 0..clean.len() {
            assert!(
                Checkpoint::from_bytes("test", &clean[..end]).is_err(),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn a_damaged_tensor_is_named() {
        let mut bytes = sample().to_bytes().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let message = Checkpoint::from_bytes("ckpt-469.safetensors", &bytes).unwrap_err();
        assert_eq!(
            message.to_string(),
            "tensor \"mask\" of ckpt-469.safetensors is damaged: its checksum does not \
             match; take another copy of it"
        );
    }

    #[test]
    fn contradictory_tensors_are_refused_by_name() {
        let mut twice = sample();
        twice.tensors[1].0 = "dense/kernel".into();
        let message = twice.to_bytes().unwrap_err().to_string();
        assert_eq!(
            message,
            "tensor \"dense/kernel\" cannot be written: two tensors have this name"
        );
        let mut reserved = sample();
        reserved.tensors[0].0 = RESERVED_NAME.into();
        assert!(matches!(reserved.to_bytes(), Err(Error::Invalid { .. })));
    }

    #[test]
    fn a_failed_write_names_the_path_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("ckpt-469.safetensors");
        fs::create_dir(&blocked).unwrap();
        let message = write(dir.path(), &sample()).unwrap_err().to_string();
        assert!(
            message.contains(&blocked.display().to_string()),
            "{message}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn someone_elses_safetensors_file_is_not_taken_for_a_checkpoint() {
        let array = Array::scalar(1.0);
        let bytes = safetensors::serialize([("a", Lent(&array))], None).unwrap();
        let error = Checkpoint::from_bytes("a.safetensors", &bytes).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_tensors_survive(
            tensors in prop::collection::hash_map(".{0,8}", prop::collection::vec(any::<f32>(), 0..8), 0..8),
            step: u64,
        ) {
            let tensors = tensors.into_iter().map(|(name, data)| (name, Array::new(vec![data.len()], data).unwrap()));
            let checkpoint = Checkpoint { step, manifest: json!(null), tensors: tensors.collect() };
            let bytes = checkpoint.to_bytes().unwrap();
            prop_assert_eq!(Checkpoint::from_bytes("test", &bytes).unwrap(), checkpoint);
        }
    }
}
