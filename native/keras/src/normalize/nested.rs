//! Which call of a model inside a model is meant. Keras 3 counts calls from 0, but in `input_layers`
//! and `output_layers` a Functional model itself is call 0, so that its first call there is 1.
//! Keras 2 counted so everywhere where the model began with an `InputLayer`, and else from 0. Every
//! call that is written is needed by somebody, which tells these apart.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// A model among the layers.
struct Nested {
    functional: bool,
    /// Whether its calls are in the form of Keras 2.
    legacy: bool,
    calls: u64,
    /// The calls that layers name, then those that the outer model's inputs and outputs name.
    named: [BTreeSet<u64>; 2],
}

impl Nested {
    fn read(layer: &Value) -> Option<(String, Self)> {
        let class = layer["class_name"].as_str()?;
        let functional = matches!(class, "Functional" | "Model");
        let name = layer.get("name").or_else(|| layer.pointer("/config/name"));
        let calls = layer["inbound_nodes"].as_array()?;
        let nested = Self {
            functional,
            legacy: calls.iter().any(Value::is_array),
            calls: calls.len() as u64,
            named: Default::default(),
        };
        (functional || class == "Sequential").then_some((name?.as_str()?.to_owned(), nested))
    }

    /// The numbers of the first call in Keras 3, in layers and in the outer model's ends.
    fn first(&self) -> [u64; 2] {
        [0, u64::from(self.functional)]
    }

    /// The numbers of the first call as they are; `None` if none explains what is named.
    fn found(&self) -> Option<[u64; 2]> {
        let all: BTreeSet<u64> = (0..self.calls).collect();
        let mut known = [self.first(), [1, 1], [0, 0]];
        if self.legacy {
            known.swap(0, 1);
        }
        known.into_iter().find(|first| {
            let named = self.named.iter().zip(first);
            let named = named
                .flat_map(|(calls, first)| calls.iter().map(move |call| call.checked_sub(*first)));
            named.collect::<Option<BTreeSet<u64>>>().as_ref() == Some(&all)
        })
    }
}

/// Brings the numbers of calls to those of Keras 3.
pub(super) fn renumber(config: &mut Map<String, Value>) {
    let layers = config.get("layers").and_then(Value::as_array);
    let layers = layers.into_iter().flatten();
    let mut models: HashMap<String, Nested> = layers.filter_map(Nested::read).collect();
    each_call(config, &mut |name, call, at| {
        if let Some(model) = models.get_mut(name) {
            model.named[at].insert(call);
        }
        call
    });
    let shifts = models.into_iter().filter_map(|(name, model)| {
        let found = model.found()?;
        Some((name, (found, model.first())))
    });
    let shifts: HashMap<String, _> = shifts.collect();
    each_call(config, &mut |name, call, at| match shifts.get(name) {
        Some((found, first)) => call - found[at] + first[at],
        None => call,
    });
}

/// Changes the number of every call: 0 is given for those that layers name, 1 for those that the
/// model's inputs and outputs name.
fn each_call(config: &mut Map<String, Value>, change: &mut impl FnMut(&str, u64, usize) -> u64) {
    if let Some(Value::Array(layers)) = config.get_mut("layers") {
        for layer in layers {
            if let Some(nodes) = layer.get_mut("inbound_nodes") {
                each_reference(nodes, &mut |name, call| change(name, call, 0));
            }
        }
    }
    for end in ["input_layers", "output_layers"] {
        if let Some(value) = config.get_mut(end) {
            each_reference(value, &mut |name, call| change(name, call, 1));
        }
    }
}

/// Changes the number of the call in every `[layer, call, tensor, ...]`.
fn each_reference(value: &mut Value, change: &mut impl FnMut(&str, u64) -> u64) {
    match value {
        Value::Array(items) => {
            if let [Value::String(name), call, tensor, ..] = items.as_mut_slice()
                && tensor.is_u64()
                && let Some(number) = call.as_u64()
            {
                *call = change(name, number).into();
            }
            items
                .iter_mut()
                .for_each(|item| each_reference(item, change));
        }
        Value::Object(map) => map
            .values_mut()
            .for_each(|item| each_reference(item, change)),
        _ => {}
    }
}
