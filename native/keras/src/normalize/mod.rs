//! Brings a model config of Keras 2, or of Keras 3 without an `InputLayer`, to the form that
//! Keras 3 writes. What Keras 3 wrote stays as it is.

mod nested;
mod states;
mod tensorflow;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// A model config in Keras 3's form, and its `compile_config` if there is one.
#[derive(Debug)]
pub(crate) struct Normalized {
    pub(crate) model: Value,
    pub(crate) compile: Option<Value>,
}

/// Errors: not an object with `class_name` and `config`, a model that is neither Sequential nor
/// Functional, or one whose input shape is not given.
pub(crate) fn normalize(mut document: Value) -> Result<Normalized> {
    let class = document
        .get("class_name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let (module, class, registered) = match class.as_str() {
        "Sequential" => ("keras", "Sequential", Value::Null),
        "Functional" | "Model" => (
            "keras.src.models.functional",
            "Functional",
            json!("Functional"),
        ),
        _ => {
            return Err(Error::Unsupported {
                place: "model".to_owned(),
                what: format!("class_name \"{class}\""),
                supported: "Sequential, Functional".to_owned(),
            });
        }
    };
    let mut config = match document["config"].take() {
        // Before Keras 2.2.3 a Sequential's config was the list of its layers.
        Value::Array(layers) => Map::from_iter([("layers".to_owned(), Value::Array(layers))]),
        Value::Object(config) => config,
        _ => return Err(invalid("config must be an object")),
    };
    upgrade_layers(&mut config, class)?;
    config
        .entry("name")
        .or_insert_with(|| json!(class.to_lowercase()));
    let model = json!({
        "module": module, "class_name": class, "config": config, "registered_name": registered,
    });
    let compile = document.get_mut("compile_config").map(Value::take);
    let compile = compile.filter(|value| value.as_object().is_some_and(|map| !map.is_empty()));
    Ok(Normalized { model, compile })
}

/// Brings the layers of a model, and of the models among them, to Keras 3's form.
fn upgrade_layers(config: &mut Map<String, Value>, class: &str) -> Result<()> {
    nested::renumber(config);
    states::upgrade(config);
    tensorflow::upgrade(config)?;
    let Some(Value::Array(layers)) = config.get_mut("layers") else {
        return Err(invalid("config.layers must be a list"));
    };
    let shape = layers.first().and_then(first_input_shape).cloned();
    layers.iter_mut().try_for_each(upgrade)?;
    if class == "Sequential" && layers.first().is_none_or(|layer| !is_input(layer)) {
        let shape = config
            .get("build_input_shape")
            .filter(|shape| !shape.is_null())
            .cloned()
            .or(shape)
            .ok_or_else(|| {
                invalid("the input shape is unknown: start the model with keras.Input or build it")
            })?;
        if let Some(Value::Array(layers)) = config.get_mut("layers") {
            layers.insert(0, input_layer(shape));
        }
    }
    Ok(())
}

/// A layer, which may be a model.
fn upgrade(layer: &mut Value) -> Result<()> {
    let class = layer["class_name"].as_str().unwrap_or_default().to_owned();
    if matches!(class.as_str(), "Sequential" | "Functional" | "Model") {
        return upgrade_nested(layer, &class);
    }
    upgrade_layer(layer)
}

/// A model that is a layer of another one.
fn upgrade_nested(layer: &mut Value, class: &str) -> Result<()> {
    let module = layer["module"].as_str().unwrap_or_default();
    // Keras 2 wrote none, or that of its own class.
    if module.is_empty() || module.contains(".engine.") {
        let (module, class, registered) = match class {
            "Sequential" => ("keras", "Sequential", Value::Null),
            _ => (
                "keras.src.models.functional",
                "Functional",
                json!("Functional"),
            ),
        };
        layer["module"] = module.into();
        layer["class_name"] = class.into();
        layer["registered_name"] = registered;
    }
    match layer.get_mut("config") {
        Some(Value::Object(config)) => upgrade_layers(config, class),
        _ => Err(invalid("the config of a nested model must be an object")),
    }
}

/// Output `history` (`[layer, node, tensor]`) as an argument in Keras 3's form. Keras reads the shape
/// and the dtype only to make a tensor that it then replaces by the output itself, so that any do.
fn keras_tensor(history: Value) -> Value {
    json!({
        "class_name": "__keras_tensor__",
        "config": {"shape": [null], "dtype": "float32", "keras_history": history},
    })
}

