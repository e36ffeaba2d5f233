//! Typed reading of Keras config dictionaries. What a reader does not ask for is an error, never
//! ignored: absent, null and a value are three things.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Where an object was named: `{"class_name", "config"}`, or its bare name with an empty config.
#[derive(Debug, Clone)]
pub struct Named {
    /// Keras's class or function name.
    pub class: String,
    /// Its arguments.
    pub config: Map<String, Value>,
}

impl Named {
    /// Reads a name, Keras 2's `{"class_name", "config"}`, or Keras 3's object with `module` and
    /// `registered_name` (also of a function, whose `config` is its name). `place` names the
    /// owner in errors.
    pub fn from_value(value: &Value, place: &str) -> Result<Self> {
        let invalid = || Error::InvalidConfig {
            place: place.to_owned(),
            reason: format!("{value} is neither a name nor {{\"class_name\": .., \"config\": ..}}"),
        };
        match value {
            Value::String(name) => Ok(Self {
                class: name.clone(),
                config: Map::new(),
            }),
            Value::Object(object) => {
                let class = object
                    .get("class_name")
                    .and_then(Value::as_str)
                    .ok_or_else(invalid)?;
                match object.get("config") {
                    Some(Value::String(function)) if class == "function" => Ok(Self {
                        class: function.clone(),
                        config: Map::new(),
                    }),
                    Some(Value::Object(config)) => Ok(Self {
                        class: class.to_owned(),
                        config: config.clone(),
                    }),
                    None | Some(Value::Null) => Ok(Self {
                        class: class.to_owned(),
                        config: Map::new(),
                    }),
                    Some(_) => Err(invalid()),
                }
            }
            _ => Err(invalid()),
        }
    }
}

/// Objects of Keras itself, told from a user's own of the same name.
impl Named {
    /// As [`Self::from_value`], for an object that must be Keras's own: of `module`, such as
    /// `keras.optimizers`, or its private spelling `keras.src.optimizers`. A class of another
    /// module, or registered under another name, is the user's own whatever it is called.
    pub fn builtin(value: &Value, module: &str, place: &str) -> Result<Self> {
        let named = Self::from_value(value, place)?;
        let own = |what: String| Error::Unsupported {
            place: place.to_owned(),
            what: format!("{} {what}", named.class),
            supported: format!("objects of {module}"),
        };
        match value.get("module") {
            None => {}
            Some(Value::String(found)) if is_module(found, module) => {}
            Some(found) => return Err(own(format!("of module {found}"))),
        }
        match value.get("registered_name") {
            None | Some(Value::Null) => {}
            Some(Value::String(name)) if *name == named.class => {}
            Some(found) => return Err(own(format!("registered as {found}"))),
        }
        Ok(named)
    }
}

fn is_module(found: &str, module: &str) -> bool {
    let private = || {
        let rest = found.strip_prefix("keras.src.")?;
        let public = rest.strip_prefix(module.strip_prefix("keras.")?)?;
        Some(public.is_empty() || public.starts_with('.'))
    };
    found == module || private().unwrap_or(false)
}

/// What a key holds: in Keras, absent, null and a value are three things.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Given<'a> {
    /// The key is not there: the argument has its default.
    Absent,
    /// The argument is Python's `None`.
    Null,
    /// Anything else.
    Value(&'a Value),
}

