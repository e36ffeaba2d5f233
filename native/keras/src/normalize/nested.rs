//! Which call of a model inside a model is meant. Keras 2 counts the model itself as its call 0,
//! so that the first call is 1; Keras 3 does so only in `input_layers` and `output_layers`, and
//! only for Functional models.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Brings the numbers of calls in a Keras 2 config to those of Keras 3.
pub(super) fn renumber(config: &mut Map<String, Value>) {
    let layers = config.get("layers").and_then(Value::as_array);
    let layers = layers.map(Vec::as_slice).unwrap_or_default();
    if !layers.iter().any(is_legacy) {
        return;
    }
    let models = layers.iter().filter_map(|layer| {
        let class = layer["class_name"].as_str()?;
        let functional = matches!(class, "Functional" | "Model");
        let name = layer.get("name").or_else(|| layer.pointer("/config/name"));
        (functional || class == "Sequential").then_some((name?.as_str()?.to_owned(), functional))
    });
    let mut models: HashMap<String, bool> = models.collect();
    let mut counted_from_1 = |name: &str, call: u64| {
        if call == 0 {
            models.remove(name);
        }
        call
    };
    let ends = ["input_layers", "output_layers"];
    for end in ends {
        if let Some(value) = config.get_mut(end) {
            each_call(value, &mut counted_from_1);
        }
    }
    let Some(Value::Array(layers)) = config.get_mut("layers") else {
        return;
    };
    for layer in layers.iter_mut() {
        each_call(&mut layer["inbound_nodes"], &mut counted_from_1);
    }
    for layer in layers {
        each_call(&mut layer["inbound_nodes"], &mut |name, call| {
            call - u64::from(models.contains_key(name))
        });
    }
    for end in ends {
        if let Some(value) = config.get_mut(end) {
            each_call(value, &mut |name, call| {
                call - u64::from(models.get(name) == Some(&false))
            });
        }
    }
}

/// Whether the layer's calls are in the form of Keras 2.
fn is_legacy(layer: &Value) -> bool {
    let nodes = layer["inbound_nodes"].as_array();
    nodes.is_some_and(|nodes| nodes.iter().any(Value::is_array))
}

/// Changes the number of the call in every `[layer, call, tensor, ...]`.
fn each_call(value: &mut Value, change: &mut impl FnMut(&str, u64) -> u64) {
    match value {
        Value::Array(items) => {
            if let [Value::String(name), call, tensor, ..] = items.as_mut_slice()
                && tensor.is_u64()
                && let Some(number) = call.as_u64()
            {
                *call = change(name, number).into();
            }
            items.iter_mut().for_each(|item| each_call(item, change));
        }
        Value::Object(map) => map.values_mut().for_each(|item| each_call(item, change)),
        _ => {}
    }
}
