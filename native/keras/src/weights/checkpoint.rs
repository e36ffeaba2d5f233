//! TensorFlow's checkpoints: a variable is found by the path of attributes that leads to it from
//! the saved object, as `tf.train.Checkpoint.restore` walks it; where the path leads nowhere, by
//! its name, as in checkpoints of TensorFlow 1.
//!
//! The paths are those of Keras 3 (`_operations/<i>/_kernel`) and of Keras 2
//! (`layer_with_weights-<j>/kernel`); see [`ObjectGraph`] for the former.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use flambeau_formats::bundle::object_graph::ObjectGraph;
use flambeau_formats::bundle::{BundleWriter, Index, Tensor};
use flambeau_formats::{Array, ToArray};
use serde_json::Value as Json;

use super::{Part, Targets, read, written};
use crate::error::{Error, Result};
use crate::export::{Export, Stored};
use crate::scope::Declared;
use crate::variables::Handle;

/// Where `tf.train.Checkpoint(model=...)` holds the model.
const MODEL: &str = "model";
/// What that class counts its saves in.
const SAVE_COUNTER: &str = "save_counter";
/// What may stand before a variable's name in the name of its attribute.
const PREFIXES: [&str; 3] = ["", "_", "adapt_"];

/// One step from a model to a variable.
enum Step<'a> {
    /// To a model's layer: its position among the operations, and among those with variables.
    Layer(usize, usize),
    /// To what a layer holds under an attribute.
    Attribute(&'a str),
}

pub(super) fn parts<'f>(
    index: &Index,
    shards: &[Vec<u8>],
    targets: Targets<'_>,
) -> Result<Vec<Part<'f>>> {
    let graph = index.object_graph(shards).map_err(read)?;
    let roots = graph.as_ref().map(models).unwrap_or_default();
    let groups = targets.groups.iter();
    Ok(groups
        .map(|group| {
            let found = group.handles.iter().map(|&handle| {
                let declared = &targets.declared[handle.0];
                let key = graph
                    .as_ref()
                    .and_then(|graph| {
                        let at = |&root: &usize| key_at(graph, root, declared, targets.declared);
                        roots.iter().find_map(at)
                    })
                    .or_else(|| named(index, graph.as_ref(), declared, targets.name));
                let Some(key) = key else {
                    return Err(missing(index, declared));
                };
                match index.tensor(&key, shards).map_err(read)? {
                    Tensor::Array(array) => Ok((handle, Cow::<Array>::Owned(array))),
                    Tensor::Strings(_) => Err(Error::WeightsMismatch {
                        place: format!("variable {}", declared.path),
                        reason: format!("strings under {key}"),
                    }),
                }
            });
            found.collect()
        })
        .collect())
}

/// The nodes that may be the model: the object that was saved, and what it holds.
fn models(graph: &ObjectGraph) -> Vec<usize> {
    let holds = graph.nodes().first().map(|root| root.children.values());
    [0].into_iter()
        .chain(holds.into_iter().flatten().copied())
        .collect()
}

/// The key of the variable's tensor, if the path from the model at `root` leads to one.
fn key_at(
    graph: &ObjectGraph,
    root: usize,
    declared: &Declared,
    all: &[Declared],
) -> Option<String> {
    let child = |node: usize, name: &str| graph.nodes().get(node)?.children.get(name).copied();
    let either = |node, name: &str| {
        let names = PREFIXES.iter().map(|prefix| format!("{prefix}{name}"));
        names.into_iter().find_map(|name| child(node, &name))
    };
    let mut node = root;
    for step in steps(declared, all) {
        node = match step {
            Step::Layer(position, with_weights) => {
                let model = child(node, "_functional").unwrap_or(node);
                let operations = child(model, "_operations");
                operations
                    .and_then(|operations| child(operations, &position.to_string()))
                    .or_else(|| child(node, &format!("layer_with_weights-{with_weights}")))?
            }
            Step::Attribute(name) => either(node, name)?,
        };
    }
    let variable = graph.nodes().get(either(node, &declared.name)?)?;
    variable.tensors.first().map(|tensor| tensor.key.clone())
}

/// The steps to the layer of a variable: the parts of its group in a weights file, where `layers`
/// is a model's list, each with a number in the variable's order.
fn steps<'a>(declared: &'a Declared, all: &[Declared]) -> Vec<Step<'a>> {
    let mut names = declared.group.split('/');
    let mut steps = Vec::new();
    let mut depth = 0;
    while let (Some(name), Some(&position)) = (names.next(), declared.order.get(depth)) {
        steps.push(if name == "layers" {
            names.next();
            let model = &declared.order[..depth];
            let before: BTreeSet<usize> = all
                .iter()
                .filter(|other| other.order.starts_with(model))
                .filter_map(|other| other.order.get(depth).copied())
                .filter(|&other| other < position)
                .collect();
            Step::Layer(position, before.len())
        } else {
            Step::Attribute(name)
        });
        depth += 1;
    }
    steps
}

