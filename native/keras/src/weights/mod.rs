//! Weights that come from files, brought to the variables of a model, and the other way round.
//!
//! Each format finds a model's variables by its own rule: Keras 3 by the groups of its weights
//! file, the legacy format by the position of the layers, TensorFlow's checkpoints by the graph of
//! the objects that were saved.

mod checkpoint;
mod groups;
mod legacy;

use std::borrow::Cow;

use flambeau_formats::bundle::Index;
use flambeau_formats::keras_archive::Archive;
use flambeau_formats::legacy_h5::LegacyFile;
use flambeau_formats::weights_h5::WeightsFile;
use flambeau_formats::{Array, Error as FormatError};
use tch::{Kind, Tensor};

use crate::blueprint::WeightGroup;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::optimizers::{OptimizerValue, SavedVariable};
use crate::scope::Declared;
use crate::variables::Handle;

pub(crate) use legacy::document;

/// How HDF5 files begin.
pub(crate) const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// The weights of a file.
#[derive(Debug)]
pub enum Weights {
    /// Those of a `.weights.h5` file, or in a `.keras` archive.
    Groups(WeightsFile),
    /// Those of a `.h5` file in the legacy format.
    Legacy(LegacyFile),
    /// TensorFlow's checkpoint: the index and the contents of all data files.
    Checkpoint(Index, Vec<Vec<u8>>),
}

/// A model's variables as files are compared with them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets<'a> {
    pub(crate) config: &'a serde_json::Value,
    pub(crate) name: &'a str,
    pub(crate) groups: &'a [WeightGroup],
    /// By handle.
    pub(crate) declared: &'a [Declared],
}

/// What a file holds for the variables of one layer.
pub(crate) type Part<'f> = Result<Vec<(Handle, Cow<'f, Array>)>>;

/// What a file holds for a model, by variable.
pub(crate) type Found<'f> = Vec<(Handle, Cow<'f, Array>)>;

impl Weights {
    /// Reads the contents of one `.keras`, `.weights.h5` or `.h5` file, or of a checkpoint of
    /// TensorFlow: its index file first, then its data files in their order.
    ///
    /// # Errors
    /// [`Error::Archive`] if they are damaged or of another format.
    pub fn from_files(files: &[impl AsRef<[u8]>]) -> Result<Self> {
        let Some((first, others)) = files.split_first() else {
            return Err(Error::WeightsMismatch {
                place: "weights".to_owned(),
                reason: "nothing: no file is given".to_owned(),
            });
        };
        let first = first.as_ref();
        if first.starts_with(b"PK") {
            return Archive::from_bytes(first)
                .map(|archive| Self::Groups(archive.weights))
                .map_err(read);
        }
        if first.starts_with(HDF5) {
            return match WeightsFile::from_bytes(first.to_vec()) {
                Ok(file) => Ok(Self::Groups(file)),
                Err(FormatError::Unsupported { .. }) => {
                    let file = LegacyFile::from_bytes(first.to_vec());
                    file.map(Self::Legacy).map_err(read)
                }
                Err(error) => Err(read(error)),
            };
        }
        let index = Index::from_bytes("the checkpoint's index", first).map_err(read)?;
        let shards = others.iter().map(|shard| shard.as_ref().to_vec());
        Ok(Self::Checkpoint(index, shards.collect()))
    }

    /// What is in the file for each layer that has variables.
    fn parts<'f>(&'f self, targets: Targets<'_>) -> Result<Vec<Part<'f>>> {
        match self {
            Self::Groups(file) => Ok(groups::parts(file, targets)),
            Self::Legacy(file) => legacy::parts(&file.layers, targets),
            Self::Checkpoint(index, shards) => checkpoint::parts(index, shards, targets),
        }
    }

