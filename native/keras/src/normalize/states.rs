//! Initial states of recurrent layers: Keras 2 recorded them as inputs behind the sequence, Keras 3
//! records them as the argument `initial_state`.

use serde_json::{Map, Value, json};

use super::keras_tensor;

/// The classes whose calls take states.
const CLASSES: [&str; 8] = [
    "SimpleRNN",
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
];

/// Brings the calls of a model's recurrent layers to Keras 3's form where they have states.
pub(super) fn upgrade(config: &mut Map<String, Value>) {
    let layers = config.get_mut("layers").and_then(Value::as_array_mut);
    for layer in layers.into_iter().flatten() {
        let class = layer["class_name"].as_str().unwrap_or_default();
        if !CLASSES.contains(&class) {
            continue;
        }
        let calls = layer.get_mut("inbound_nodes").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            if let Some(upgraded) = upgraded(call) {
                *call = upgraded;
            }
        }
    }
}

/// A call `[[layer, node, tensor, kwargs], ...]` of several tensors, in Keras 3's form.
fn upgraded(call: &Value) -> Option<Value> {
    let [sequence, states @ ..] = call.as_array()?.as_slice() else {
        return None;
    };
    let tensor = |input: &Value| {
        let history = input.as_array()?.get(..3)?;
        Some(keras_tensor(Value::from(history.to_vec())))
    };
    let states: Option<Vec<Value>> = states.iter().map(tensor).collect();
    let states = states.filter(|states| !states.is_empty())?;
    let mut kwargs = sequence.get(3).cloned().unwrap_or_else(|| json!({}));
    kwargs
        .as_object_mut()?
        .insert("initial_state".to_owned(), states.into());
    Some(json!({"args": [tensor(sequence)?], "kwargs": kwargs}))
}