/// The key of the variable by its name.
fn named(
    index: &Index,
    graph: Option<&ObjectGraph>,
    declared: &Declared,
    model: &str,
) -> Option<String> {
    [format!("{model}/{}", declared.path), declared.path.clone()]
        .into_iter()
        .find_map(|name| {
            if index.entries().contains_key(&name) {
                return Some(name);
            }
            let tensor = graph?.variable_named(&name)?;
            Some(tensor.key.clone())
        })
}

fn missing(index: &Index, declared: &Declared) -> Error {
    let mut keys: Vec<_> = index.entries().keys().map(String::as_str).collect();
    let more = keys.len().saturating_sub(8);
    keys.truncate(8);
    let more = if more > 0 { ", ..." } else { "" };
    Error::WeightsMismatch {
        place: format!("variable {}", declared.path),
        reason: format!("nothing for it; it has {}{more}", keys.join(", ")),
    }
}

impl Export<'_> {
    /// Writes `PREFIX.data-00000-of-00001` of a checkpoint that `tf.train.Checkpoint(model=model)` of
    /// Keras 3 restores and `tf.train.load_checkpoint` lists; the content of `PREFIX.index`. The optimizer
    /// is not in it.
    ///
    /// # Errors
    /// A weight is nowhere; the sink fails.
    pub fn write_checkpoint(&self, data: impl Write) -> Result<Vec<u8>> {
        let targets = self.model.targets();
        let mut graph = ObjectGraph::default();
        let mut tensors = BTreeMap::new();
        let counter = graph.add_variable(SAVE_COUNTER, SAVE_COUNTER);
        let one = Stored::of(Cow::Owned(Array::from(1_i64)));
        tensors.insert(counter.map_err(written)?, one);
        for group in targets.groups {
            for &handle in &group.handles {
                let key = describe(&mut graph, handle, targets)?;
                tensors.insert(key, self.variable(handle)?);
            }
        }
        let mut writer = BundleWriter::new(data);
        for (key, stored) in tensors {
            let array = stored.to_array().map_err(written)?.into_owned();
            writer.add(&key, &Tensor::Array(array)).map_err(written)?;
        }
        writer.add_object_graph(&graph).map_err(written)?;
        let (_, index) = writer.finish();
        Ok(index)
    }
}

/// Adds a variable under the attributes that Keras 3 has; the key of its tensor. Which of
/// `kernel` and `_kernel` a layer uses depends on its class, so that both lead to it.
fn describe(graph: &mut ObjectGraph, handle: Handle, targets: Targets<'_>) -> Result<String> {
    let declared = &targets.declared[handle.0];
    let mut path = MODEL.to_owned();
    let mut names = declared.path.split('/');
    let mut config = targets.config;
    for step in steps(declared, targets.declared) {
        match step {
            Step::Layer(position, _) => {
                if config["class_name"] == "Sequential" {
                    path.push_str("/_functional");
                }
                path.push_str(&format!("/_operations/{position}"));
                config = layer_config(config, names.next().unwrap_or_default());
            }
            Step::Attribute(name) => {
                // MultiHeadAttention alone hides its parts.
                let hidden = if name.ends_with("_dense") { "_" } else { "" };
                path.push_str(&format!("/{hidden}{name}"));
                names.next();
            }
        }
    }
    let variable = format!("{path}/{}", declared.name);
    if let Some(known) = graph.variable_at(&variable) {
        return Ok(known.key.clone());
    }
    let name = format!("{}/{}", targets.name, declared.path);
    let key = graph.add_variable(&variable, &name).map_err(written)?;
    for prefix in PREFIXES.iter().skip(1) {
        let other = format!("{path}/{prefix}{}", declared.name);
        graph.link(&other, &variable).map_err(written)?;
    }
    Ok(key)
}

/// The config of a model's layer.
fn layer_config<'a>(model: &'a Json, name: &str) -> &'a Json {
    let layers = model.pointer("/config/layers").and_then(Json::as_array);
    let named = |layer: &&Json| layer["config"]["name"] == name;
    layers
        .and_then(|layers| layers.iter().find(named))
        .unwrap_or(&Json::Null)
}