/// The arguments of one object, with the keys read so far.
#[derive(Debug)]
pub struct Options<'a> {
    place: String,
    map: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Options<'a> {
    /// `place` names the object in errors, such as `layer "dense" (Dense)`.
    pub fn new(place: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Self {
            place: place.into(),
            map,
            read: RefCell::default(),
        }
    }

    /// What errors call the object.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The value of `key`; `None` if absent or null.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// What `key` holds.
    pub fn given(&self, key: &str) -> Given<'a> {
        self.read.borrow_mut().insert(key.to_owned());
        match self.map.get(key) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => Given::Value(value),
        }
    }

    /// A number; only if absent it is `default`, and null is an error.
    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        self.number_or_null(key, Some(default))?
            .ok_or_else(|| self.invalid(format!("{key} = null must be a number")))
    }

    /// A number or null; only if absent it is `default`.
    pub fn number_or_null(&self, key: &str, default: Option<f64>) -> Result<Option<f64>> {
        self.given_or(key, default, "a number", Value::as_f64)
    }

    /// An integer or null; only if absent it is `default`.
    pub fn integer_or_null(&self, key: &str, default: Option<i64>) -> Result<Option<i64>> {
        self.given_or(key, default, "an integer", Value::as_i64)
    }

    /// An integer; only if absent it is `default`, and null is an error.
    pub fn integer(&self, key: &str, default: i64) -> Result<i64> {
        self.integer_or_null(key, Some(default))?
            .ok_or_else(|| self.invalid(format!("{key} = null must be an integer")))
    }

    /// A boolean; only if absent it is `default`, and null is an error.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.given_or(key, Some(default), "true or false", Value::as_bool)?
            .ok_or_else(|| self.invalid(format!("{key} = null must be true or false")))
    }

    fn given_or<T>(
        &self,
        key: &str,
        default: Option<T>,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.given(key) {
            Given::Absent => Ok(default),
            Given::Null => Ok(None),
            Given::Value(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.invalid(format!("{key} = {value} must be {expected}"))),
        }
    }

    /// Marks keys that have no influence here as read.
    pub fn ignore(&self, keys: &[&str]) {
        let keys = keys.iter().map(|key| (*key).to_owned());
        self.read.borrow_mut().extend(keys);
    }

    /// Whether `key` is there and null, which in Keras is not the same as left out.
    pub fn is_null(&self, key: &str) -> bool {
        self.read.borrow_mut().insert(key.to_owned());
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// Demands that `key` is absent or null: an option that this crate does not implement.
    pub fn require_null(&self, key: &str) -> Result<()> {
        match self.value(key) {
            Some(value) => Err(self.unsupported(key, value, "null")),
            None => Ok(()),
        }
    }

    /// Demands that `key` is absent or `default`: an option whose other values this crate does
    /// not implement.
    pub fn require(&self, key: &str, default: &Value) -> Result<()> {
        self.read.borrow_mut().insert(key.to_owned());
        match self.map.get(key) {
            Some(value) if value != default => {
                Err(self.unsupported(key, value, &default.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// A boolean; absent or null gives `default`.
    pub fn bool(&self, key: &str, default: bool) -> Result<bool> {
        self.optional(key, "true or false", Value::as_bool)
            .map(|v| v.unwrap_or(default))
    }

    /// A number; absent or null gives `default`.
    pub fn f64(&self, key: &str, default: f64) -> Result<f64> {
        self.optional_f64(key).map(|v| v.unwrap_or(default))
    }

    /// A number that may be absent or null.
    pub fn optional_f64(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a number", Value::as_f64)
    }

    /// An integer; absent or null gives `default`.
    pub fn i64(&self, key: &str, default: i64) -> Result<i64> {
        self.optional(key, "an integer", Value::as_i64)
            .map(|v| v.unwrap_or(default))
    }

    /// A positive integer that must be there.
    pub fn count(&self, key: &str) -> Result<i64> {
        self.optional(key, "a positive integer", positive)?
            .ok_or_else(|| self.invalid(format!("{key} is missing; it must be a positive integer")))
    }

    /// A string; absent or null gives `default`.
    pub fn str(&self, key: &str, default: &'a str) -> Result<&'a str> {
        self.optional(key, "a string", Value::as_str)
            .map(|v| v.unwrap_or(default))
    }

    /// One positive integer for both spatial axes, or a list of two; `None` if absent or null.
    pub fn pair(&self, key: &str) -> Result<Option<[i64; 2]>> {
        self.optional(
            key,
            "a positive integer or a list of two",
            |value| match value {
                Value::Array(items) => match items.as_slice() {
                    [a, b] => Some([positive(a)?, positive(b)?]),
                    _ => None,
                },
                _ => positive(value).map(|n| [n, n]),
            },
        )
    }

    /// As [`Self::pair`], but it must be there.
    pub fn required_pair(&self, key: &str) -> Result<[i64; 2]> {
        self.pair(key)?
            .ok_or_else(|| self.invalid(format!("{key} is missing")))
    }

    /// Demands that `key` is absent, null or one of `allowed`; gives the value, else `default`.
    pub fn choice(
        &self,
        key: &str,
        default: &'static str,
        allowed: &[&'static str],
    ) -> Result<&'static str> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let found = allowed
            .iter()
            .find(|choice| value.as_str() == Some(**choice));
        found
            .copied()
            .ok_or_else(|| self.unsupported(key, value, &allowed.join(", ")))
    }

    /// Every key must have been read: another is an option that this crate does not implement.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        match self
            .map
            .iter()
            .find(|(key, _)| !read.contains(key.as_str()))
        {
            Some((key, value)) => Err(self.unsupported(key, value, "leaving it out")),
            None => Ok(()),
        }
    }

    /// An error about a value of this object.
    pub fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidConfig {
            place: self.place.clone(),
            reason: reason.into(),
        }
    }

    /// An error about an option that is valid in Keras but not implemented.
    pub fn unsupported(&self, key: &str, value: &Value, supported: &str) -> Error {
        Error::Unsupported {
            place: self.place.clone(),
            what: format!("{key} = {value}"),
            supported: supported.to_owned(),
        }
    }

    fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.value(key)
            .map(|value| {
                read(value)
                    .ok_or_else(|| self.invalid(format!("{key} = {value} must be {expected}")))
            })
            .transpose()
    }
}

fn positive(value: &Value) -> Option<i64> {
    value.as_i64().filter(|&n| n > 0)
}
