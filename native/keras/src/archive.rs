//! Models as `.keras` archives: read what Keras 3 saved, write what its `load_model` opens.

use std::time::{SystemTime, UNIX_EPOCH};

use flambeau_formats::Array;
use flambeau_formats::group_names;
use flambeau_formats::keras_archive::{Archive, Metadata};
use flambeau_formats::weights_h5::{LayerWeights, OptimizerWeights, WeightsFile};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::layers::Slot;
use crate::model::Model;
use crate::optimizers::{Optimizer, OptimizerValue};
use crate::variables::VariableStore;

/// What came with a model besides its config.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// Whether the variables were read too; else they are zeros.
    pub weights: bool,
    /// Keras's `compile_config`: optimizer, loss and metrics, if the model was compiled.
    pub compile: Option<Value>,
}

impl Model {
    /// Reads a `.keras` archive with its weights, or the JSON text of a config.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, Loaded)> {
        let parse = |text| serde_json::from_slice(text).map_err(Error::NotJson);
        if !bytes.starts_with(b"PK") {
            return Self::from_config(parse(bytes)?);
        }
        let archive = Archive::from_bytes(bytes).map_err(|source| Error::Archive {
            action: "read",
            source,
        })?;
        let (mut model, loaded) = Self::from_config(parse(archive.config.as_bytes())?)?;
        model.load(&archive.weights)?;
        Ok((
            model,
            Loaded {
                weights: true,
                ..loaded
            },
        ))
    }

    /// The bytes of a `.keras` archive with config and weights, and with `compile` (Keras's
    /// `compile_config`) and the state of `optimizer` if they are given.
    pub fn to_archive(
        &self,
        compile: Option<&Value>,
        optimizer: Option<&Optimizer>,
    ) -> Result<Vec<u8>> {
        let mut config = self.config().clone();
        if let Some(compile) = compile {
            config["compile_config"] = compile.clone();
        }
        let layers = self
            .groups()
            .into_iter()
            .map(|(group, name, slots)| {
                let vars = slots.iter().map(|slot| {
                    let store = self.store(*slot);
                    let shape = store.variables()[slot.index].sizes();
                    Array {
                        shape,
                        data: store.values(slot.index).to_vec(),
                    }
                });
                LayerWeights {
                    group,
                    name: name.to_owned(),
                    vars: vars.collect(),
                }
            })
            .collect();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let archive = Archive {
            metadata: Metadata::at(now.as_secs()),
            config: config.to_string(),
            weights: WeightsFile {
                layers,
                optimizer: optimizer.map(optimizer_weights),
            },
        };
        archive.to_bytes().map_err(|source| Error::Archive {
            action: "written",
            source,
        })
    }

    fn store(&self, slot: Slot) -> &VariableStore {
        if slot.trainable {
            self.trainable()
        } else {
            self.non_trainable()
        }
    }

    /// Group in the weights file, name and variables of every layer that has variables.
    fn groups(&self) -> Vec<(String, &str, &[Slot])> {
        // Keras's `model.layers` holds the InputLayer of a Functional model only.
        let sequential = self.config()["class_name"] == "Sequential";
        let layers: Vec<_> = self
            .layers()
            .filter(|(_, class, _)| !sequential || *class != "InputLayer")
            .collect();
        let classes: Vec<&str> = layers.iter().map(|(_, class, _)| *class).collect();
        let groups = group_names("", &classes).into_iter().zip(layers);
        groups
            .filter(|(_, (_, _, slots))| !slots.is_empty())
            .map(|(group, (name, _, slots))| (group, name, slots))
            .collect()
    }

    fn load(&mut self, weights: &WeightsFile) -> Result<()> {
        let mut found = Vec::new();
        for (group, name, slots) in self.groups() {
            let vars = weights
                .layer(&group)
                .map(|layer| layer.vars.as_slice())
                .unwrap_or_default();
            if vars.len() != slots.len() {
                return Err(Error::WeightsMismatch {
                    place: format!("layer \"{name}\" (group {group})"),
                    reason: format!("{} variables, expected {}", vars.len(), slots.len()),
                });
            }
            for (slot, array) in slots.iter().zip(vars) {
                let variable = &self.store(*slot).variables()[slot.index];
                let expected = variable.sizes();
                if array.shape != expected {
                    return Err(Error::WeightsMismatch {
                        place: format!("variable {}", variable.path),
                        reason: format!("shape {:?}, expected {expected:?}", array.shape),
                    });
                }
                found.push((*slot, &array.data));
            }
        }
        for (slot, values) in found {
            let store = if slot.trainable {
                self.trainable_mut()
            } else {
                self.non_trainable_mut()
            };
            store.set(slot.index, values)?;
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
