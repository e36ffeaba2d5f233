//! One recorded call of a TensorFlow function: its arguments as Keras 2 wrote them.

use std::cell::RefCell;
use std::collections::HashSet;

use serde_json::{Map, Value};

use super::operation::Argument;
use crate::error::{Error, Result};
use crate::literals;

/// What stands for the layer's name where the first argument is a constant.
const CONSTANT: &str = "_CONSTANT_VALUE";

/// A call. Keras 2 gives the first argument by position, `[layer, node, tensor, kwargs]` or a list
/// of those, and all others by name in each of the `kwargs`.
pub(super) struct Call<'a> {
    place: String,
    names: &'a HashSet<String>,
    first: Vec<&'a Value>,
    kwargs: Map<String, Value>,
    read: RefCell<HashSet<String>>,
}

impl<'a> Call<'a> {
    /// Reads the only call of `layer`; `names` are the model's layers.
    pub(super) fn read(layer: &'a Value, names: &'a HashSet<String>) -> Result<Self> {
        let text = |path: &str| layer.pointer(path).and_then(Value::as_str);
        let name = text("/config/name").or(text("/name")).unwrap_or_default();
        let class = text("/class_name").unwrap_or_default();
        let place = format!("layer \"{name}\" ({class})");
        let wrong = |reason: &str| Error::InvalidConfig {
            place: place.clone(),
            reason: reason.to_owned(),
        };
        let nodes = layer["inbound_nodes"].as_array();
        let [node] = nodes.map(Vec::as_slice).unwrap_or_default() else {
            return Err(wrong("a TensorFlow function must be called exactly once"));
        };
        let items = node.as_array().map(Vec::as_slice).unwrap_or_default();
        let items: Vec<&Value> = match items.first() {
            Some(Value::String(_)) => vec![node],
            _ => items.iter().collect(),
        };
        if items.is_empty() || items.iter().any(|item| !item[0].is_string()) {
            return Err(wrong(&format!("cannot read node {node}")));
        }
        let kwargs = items.iter().filter_map(|item| item[3].as_object());
        let kwargs = kwargs.max_by_key(|kwargs| kwargs.len()).cloned();
        Ok(Self {
            place,
            names,
            first: items,
            kwargs: kwargs.unwrap_or_default(),
            read: RefCell::default(),
        })
    }

