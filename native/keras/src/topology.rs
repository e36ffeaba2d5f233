//! Which layers a model has and how they are called, read from a config in Keras 3's form.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::layers::Shape;

/// One layer as the config names it.
#[derive(Debug)]
pub(crate) struct LayerEntry {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) config: Map<String, Value>,
}

/// One call of a layer on the outputs of earlier calls (none for the input layer).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) layer: usize,
    pub(crate) inputs: Vec<usize>,
}

/// A model with one input and one output; each call comes after those it needs.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) name: String,
    pub(crate) layers: Vec<LayerEntry>,
    pub(crate) calls: Vec<Call>,
    pub(crate) output: usize,
    pub(crate) input_shape: Shape,
}

/// A call by Keras's (layer name, node index).
type Key = (String, u64);

impl Topology {
    pub(crate) fn read(model: &Value) -> Result<Self> {
        let config = &model["config"];
        let entries = config["layers"]
            .as_array()
            .ok_or_else(|| invalid("layers is no list"))?;
        let layers = entries.iter().map(read_entry).collect::<Result<Vec<_>>>()?;
        for (position, layer) in layers.iter().enumerate() {
            if layers[..position]
                .iter()
                .any(|earlier| earlier.name == layer.name)
            {
                return Err(invalid(format!("two layers are named \"{}\"", layer.name)));
            }
        }
        let inputs: Vec<_> = layers
            .iter()
            .filter(|layer| layer.class == "InputLayer")
            .collect();
        let [input] = inputs.as_slice() else {
            return Err(unsupported(
                format!("a model with {} inputs", inputs.len()),
                "one input",
            ));
        };
        let input_shape = read_shape(input)?;
        let (calls, output) = if model["class_name"] == "Sequential" {
            let calls: Vec<_> = (0..layers.len())
                .map(|layer| Call {
                    layer,
                    inputs: layer.checked_sub(1).into_iter().collect(),
                })
                .collect();
            let output = calls.len() - 1;
            (calls, output)
        } else {
            read_nodes(config, entries, &layers)?
        };
        let name = config["name"].as_str().unwrap_or("model").to_owned();
        Ok(Self {
            name,
            layers,
            calls,
            output,
            input_shape,
        })
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidConfig {
        place: "model".to_owned(),
        reason: reason.into(),
    }
}

fn unsupported(what: impl Into<String>, supported: &str) -> Error {
    Error::Unsupported {
        place: "model".to_owned(),
        what: what.into(),
        supported: supported.to_owned(),
    }
}

fn read_entry(entry: &Value) -> Result<LayerEntry> {
    let name = entry
        .pointer("/config/name")
        .or_else(|| entry.get("name"))
        .and_then(Value::as_str);
    match (
        name,
        entry["class_name"].as_str(),
        entry["config"].as_object(),
    ) {
        (Some(name), Some(class), Some(config)) => Ok(LayerEntry {
            name: name.to_owned(),
            class: class.to_owned(),
            config: config.clone(),
        }),
        _ => Err(invalid(format!(
            "a layer lacks class_name, config or name: {entry}"
        ))),
    }
}

fn read_shape(input: &LayerEntry) -> Result<Shape> {
    let shape = input.config.get("batch_shape").and_then(Value::as_array);
    let axes = shape
        .and_then(|axes| axes.split_first())
        .map(|(_, axes)| axes);
    axes.and_then(|axes| {
        axes.iter()
            .map(|axis| axis.as_i64().filter(|&n| n > 0))
            .collect()
    })
    .ok_or_else(|| Error::InvalidConfig {
        place: format!("layer \"{}\" (InputLayer)", input.name),
        reason: format!(
            "batch_shape = {} must be [null, sizes...] with every size known",
            input.config.get("batch_shape").unwrap_or(&Value::Null)
        ),
    })
}

/// The calls of a Functional model in an order in which they can run.
fn read_nodes(
    config: &Value,
    entries: &[Value],
    layers: &[LayerEntry],
) -> Result<(Vec<Call>, usize)> {
    let mut waiting = Vec::new();
    for (layer, (entry, LayerEntry { name, class, .. })) in entries.iter().zip(layers).enumerate() {
        let nodes = entry["inbound_nodes"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if nodes.is_empty() && class == "InputLayer" {
            waiting.push((layer, (name.clone(), 0), Vec::new()));
        }
        for (index, node) in (0..).zip(nodes) {
            let inputs = read_node(node).map_err(|reason| Error::InvalidConfig {
                place: format!("layer \"{name}\" ({class})"),
                reason,
            })?;
            waiting.push((layer, (name.clone(), index), inputs));
        }
    }
    let mut calls = Vec::new();
    let mut done: HashMap<Key, usize> = HashMap::new();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(layer, key, inputs)| {
            let inputs: Option<Vec<_>> = inputs.iter().map(|key| done.get(key).copied()).collect();
            let Some(inputs) = inputs else { return true };
            done.insert(key.clone(), calls.len());
            calls.push(Call {
                layer: *layer,
                inputs,
            });
            false
        });
        if waiting.len() == before {
            let (_, (name, _), inputs) = &waiting[0];
            return Err(invalid(format!(
                "layer \"{name}\" needs {inputs:?}, which never run"
            )));
        }
    }
    let outputs = &config["output_layers"];
    let key = tensor_key(outputs).or_else(|| match outputs.as_array().map(Vec::as_slice) {
        Some([single]) => tensor_key(single),
        _ => None,
    });
    let Some(key) = key else {
        return Err(unsupported(
            format!("output_layers = {outputs}"),
            "one output",
        ));
    };
    let output = done.get(&key).copied();
    let output = output.ok_or_else(|| invalid(format!("output {key:?} is no call of a layer")))?;
    Ok((calls, output))
}

