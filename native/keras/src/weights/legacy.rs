//! The legacy `.h5` format: layers by position among those that have weights, each with its
//! trainable variables first (`keras/src/legacy/saving/legacy_h5_format.py`).
//!
//! Where the file's names are the model's, the names decide: the order of layers changes when a
//! function of TensorFlow in Keras 2's model becomes several operations.

use std::collections::HashMap;

use flambeau_formats::keras_archive::KERAS_VERSION;
use flambeau_formats::legacy_h5::{LegacyFile, NamedWeights};
use serde_json::Value as Json;

use super::{Part, Targets, zipped};
use crate::assets::Assets;
use crate::blueprint::Blueprint;
use crate::error::{Error, Result};
use crate::export::{Export, Stored};
use crate::losses::registry::Class;
use crate::model::Model;
use crate::python_json;
use crate::scope::Declared;
use crate::tensor_group::TensorPart;
use crate::variables::Handle;

/// A layer of the model itself, with the variables of all that it holds.
struct Top {
    name: String,
    handles: Vec<Handle>,
}

pub(super) fn parts<'f>(
    layers: &'f [(String, NamedWeights)],
    targets: Targets<'_>,
) -> Result<Vec<Part<'f>>> {
    let saved: Vec<_> = layers
        .iter()
        .filter(|(_, weights)| !weights.is_empty())
        .collect();
    let own = tops(targets.declared);
    if saved.len() != own.len() {
        return Err(Error::WeightsMismatch {
            place: format!("model \"{}\"", targets.name),
            reason: format!(
                "{} layers with weights, expected {}",
                saved.len(),
                own.len()
            ),
        });
    }
    let by_name: HashMap<&str, &NamedWeights> = saved
        .iter()
        .map(|(name, weights)| (name.as_str(), weights))
        .collect();
    let named = |top: &Top| by_name.get(top.name.as_str()).copied();
    let same = own.iter().all(|top| named(top).is_some());
    let pairs = own.iter().zip(saved).map(|(top, (_, by_position))| {
        let weights = named(top).filter(|_| same).unwrap_or(by_position);
        let arrays = weights.iter().map(|(_, array)| array);
        zipped(&top.name, &top.handles, arrays)
    });
    Ok(pairs.collect())
}

/// The model's layers that have variables, in the order of `model.layers`.
fn tops(declared: &[Declared]) -> Vec<Top> {
    let mut handles: Vec<Handle> = (0..declared.len()).map(Handle).collect();
    let learns = |declared: &Declared| declared.trainable && !declared.frozen;
    handles.sort_by_key(|handle| {
        let declared = &declared[handle.0];
        let layer = declared.order.first().copied();
        (layer, !learns(declared), &declared.order)
    });
    let mut tops: Vec<Top> = Vec::new();
    let mut last = None;
    for handle in handles {
        let declared = &declared[handle.0];
        let layer = declared.order.first();
        if layer != last || tops.is_empty() {
            last = layer;
            let name = declared.path.split('/').next().unwrap_or_default();
            tops.push(Top {
                name: name.to_owned(),
                handles: Vec::new(),
            });
        }
        if let Some(top) = tops.last_mut() {
            top.handles.push(handle);
        }
    }
    tops
}

/// The document of a `.keras` archive for what the file says of the model.
///
/// # Errors
/// The file holds weights only, or text that is not JSON.
pub(crate) fn document(file: &LegacyFile) -> Result<Json> {
    let Some(config) = &file.model_config else {
        return Err(Error::Unsupported {
            place: "the model's .h5 file".to_owned(),
            what: "a file with weights only".to_owned(),
            supported: "one that model.save() wrote; this one has only weights to start from"
                .to_owned(),
        });
    };
    let mut document = python_json::parse(config)?;
    if let Some(training) = &file.training_config {
        let mut compile = python_json::parse(training)?;
        if let Some(optimizer) = compile.get_mut("optimizer_config").map(Json::take) {
            compile["optimizer"] = optimizer;
        }
        document["compile_config"] = compile;
    }
    Ok(document)
}

/// Gives losses the names of their functions: Keras opens no legacy file in which they are called
/// "mse", since it takes that for the name of a metric.
fn without_aliases(losses: &mut Json) {
    match losses {
        Json::String(name) => {
            if let Some(class) = Class::by_alias(name) {
                class.function.clone_into(name);
            }
        }
        Json::Array(losses) => losses.iter_mut().for_each(without_aliases),
        Json::Object(by_output) if !by_output.contains_key("class_name") => {
            by_output.values_mut().for_each(without_aliases);
        }
        _ => {}
    }
}

impl Model {
    /// Checks that a legacy file can hold the model: it has no place for a vocabulary that is in
    /// no config.
    ///
    /// # Errors
    /// Names the layer that would be lost, as reading the file would.
    pub fn check_legacy_file(&self) -> Result<()> {
        Blueprint::read(self.config().clone(), Assets::default(), TensorPart::WHOLE).map(|_| ())
    }
}

impl<'a> Export<'a> {
    /// The legacy file of the model, with what was compiled and the state of the optimizer if they go along.
    ///
    /// # Errors
    /// As [`Model::check_legacy_file`]; a weight is nowhere.
    pub fn legacy_file(&self) -> Result<LegacyFile<Stored<'a>>> {
        self.model.check_legacy_file()?;
        let declared = self.model.targets().declared;
        let layers = tops(declared).into_iter().map(|top| {
            let weights = top.handles.iter().map(|&handle| {
                let path = declared[handle.0].path.clone();
                Ok((path, self.variable(handle)?))
            });
            Ok((top.name, weights.collect::<Result<_>>()?))
        });
        let training = self.compile.map(|compile| {
            let mut training = compile.clone();
            if let Some(fields) = training.as_object_mut() {
                let optimizer = fields.remove("optimizer").unwrap_or_default();
                fields.insert("optimizer_config".to_owned(), optimizer);
                if let Some(losses) = fields.get_mut("loss") {
                    without_aliases(losses);
                }
            }
            training
        });
        Ok(LegacyFile {
            keras_version: KERAS_VERSION.to_owned(),
            backend: "tensorflow".to_owned(),
            model_config: Some(python_json::print(self.model.config())),
            training_config: training.as_ref().map(python_json::print),
            layers: layers.collect::<Result<_>>()?,
            top_level: Vec::new(),
            optimizer: self.optimizer_variables(),
        })
    }
}