    /// An error about an argument.
    pub(super) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidConfig {
            place: self.place.clone(),
            reason: reason.into(),
        }
    }

    /// An error about what Keras has no equal for.
    pub(super) fn unsupported(&self, what: impl Into<String>, supported: &str) -> Error {
        Error::Unsupported {
            place: self.place.clone(),
            what: what.into(),
            supported: supported.to_owned(),
        }
    }

    /// The first argument, one tensor or constant.
    pub(super) fn first(&self) -> Result<Argument> {
        match self.first.as_slice() {
            [item] => self.positional(item),
            items => Err(self.invalid(format!("takes one tensor, got {}", items.len()))),
        }
    }

    /// The first argument, a list.
    pub(super) fn firsts(&self) -> Result<Vec<Argument>> {
        self.first
            .iter()
            .map(|item| self.positional(item))
            .collect()
    }

    fn positional(&self, item: &Value) -> Result<Argument> {
        let wrong = || self.invalid(format!("cannot read {item} as a tensor"));
        if item[0] == CONSTANT {
            return Argument::constant(&item[2]).ok_or_else(wrong);
        }
        let parts = item.as_array().and_then(|parts| parts.get(..3));
        let history = parts.ok_or_else(wrong)?.to_vec();
        Ok(Argument::tensor(Value::Array(history)))
    }

    /// An argument by name; null is as good as absent.
    fn get(&self, name: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(name.to_owned());
        self.kwargs.get(name).filter(|value| !value.is_null())
    }

    /// Whether `value` is `[layer, node, tensor]`.
    pub(super) fn is_tensor(&self, value: &Value) -> bool {
        let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let [Value::String(name), node, tensor] = parts else {
            return false;
        };
        self.names.contains(name) && node.is_u64() && tensor.is_u64()
    }

    /// An argument that is a tensor or a constant.
    pub(super) fn operand(&self, name: &str) -> Result<Argument> {
        let value = self.get(name).ok_or_else(|| self.missing(name))?;
        if self.is_tensor(value) {
            return Ok(Argument::tensor(value.clone()));
        }
        let wrong = || self.invalid(format!("cannot read {name} = {value} as a tensor"));
        Argument::constant(value).ok_or_else(wrong)
    }

    /// Keras 2 itself loses some: of `x == y`, it writes `x` alone.
    fn missing(&self, name: &str) -> Error {
        self.invalid(format!("the config lacks the argument {name}"))
    }

    /// An argument that is no tensor.
    pub(super) fn constant(&self, name: &str) -> Result<Option<&Value>> {
        let value = self.get(name);
        match value.filter(|value| self.holds_tensor(value)) {
            Some(value) => {
                let what = format!("{name} = {value}, which depends on a tensor,");
                Err(self.unsupported(what, "constants"))
            }
            None => Ok(value),
        }
    }

    fn holds_tensor(&self, value: &Value) -> bool {
        match value {
            Value::Array(items) => {
                self.is_tensor(value) || items.iter().any(|item| self.holds_tensor(item))
            }
            Value::Object(map) => map.values().any(|item| self.holds_tensor(item)),
            _ => false,
        }
    }

    /// As [`Self::constant`], which must be there.
    pub(super) fn required(&self, name: &str) -> Result<&Value> {
        self.constant(name)?.ok_or_else(|| self.missing(name))
    }

    /// A value that may depend on tensors.
    pub(super) fn raw(&self, name: &str) -> Option<&Value> {
        self.get(name)
    }

    /// An integer.
    pub(super) fn integer(&self, name: &str, default: i64) -> Result<i64> {
        match self.constant(name)? {
            None => Ok(default),
            Some(value) => {
                let wrong = || self.invalid(format!("{name} = {value} must be an integer"));
                value.as_i64().ok_or_else(wrong)
            }
        }
    }

    /// A list of integers; one integer is a list of it.
    pub(super) fn integers(&self, name: &str) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.constant(name)? else {
            return Ok(None);
        };
        let numbers = match value {
            Value::Array(items) => items.iter().map(Value::as_i64).collect(),
            value => value.as_i64().map(|number| vec![number]),
        };
        let wrong = || self.invalid(format!("{name} = {value} must be integers"));
        numbers.ok_or_else(wrong).map(Some)
    }

    /// A number, in the form in which it was written.
    pub(super) fn number(&self, name: &str, default: f64) -> Result<Value> {
        match self.constant(name)? {
            None => Ok(default.into()),
            Some(value) if literals::number(value).is_some() => Ok(value.clone()),
            Some(value) => Err(self.invalid(format!("{name} = {value} must be a number"))),
        }
    }

    /// True or false.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.constant(name)? {
            None => Ok(default),
            Some(value) => {
                let wrong = || self.invalid(format!("{name} = {value} must be true or false"));
                value.as_bool().ok_or_else(wrong)
            }
        }
    }

    /// A word, such as a dtype.
    pub(super) fn word(&self, name: &str, default: &'static str) -> Result<String> {
        match self.constant(name)? {
            None => Ok(default.to_owned()),
            Some(value) => {
                let wrong = || self.invalid(format!("{name} = {value} must be a name"));
                value.as_str().map(str::to_owned).ok_or_else(wrong)
            }
        }
    }

    /// Refuses any value of an argument but this.
    pub(super) fn require(&self, name: &str, only: impl Into<Value>) -> Result<()> {
        let only = only.into();
        match self.get(name) {
            Some(value) if *value != only => {
                Err(self.unsupported(format!("{name} = {value}"), &format!("{name} = {only}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses arguments that nothing has read. TensorFlow's `name` means nothing.
    pub(super) fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let unread = self.kwargs.iter().find(|(name, value)| {
            !value.is_null() && *name != "name" && !read.contains(name.as_str())
        });
        match unread {
            Some((name, value)) => {
                let mut known: Vec<&str> = read.iter().map(String::as_str).collect();
                known.sort_unstable();
                Err(self.unsupported(format!("{name} = {value}"), &known.join(", ")))
            }
            None => Ok(()),
        }
    }
}
