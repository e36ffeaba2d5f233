//! Models as `.keras` archives: read what Keras 3 saved, write what its `load_model` opens.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use flambeau_formats::Array;
use flambeau_formats::keras_archive::{Archive, Metadata};
use flambeau_formats::weights_h5::{Variables, WeightsFile};
use serde_json::Value as Json;
use tch::{Kind, Tensor};

use crate::blueprint::Blueprint;
use crate::error::{Error, Result};
use crate::freeze::freeze;
use crate::model::Model;
use crate::optimizers::{Optimizer, OptimizerValue};
use crate::python_json;

/// What came with a model besides its config.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// Whether the variables were read too; else they are zeros.
    pub weights: bool,
    /// Keras's `compile_config`: optimizer, loss and metrics, if the model was compiled.
    pub compile: Option<Json>,
}

/// How a model is read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Layers that keep their weights, by name: as if `trainable=False` had been set on them.
    pub frozen_layers: Vec<String>,
}

impl Model {
    /// Reads a `.keras` archive with its weights, or the JSON text of a config.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, Loaded)> {
        Self::read(bytes, &ReadOptions::default())
    }

    /// As [`Self::from_bytes`], with options.
    pub fn read(bytes: &[u8], options: &ReadOptions) -> Result<(Self, Loaded)> {
        let parse = |text: &str| -> Result<Json> {
            let mut document = python_json::parse(text)?;
            freeze(&mut document, &options.frozen_layers)?;
            Ok(document)
        };
        if !bytes.starts_with(b"PK") {
            let text = String::from_utf8_lossy(bytes);
            return Self::from_config(parse(&text)?);
        }
        let archive = Archive::from_bytes(bytes).map_err(|source| Error::Archive {
            action: "read",
            source,
        })?;
        let blueprint = Blueprint::read(python_json::parse(&archive.config)?)?;
        let compile = blueprint.compile.clone();
        // Weights are compared with the config before the model takes any memory.
        blueprint.check(&archive.weights)?;
        let mut model = blueprint.allocate()?;
        model.load(&archive.weights)?;
        let loaded = Loaded {
            weights: true,
            compile,
        };
        Ok((model, loaded))
    }

    /// The bytes of a `.keras` archive with config and weights, and with `compile` (Keras's
    /// `compile_config`) and the state of `optimizer` if they are given.
    pub fn to_archive(
        &self,
        compile: Option<&Json>,
        optimizer: Option<&Optimizer>,
    ) -> Result<Vec<u8>> {
        let mut config = self.config().clone();
        if let Some(compile) = compile {
            config["compile_config"] = compile.clone();
        }
        let written = |source| Error::Archive {
            action: "written",
            source,
        };
        let mut groups = BTreeMap::new();
        for group in self.weight_groups() {
            let vars = group.handles.iter().map(|&handle| {
                let tensor = self.variables().tensor(handle);
                let values = tensor.f_detach()?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
                let shape = self.variables().variable(handle).sizes();
                Array::new(shape, Vec::<f32>::try_from(values)?).map_err(written)
            });
            let vars = vars.collect::<Result<_>>()?;
            groups.insert(group.group.clone(), Variables::new(&group.name, vars));
        }
        if let Some(optimizer) = optimizer {
            let vars = optimizer_weights(optimizer).map_err(written)?;
            groups.insert("optimizer".into(), Variables::new("", vars));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let archive = Archive {
            metadata: Metadata::at(now.as_secs()),
            config: python_json::print(&config),
            weights: WeightsFile { groups },
            assets: BTreeMap::new(),
        };
        archive.to_bytes().map_err(written)
    }

    fn load(&mut self, weights: &WeightsFile) -> Result<()> {
        for group in self.weight_groups().to_vec() {
            let layer = weights.group(&group.group);
            let vars = layer.map(|layer| layer.vars.as_slice()).unwrap_or_default();
            for (handle, array) in group.handles.iter().zip(vars) {
                let values = array.to_f32().map_err(|source| Error::Archive {
                    action: "read",
                    source,
                })?;
                let value = Tensor::f_from_slice(&values)?;
                self.variables_mut().set(*handle, &value)?;
            }
        }
        Ok(())
    }
}

impl Blueprint {
    /// Compares a file's weights with what the config asks for.
    fn check(&self, weights: &WeightsFile) -> Result<()> {
        for group in self.groups() {
            let layer = weights.group(&group.group);
            let vars = layer.map(|layer| layer.vars.as_slice()).unwrap_or_default();
            if vars.len() != group.handles.len() {
                return Err(Error::WeightsMismatch {
                    place: format!("layer \"{}\" (group {})", group.name, group.group),
                    reason: format!("{} variables, expected {}", vars.len(), group.handles.len()),
                });
            }
            for (handle, array) in group.handles.iter().zip(vars) {
                let declared = &self.declared[handle.0];
                let sizes = declared
                    .shape
                    .iter()
                    .map(|&size| usize::try_from(size).ok());
                if sizes.collect::<Option<Vec<_>>>().as_deref() != Some(array.shape()) {
                    let expected = &declared.shape;
                    return Err(Error::WeightsMismatch {
                        place: format!("variable {}", declared.path),
                        reason: format!("shape {:?}, expected {expected:?}", array.shape()),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Keras's order: iteration, learning rate unless a schedule computes it, then everything else.
fn optimizer_weights(optimizer: &Optimizer) -> flambeau_formats::Result<Vec<Array>> {
    let variables = optimizer.keras_variables().into_iter();
    variables
        .map(|variable| match variable.value {
            OptimizerValue::Int64(value) => Ok(Array::from(value)),
            OptimizerValue::Int32(value) => Ok(Array::from(value)),
            OptimizerValue::Float32(values) => {
                let sizes = variable.shape.iter();
                let sizes = sizes.map(|&size| usize::try_from(size).unwrap_or(0));
                Array::new(sizes.collect(), values)
            }
        })
        .collect()
}