fn invalid(reason: &str) -> Error {
    Error::InvalidConfig {
        place: "model".to_owned(),
        reason: reason.to_owned(),
    }
}

fn is_input(layer: &Value) -> bool {
    layer["class_name"] == "InputLayer"
}

/// The shape with batch that a first layer carries in Keras 2, or was built with in Keras 3.
fn first_input_shape(layer: &Value) -> Option<&Value> {
    ["/config/batch_input_shape", "/build_config/input_shape"]
        .iter()
        .filter_map(|path| layer.pointer(path))
        .find(|shape| !shape.is_null())
}

fn input_layer(batch_shape: Value) -> Value {
    json!({
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {
            "batch_shape": batch_shape, "dtype": "float32", "sparse": false, "ragged": false,
            "name": "input_layer",
        },
        "registered_name": null,
    })
}

fn upgrade_layer(layer: &mut Value) -> Result<()> {
    let input = is_input(layer);
    let class = layer["class_name"].as_str().unwrap_or_default().to_owned();
    let legacy = layer.get("module").is_none();
    add_module(layer, "keras.layers");
    let Some(Value::Object(config)) = layer.get_mut("config") else {
        return Ok(());
    };
    if legacy {
        upgrade_convolution(&class, config);
    }
    if let Some(activation) = config.get_mut("activation") {
        add_module(activation, "keras.layers");
    }
    if let Some(shape) = config.remove("batch_input_shape")
        && input
    {
        config.entry("batch_shape").or_insert(shape);
    }
    for key in ["layer", "backward_layer", "forward_layer", "cell"] {
        if let Some(inner) = config.get_mut(key)
            && inner.is_object()
        {
            upgrade(inner)?;
        }
    }
    if let Some(Value::Array(cells)) = config.get_mut("cells") {
        cells.iter_mut().try_for_each(upgrade)?;
    }
    if class == "LeakyReLU"
        && let Some(slope) = config.remove("alpha")
    {
        config.entry("negative_slope").or_insert(slope);
    }
    // What Keras 2 wrote and Keras 3 does not read.
    let outdated: &[&str] = match class.as_str() {
        "MultiHeadAttention" => &["query_shape", "value_shape", "key_shape"],
        "Attention" | "AdditiveAttention" if config.get("causal") == Some(&Value::Bool(false)) => {
            &["causal"]
        }
        "SpatialDropout1D" | "SpatialDropout2D" | "SpatialDropout3D" => {
            &["noise_shape", "trainable"]
        }
        _ if config.get("time_major") == Some(&Value::Bool(false)) => &["time_major"],
        _ => &[],
    };
    for key in outdated {
        config.remove(*key);
    }
    if class == "BatchNormalization"
        && let Some(Value::Array(axes)) = config.get("axis")
        && let [axis] = axes.as_slice()
    {
        let axis = axis.clone();
        config.insert("axis".to_owned(), axis);
    }
    if let Some(dtype) = config.get_mut("dtype")
        && dtype["class_name"] == "Policy"
    {
        *dtype = dtype
            .pointer_mut("/config/name")
            .map(Value::take)
            .unwrap_or_default();
    }
    for (_, initializer) in config
        .iter_mut()
        .filter(|(key, _)| key.ends_with("_initializer"))
    {
        if initializer.get("module").is_none()
            && let Some(Value::Object(arguments)) = initializer.get_mut("config")
        {
            arguments.remove("dtype");
        }
        add_module(initializer, "keras.initializers");
    }
    Ok(())
}

/// Keras 2 derived all convolutions from `Conv` and wrote options of it that Keras 3 does not take.
fn upgrade_convolution(class: &str, config: &mut Map<String, Value>) {
    let single = class.starts_with("Depthwise") || class.starts_with("Separable");
    if (single || class.ends_with("Transpose")) && config.get("groups") == Some(&json!(1)) {
        config.remove("groups");
    }
    if single {
        config.remove("kernel_initializer");
        for key in ["kernel_regularizer", "kernel_constraint"] {
            if config.get(key).is_some_and(Value::is_null) {
                config.remove(key);
            }
        }
    }
}

/// Marks a serialized object of Keras 2 as one of Keras 3.
fn add_module(object: &mut Value, module: &str) {
    let Value::Object(map) = object else { return };
    if map.contains_key("class_name") && !map.contains_key("module") {
        map.insert("module".to_owned(), json!(module));
        map.entry("registered_name").or_insert(Value::Null);
    }
}