    /// What is in the file for the model's variables, all of it compared with what they are.
    /// With `skip_mismatch`, layers that the file does not hold as they are stay out.
    ///
    /// # Errors
    /// [`Error::WeightsMismatch`] names the first layer or variable that differs; with
    /// `skip_mismatch`, if nothing is left.
    pub(crate) fn find(&self, targets: Targets<'_>, skip_mismatch: bool) -> Result<Found<'_>> {
        let mut found = Vec::new();
        let mut skipped = None;
        for part in self.parts(targets)? {
            match part.and_then(|part| compare(part, targets.declared)) {
                Ok(part) => found.extend(part),
                Err(error @ Error::WeightsMismatch { .. }) if skip_mismatch => {
                    skipped.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match skipped {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// The variables of the optimizer that were saved with the weights, in Keras's order. Empty if
    /// there are none, or in a checkpoint of TensorFlow.
    pub(crate) fn optimizer(&self) -> Result<Vec<OptimizerArray>> {
        match self {
            Self::Groups(file) => groups::optimizer(file),
            Self::Legacy(file) => {
                let arrays = file.optimizer.iter().map(|(_, array)| array);
                arrays.map(OptimizerArray::read).collect()
            }
            Self::Checkpoint(..) => Ok(Vec::new()),
        }
    }
}

/// A variable of an optimizer in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerArray {
    shape: Vec<i64>,
    values: OptimizerValues,
}

#[derive(Debug, Clone, PartialEq)]
enum OptimizerValues {
    Int64(i64),
    Int32(i32),
    Float32(Vec<f32>),
}

impl OptimizerArray {
    fn read(array: &Array) -> Result<Self> {
        use flambeau_formats::DType;
        let shape = array.shape().iter();
        let shape = shape.map(|&size| i64::try_from(size).unwrap_or(i64::MAX));
        let values = match (array.dtype(), array.integer()) {
            (DType::Int32, Some(value)) => {
                OptimizerValues::Int32(i32::try_from(value).unwrap_or(i32::MAX))
            }
            (_, Some(value)) => OptimizerValues::Int64(value),
            (_, None) => OptimizerValues::Float32(array.to_f32().map_err(read)?),
        };
        Ok(Self {
            shape: shape.collect(),
            values,
        })
    }

    /// As [`Optimizer::set_keras_variables`](crate::Optimizer::set_keras_variables) takes it.
    pub fn saved(&self) -> SavedVariable<'_> {
        let value = match &self.values {
            OptimizerValues::Int64(value) => OptimizerValue::Int64(*value),
            OptimizerValues::Int32(value) => OptimizerValue::Int32(*value),
            OptimizerValues::Float32(values) => OptimizerValue::Float32(values),
        };
        (&self.shape, value)
    }
}

/// Compares shapes.
fn compare<'f>(part: Found<'f>, declared: &[Declared]) -> Result<Found<'f>> {
    for (handle, array) in &part {
        let declared = &declared[handle.0];
        let sizes = declared.shape.iter();
        let sizes = sizes.map(|&size| usize::try_from(size).ok());
        if sizes.collect::<Option<Vec<_>>>().as_deref() != Some(array.shape()) {
            return Err(Error::WeightsMismatch {
                place: format!("variable {}", declared.path),
                reason: format!("shape {:?}, expected {:?}", array.shape(), declared.shape),
            });
        }
    }
    Ok(part)
}

impl Model {
    /// Takes over what a file holds: of variables that are split, the part that is here.
    pub(crate) fn take(&mut self, found: &Found<'_>) -> Result<()> {
        for (handle, array) in found {
            // Its rows are elsewhere.
            if self.variables().variable(*handle).is_empty() {
                continue;
            }
            let value = match array.integer() {
                Some(count) => Tensor::from(count),
                None => Tensor::f_from_slice(&array.to_f32().map_err(read)?)?,
            };
            self.variables_mut().set_whole(*handle, &value)?;
        }
        Ok(())
    }

    /// A variable as files hold it: in its own dtype if it counts, else in float32.
    pub(crate) fn array(&self, handle: Handle) -> Result<Array> {
        let tensor = self.variables().tensor(handle);
        let values = tensor.f_detach()?.f_reshape([-1])?;
        let shape = self.variables().variable(handle).sizes();
        let array = match values.f_kind()? {
            Kind::Int64 => Array::new(shape, Vec::<i64>::try_from(values)?),
            _ => Array::new(shape, Vec::<f32>::try_from(values.f_to_kind(Kind::Float)?)?),
        };
        array.map_err(written)
    }
}

fn read(source: FormatError) -> Error {
    Error::Archive {
        action: "read",
        source,
    }
}

pub(crate) fn written(source: FormatError) -> Error {
    Error::Archive {
        action: "written",
        source,
    }
}

/// A layer's variables, or the mismatch of their number.
fn zipped<'f>(
    name: &str,
    handles: &[Handle],
    arrays: impl ExactSizeIterator<Item = &'f Array>,
) -> Part<'f> {
    if arrays.len() != handles.len() {
        return Err(Error::WeightsMismatch {
            place: format!("layer \"{name}\""),
            reason: format!("{} variables, expected {}", arrays.len(), handles.len()),
        });
    }
    let pairs = handles.iter().copied().zip(arrays.map(Cow::Borrowed));
    Ok(pairs.collect())
}

#[cfg(test)]
mod tests;