/// The tensors a call takes, in order. Keras 3: `{"args", "kwargs"}` with `__keras_tensor__`
/// objects; Keras 2: `[[name, node, tensor, kwargs], ...]`.
fn read_node(node: &Value) -> std::result::Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    if let Value::Array(tensors) = node {
        for tensor in tensors {
            let kwargs = tensor.get(3).unwrap_or(&Value::Null);
            require_no_kwargs(kwargs)?;
            keys.push(tensor_key(tensor).ok_or_else(|| format!("cannot read node {tensor}"))?);
        }
    } else {
        collect_tensors(&node["args"], &mut keys)?;
        require_no_kwargs(&node["kwargs"])?;
    }
    if keys.is_empty() {
        return Err(format!("inbound node {node} names no input"));
    }
    Ok(keys)
}

fn collect_tensors(value: &Value, keys: &mut Vec<Key>) -> std::result::Result<(), String> {
    match value {
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| collect_tensors(item, keys)),
        Value::Object(object) if object.get("class_name") == Some(&"__keras_tensor__".into()) => {
            let key = value.pointer("/config/keras_history").and_then(tensor_key);
            keys.push(key.ok_or_else(|| format!("{value} has no keras_history"))?);
            Ok(())
        }
        _ => Err(format!(
            "call argument {value} is not supported; only tensors are"
        )),
    }
}

fn require_no_kwargs(kwargs: &Value) -> std::result::Result<(), String> {
    let arguments = kwargs.as_object().into_iter().flatten();
    match arguments.clone().find(|(_, value)| !value.is_null()) {
        Some((key, value)) => Err(format!(
            "call argument {key} = {value} is not supported; leave it out"
        )),
        None => Ok(()),
    }
}

/// Reads `[name, node index, tensor index, ...]`; layers have one output, so the last is 0.
fn tensor_key(value: &Value) -> Option<Key> {
    match value.as_array()?.as_slice() {
        [name, node, tensor, ..] if tensor.as_u64() == Some(0) => {
            Some((name.as_str()?.to_owned(), node.as_u64()?))
        }
        _ => None,
    }
}
