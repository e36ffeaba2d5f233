//! How Keras names a loss or a metric: by a string, as a function, or as an object of a class.
//! Class and module together are the key, so a custom object is never taken for one of Keras's.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Where an API of Keras may say that a thing comes from.
const MODULES: [&str; 2] = ["keras.losses", "keras.metrics"];

/// One of Keras's losses or metrics, as somebody asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Identifier<'a> {
    /// A string handed to `compile`.
    Name(&'a str),
    /// A function of `keras.losses` or `keras.metrics`.
    Function(&'a str),
    /// An object with its config.
    Object {
        /// `keras.losses` or `keras.metrics`; none in documents of Keras 2.
        module: Option<&'a str>,
        /// The class.
        class: &'a str,
        /// Its arguments; none for an empty config.
        config: Option<&'a Map<String, Value>>,
    },
}

impl<'a> Identifier<'a> {
    /// Reads what `keras.saving.serialize_keras_object` writes, Keras 2's `class_name` and
    /// `config`, or a string. `place` names the owner in errors.
    pub(crate) fn read(value: &'a Value, place: &str) -> Result<Self> {
        let invalid = |what: &str| Error::InvalidConfig {
            place: place.to_owned(),
            reason: format!("{value} {what}"),
        };
        let object = match value {
            Value::String(name) => return Ok(Self::Name(name)),
            Value::Object(object) => object,
            _ => return Err(invalid("is neither a name nor an object with a class_name")),
        };
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let class = text("class_name").ok_or_else(|| invalid("has no class_name"))?;
        let known = [
            "module",
            "class_name",
            "config",
            "registered_name",
            "shared_object_id",
        ];
        if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(invalid(&format!(
                "has a key that Keras does not write, {key}"
            )));
        }
        if class == "function" {
            let name = text("config").ok_or_else(|| invalid("names no function"))?;
            let module = module(object, place, name)?;
            registered(object, place, &["function", name])?;
            if module.is_some_and(|module| module != "builtins" && !is_keras(module)) {
                return Err(custom(place, module, name));
            }
            return Ok(Self::Function(name));
        }
        let module = module(object, place, class)?;
        registered(object, place, &[class])?;
        if module.is_some_and(|module| !is_keras(module)) {
            return Err(custom(place, module, class));
        }
        let config = match object.get("config") {
            None | Some(Value::Null) => None,
            Some(Value::Object(config)) => Some(config),
            Some(_) => return Err(invalid("has a config that is no object")),
        };
        Ok(Self::Object {
            module: module.map(public),
            class,
            config,
        })
    }
}

/// Whether a JSON value stands for one loss or metric and not for several by output name.
pub(crate) fn is_identifier(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.contains_key("class_name"),
        Value::Array(_) => false,
        _ => true,
    }
}

/// A function as Keras serializes it.
pub(crate) fn function(name: &str) -> Value {
    json!({"module": "builtins", "class_name": "function", "config": name,
        "registered_name": "function"})
}

/// An object as Keras serializes it.
pub(crate) fn object(module: &str, class: &str, config: Map<String, Value>) -> Value {
    json!({"module": module, "class_name": class, "config": config, "registered_name": null})
}

/// The module; an error for null, by which Keras marks classes that it does not know.
fn module<'a>(object: &'a Map<String, Value>, place: &str, name: &str) -> Result<Option<&'a str>> {
    match object.get("module") {
        None => Ok(None),
        Some(Value::String(module)) => Ok(Some(module)),
        Some(_) => Err(custom(place, None, name)),
    }
}

/// Keras gives its own classes no name of registration, or the plain one.
fn registered(object: &Map<String, Value>, place: &str, own: &[&str]) -> Result<()> {
    match object.get("registered_name") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(name)) if own.contains(&name.as_str()) => Ok(()),
        Some(name) => Err(Error::Unsupported {
            place: place.to_owned(),
            what: format!("the custom object registered as {name}"),
            supported: "the classes and functions of keras.losses and keras.metrics".to_owned(),
        }),
    }
}

fn is_keras(module: &str) -> bool {
    MODULES
        .iter()
        .any(|public| module == *public || module.starts_with(&internal(public)))
}

/// `keras.losses` for `keras.src.losses.losses`.
fn public(module: &str) -> &str {
    MODULES
        .into_iter()
        .find(|public| module.starts_with(&internal(public)))
        .unwrap_or(module)
}

fn internal(public: &str) -> String {
    public.replace("keras.", "keras.src.")
}

fn custom(place: &str, module: Option<&str>, name: &str) -> Error {
    let module = module.map_or(String::new(), |module| format!("{module}."));
    Error::Unsupported {
        place: place.to_owned(),
        what: format!("{module}{name}, which is not Keras's own,"),
        supported: "the classes and functions of keras.losses and keras.metrics".to_owned(),
    }
}
