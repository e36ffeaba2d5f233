//! A trained model on its way into files, one array after the other: a file is laid out by types and
//! shapes, and the elements of an array are copied only while they are written. So an export takes memory
//! for the largest variable, and variables may come from a checkpoint that is stretched over a disk.

use std::borrow::Cow;
use std::io::{Cursor, Seek, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use flambeau_formats::checkpoint::stretches::Reader;
use flambeau_formats::keras_archive::{Archive, Metadata};
use flambeau_formats::{Array, DType, Error as FormatError, Result as FormatResult, ToArray};
use serde_json::Value as Json;
use tch::Kind;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::optimizers::{Optimizer, OptimizerValue, OptimizerVariable};
use crate::python_json;
use crate::variables::Handle;
use crate::weights::written;

/// What is written of a model, in whichever format.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// The model, of whose weights some may be [elsewhere](Self::elsewhere).
    pub model: &'a Model,
    /// Keras's `compile_config`, if it goes along.
    pub compile: Option<&'a Json>,
    /// The optimizer, if its state goes along.
    pub optimizer: Option<&'a Optimizer>,
    /// A checkpoint that has the weights of which the model has none, by their paths.
    pub elsewhere: Option<&'a Reader>,
}

impl<'a> Export<'a> {
    /// The model alone, as it is in memory.
    pub fn of(model: &'a Model) -> Self {
        Self {
            model,
            compile: None,
            optimizer: None,
            elsewhere: None,
        }
    }

    /// Writes a `.keras` archive.
    ///
    /// # Errors
    /// The model holds parts of variables only; a weight is nowhere; the sink fails.
    pub fn write_archive(&self, sink: impl Write + Seek) -> Result<()> {
        let mut config = self.model.config().clone();
        if let Some(compile) = self.compile {
            config["compile_config"] = compile.clone();
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let archive = Archive {
            metadata: Metadata::at(now.as_secs()),
            config: python_json::print(&config),
            weights: self.weights_file()?,
            assets: self.model.assets().files().clone(),
        };
        archive.write(sink).map_err(written)
    }

    /// A variable of the model.
    pub(crate) fn variable(&self, handle: Handle) -> Result<Stored<'a>> {
        let model = self.model;
        let variable = model.variables().variable(handle);
        let shape = variable.sizes();
        if model.variables().is_here(handle) {
            let dtype = match model.variables().tensor(handle).f_kind()? {
                Kind::Int64 => DType::Int64,
                _ => DType::Float32,
            };
            return Ok(Stored {
                dtype,
                shape,
                origin: Origin::Model(model, handle),
            });
        }
        let refused = |reason: String| Error::WeightsMismatch {
            place: format!("variable {}", variable.path),
            reason,
        };
        let Some(reader) = self.elsewhere else {
            return Err(refused(
                "not here, but in another stage of the model".to_owned(),
            ));
        };
        let mut all = reader.described();
        match all.find(|described| described.name == variable.path) {
            Some(described) if described.shape == shape => Ok(Stored {
                dtype: DType::Float32,
                shape,
                origin: Origin::Checkpoint(reader, &variable.path),
            }),
            Some(described) => Err(refused(format!(
                "shape {:?}, expected {shape:?}",
                described.shape
            ))),
            None => Err(refused("nothing for it".to_owned())),
        }
    }

    /// The optimizer's variables with their keys, in Keras's order: iteration, learning rate unless a
    /// schedule computes it, then everything else.
    pub(crate) fn optimizer_variables(&self) -> Vec<(String, Stored<'a>)> {
        let variables = self.optimizer.map(Optimizer::keras_variables);
        let variables = variables.unwrap_or_default().into_iter();
        let stored =
            variables.map(|variable| (variable.key.clone(), Stored::of_optimizer(&variable)));
        stored.collect()
    }
}

impl Model {
    /// The bytes of a `.keras` archive; see [`Export::write_archive`].
    ///
    /// # Errors
    /// As there.
    pub fn to_archive(
        &self,
        compile: Option<&Json>,
        optimizer: Option<&Optimizer>,
    ) -> Result<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        let export = Export {
            compile,
            optimizer,
            ..Export::of(self)
        };
        export.write_archive(&mut bytes)?;
        Ok(bytes.into_inner())
    }
}

/// An array that goes into a file.
#[derive(Debug)]
pub struct Stored<'a> {
    dtype: DType,
    shape: Vec<usize>,
    origin: Origin<'a>,
}

/// Where the elements are.
#[derive(Debug)]
enum Origin<'a> {
    Model(&'a Model, Handle),
    /// A float32 tensor, by its name.
    Checkpoint(&'a Reader, &'a str),
    Optimizer(OptimizerValue<'a>),
    Array(Cow<'a, Array>),
}

impl<'a> Stored<'a> {
    /// An array that is there.
    pub(crate) fn of(array: Cow<'a, Array>) -> Self {
        Self {
            dtype: array.dtype(),
            shape: array.shape().to_vec(),
            origin: Origin::Array(array),
        }
    }

    fn of_optimizer(variable: &OptimizerVariable<'a>) -> Self {
        let sizes = variable.shape.iter();
        let sizes = sizes.map(|&size| usize::try_from(size).unwrap_or(0));
        let (dtype, shape) = match variable.value {
            OptimizerValue::Int64(_) => (DType::Int64, Vec::new()),
            OptimizerValue::Int32(_) => (DType::Int32, Vec::new()),
            OptimizerValue::Float32(_) => (DType::Float32, sizes.collect()),
        };
        Self {
            dtype,
            shape,
            origin: Origin::Optimizer(variable.value),
        }
    }
}

impl ToArray for Stored<'_> {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn to_array(&self) -> FormatResult<Cow<'_, Array>> {
        let refused = |place: &str, reason: String| FormatError::Invalid {
            place: place.to_owned(),
            reason,
        };
        let array = match &self.origin {
            Origin::Array(array) => return Ok(Cow::Borrowed(array)),
            Origin::Model(model, handle) => model.array(*handle).map_err(|error| {
                let variable = model.variables().variable(*handle);
                refused(&variable.path, error.to_string())
            })?,
            Origin::Checkpoint(reader, name) => match reader.read(name)? {
                Some((_, values)) => Array::new(self.shape.clone(), values)?,
                None => return Err(refused(name, "the checkpoint does not have it".to_owned())),
            },
            Origin::Optimizer(OptimizerValue::Int64(value)) => Array::from(*value),
            Origin::Optimizer(OptimizerValue::Int32(value)) => Array::from(*value),
            Origin::Optimizer(OptimizerValue::Float32(values)) => {
                Array::new(self.shape.clone(), values)?
            }
        };
        Ok(Cow::Owned(array))
    }
}
