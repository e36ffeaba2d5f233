//! Models as `.keras` archives: read what Keras 3 saved, write what its `load_model` opens.

use std::time::{SystemTime, UNIX_EPOCH};

use flambeau_formats::Array;
use flambeau_formats::keras_archive::{Archive, Metadata};
use flambeau_formats::weights_h5::{LayerWeights, OptimizerWeights, WeightsFile};
use serde_json::Value as Json;
use tch::{Kind, Tensor};

use crate::blueprint::Blueprint;
use crate::error::{Error, Result};
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

impl Model {
    /// Reads a `.keras` archive with its weights, or the JSON text of a config.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, Loaded)> {
        if !bytes.starts_with(b"PK") {
            let text = String::from_utf8_lossy(bytes);
            return Self::from_config(python_json::parse(&text)?);
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
    pub fn to_archive(&self, compile: Option<&Json>, optimizer: Option<&Optimizer>) -> Result<Vec<u8>> {
        let mut config = self.config().clone();
        if let Some(compile) = compile {
            config["compile_config"] = compile.clone();
        }
        let layers = self.weight_groups().iter().map(|group| {
            let vars = group.handles.iter().map(|&handle| {
                let tensor = self.variables().tensor(handle);
                let values = tensor.f_detach()?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
                Ok(Array {
                    shape: self.variables().variable(handle).sizes(),
                    data: Vec::try_from(values)?,
                })
            });
            Ok(LayerWeights {
                group: group.group.clone(),
                name: group.name.clone(),
                vars: vars.collect::<Result<_>>()?,
            })
        });
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let archive = Archive {
            metadata: Metadata::at(now.as_secs()),
            config: python_json::print(&config),
            weights: WeightsFile {
                layers: layers.collect::<Result<_>>()?,
                optimizer: optimizer.map(optimizer_weights),
            },
        };
        archive.to_bytes().map_err(|source| Error::Archive {
            action: "written",
            source,
        })
    }

    fn load(&mut self, weights: &WeightsFile) -> Result<()> {
        for group in self.weight_groups().to_vec() {
            let layer = weights.layer(&group.group);
            let vars = layer.map(|layer| layer.vars.as_slice()).unwrap_or_default();
            for (handle, array) in group.handles.iter().zip(vars) {
                let value = Tensor::f_from_slice(&array.data)?;
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
            let layer = weights.layer(&group.group);
            let vars = layer.map(|layer| layer.vars.as_slice()).unwrap_or_default();
            if vars.len() != group.handles.len() {
                return Err(Error::WeightsMismatch {
                    place: format!("layer \"{}\" (group {})", group.name, group.group),
                    reason: format!("{} variables, expected {}", vars.len(), group.handles.len()),
                });
            }
            for (handle, array) in group.handles.iter().zip(vars) {
                let declared = &self.declared[handle.0];
                let sizes = declared.shape.iter().map(|&size| usize::try_from(size).ok());
                if sizes.collect::<Option<Vec<_>>>().as_ref() != Some(&array.shape) {
                    let expected = &declared.shape;
                    return Err(Error::WeightsMismatch {
                        place: format!("variable {}", declared.path),
                        reason: format!("shape {:?}, expected {expected:?}", array.shape),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Keras's order: iteration, learning rate unless a schedule computes it, then the slots.
fn optimizer_weights(optimizer: &Optimizer) -> OptimizerWeights {
    let mut weights = OptimizerWeights {
        iteration: 0,
        learning_rate: None,
        slots: Vec::new(),
    };
    for variable in optimizer.keras_variables() {
        match variable.value {
            OptimizerValue::Integer(iteration) => weights.iteration = iteration,
            OptimizerValue::Floats([rate]) if variable.name == "learning_rate" => {
                weights.learning_rate = Some(*rate);
            }
            OptimizerValue::Floats(values) => {
                let sizes = variable
                    .shape
                    .iter()
                    .map(|&size| usize::try_from(size).unwrap_or(0));
                weights.slots.push(Array {
                    shape: sizes.collect(),
                    data: values.to_vec(),
                });
            }
        }
    }
    weights
}
