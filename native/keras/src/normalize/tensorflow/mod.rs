//! TensorFlow's functions in Keras 2's functional models, as the operations of `keras.ops` that
//! compute the same.
//!
//! Keras 2 records a call such as `tf.concat([x, y], axis=1)` as a layer of class `TFOpLambda`
//! whose config names the `function`; `x[:, 1]` as a `SlicingOpLambda`.

mod arithmetic;
mod arranging;
mod axes;
mod call;
mod functions;
mod limits;
mod operation;
mod slicing;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use self::call::Call;
use crate::error::Result;

/// The classes whose config names a TensorFlow function.
const CLASSES: [&str; 4] = [
    "TFOpLambda",
    "SlicingOpLambda",
    "ClassMethod",
    "InstanceProperty",
];

/// The layers of Keras 3 for a recorded call, by its name.
type Upgraded = HashMap<String, Result<Vec<Value>>>;

/// Replaces the recorded calls among a model's layers.
///
/// # Errors
/// `keras.ops` has no equal of a function that the outputs need, or of an argument.
pub(super) fn upgrade(config: &mut Map<String, Value>) -> Result<()> {
    let outputs = config.get("output_layers").cloned();
    let Some(Value::Array(layers)) = config.get_mut("layers") else {
        return Ok(());
    };
    if !layers.iter().any(is_function) {
        return Ok(());
    }
    let names: HashSet<String> = layers.iter().map(name_of).map(str::to_owned).collect();
    let calls = layers.iter().filter(|layer| is_function(layer));
    let calls = calls.map(|layer| (name_of(layer).to_owned(), upgraded(layer, &names)));
    let mut needed = Vec::new();
    let others = layers.iter().filter(|layer| !is_function(layer));
    for value in outputs
        .iter()
        .chain(others.map(|layer| &layer["inbound_nodes"]))
    {
        references(value, &names, &mut needed);
    }
    let mut reached = reached(calls.collect(), &names, needed)?;
    let before = std::mem::take(layers);
    layers.extend(before.into_iter().flat_map(|layer| {
        if is_function(&layer) {
            reached.remove(name_of(&layer)).unwrap_or_default()
        } else {
            vec![layer]
        }
    }));
    Ok(())
}

/// The layers of the calls that are `needed`, directly or by each other: a reshape to a size of
/// another tensor no longer needs that, nor can every such function be expressed.
fn reached(
    mut calls: Upgraded,
    names: &HashSet<String>,
    mut needed: Vec<String>,
) -> Result<HashMap<String, Vec<Value>>> {
    let mut reached = HashMap::new();
    while let Some(name) = needed.pop() {
        if let Some(layers) = calls.remove(&name) {
            let layers = layers?;
            for layer in &layers {
                references(&layer["inbound_nodes"], names, &mut needed);
            }
            reached.insert(name, layers);
        }
    }
    Ok(reached)
}

/// Adds the layers whose outputs `value` names as `[layer, node, tensor, ...]`.
fn references(value: &Value, names: &HashSet<String>, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            if let [Value::String(name), node, tensor, ..] = items.as_slice()
                && node.is_u64()
                && tensor.is_u64()
                && names.contains(name)
            {
                found.push(name.clone());
            }
            items.iter().for_each(|item| references(item, names, found));
        }
        Value::Object(map) => map.values().for_each(|item| references(item, names, found)),
        _ => {}
    }
}

fn is_function(layer: &Value) -> bool {
    CLASSES.iter().any(|class| layer["class_name"] == *class)
}

fn name_of(layer: &Value) -> &str {
    let name = layer.get("name").or_else(|| layer.pointer("/config/name"));
    name.and_then(Value::as_str).unwrap_or_default()
}

fn upgraded(layer: &Value, names: &HashSet<String>) -> Result<Vec<Value>> {
    let call = Call::read(layer, names)?;
    let function = layer.pointer("/config/function").and_then(Value::as_str);
    let operation = functions::operation(function.unwrap_or_default(), &call)?;
    call.finish()?;
    let mut layers = Vec::new();
    operation.emit(name_of(layer), &mut layers);
    Ok(layers)
}
