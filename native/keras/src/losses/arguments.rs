//! Arguments of a Keras loss or metric. Every class lists its own with Keras's defaults; null is a
//! value like any other, and an argument that is not listed is an error that names it.

use serde_json::{Map, Value, json};
use tch::Kind;

use crate::error::{Error, Result};

/// An argument of a Keras class.
#[derive(Debug)]
pub(crate) struct Argument {
    name: &'static str,
    default: Default,
    /// Whether `get_config` writes it. What it leaves out is written here only where it was given:
    /// Keras takes it, and would otherwise go on with the default.
    listed: bool,
}

/// What holds without the argument.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Default {
    /// It must be given.
    Required,
    /// `None`.
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'static str),
    Ints(&'static [i64]),
}

impl Argument {
    /// One that `get_config` writes.
    pub(crate) const fn new(name: &'static str, default: Default) -> Self {
        Self {
            name,
            default,
            listed: true,
        }
    }

    /// One that `get_config` forgets.
    pub(crate) const fn unlisted(name: &'static str, default: Default) -> Self {
        Self {
            name,
            default,
            listed: false,
        }
    }
}

/// The arguments of one object.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    place: String,
    known: &'static [Argument],
    /// Arguments that cannot be given here, for their defaults.
    fixed: &'static [Argument],
    given: Option<&'a Map<String, Value>>,
}

impl<'a> Arguments<'a> {
    /// The arguments `given` to a class that has the `known` ones besides those in `common`, which
    /// the caller reads itself. `place` names the object in errors.
    pub(crate) fn new(
        place: String,
        known: &'static [Argument],
        common: &[&str],
        given: Option<&'a Map<String, Value>>,
    ) -> Result<Self> {
        let arguments = Self {
            place,
            known,
            fixed: &[],
            given,
        };
        let is_known = |key: &str| common.contains(&key) || known.iter().any(|a| a.name == key);
        match given.and_then(|given| given.keys().find(|key| !is_known(key))) {
            None => Ok(arguments),
            Some(key) => {
                let names = common.iter().copied().chain(known.iter().map(|a| a.name));
                Err(Error::Unsupported {
                    what: format!("the argument {key}"),
                    supported: names.collect::<Vec<_>>().join(", "),
                    place: arguments.place,
                })
            }
        }
    }

    /// The same for a function that has further arguments, which keep their defaults.
    pub(crate) fn with_fixed(&self, fixed: &'static [Argument]) -> Self {
        Self {
            place: self.place.clone(),
            fixed,
            ..*self
        }
    }

    /// What errors call the object.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The value of `name`, else its default; one of the common arguments has none, and is then
    /// null.
    pub(crate) fn value(&self, name: &str) -> Result<Value> {
        if let Some(value) = self.given.and_then(|given| given.get(name)) {
            return Ok(value.clone());
        }
        let known = self
            .known
            .iter()
            .chain(self.fixed)
            .find(|argument| argument.name == name);
        known.map_or(Ok(Value::Null), |argument| {
            argument
                .default
                .value()
                .ok_or_else(|| self.invalid(format!("{name} is missing")))
        })
    }

    /// Whether `name` was given, be it as null.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.is_some_and(|given| given.contains_key(name))
    }

    /// A value of any type that `read` understands.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.value(name)?;
        read(&value).ok_or_else(|| self.invalid(format!("{name} = {value} must be {expected}")))
    }

    pub(crate) fn bool(&self, name: &str) -> Result<bool> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(crate) fn f64(&self, name: &str) -> Result<f64> {
        self.read(name, "a number", Value::as_f64)
    }

    pub(crate) fn i64(&self, name: &str) -> Result<i64> {
        self.read(name, "an integer", Value::as_i64)
    }

    /// An integer, or null for none.
    pub(crate) fn optional_i64(&self, name: &str) -> Result<Option<i64>> {
        self.read(name, "an integer or null", |value| {
            nullable(value, Value::as_i64)
        })
    }

    /// A number or several, or null for none.
    pub(crate) fn optional_numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        self.read(name, "a number, a list of numbers or null", |value| {
            nullable(value, |value| list(value, Value::as_f64))
        })
    }

    /// An axis or several, of which none may be the batch's. Negative ones count from the end.
    pub(crate) fn axes(&self, name: &str) -> Result<Vec<i64>> {
        let axes = self.read(name, "an integer or a list of integers", |value| {
            list(value, Value::as_i64)
        })?;
        if axes.contains(&0) {
            return Err(self.batch_axis(name));
        }
        Ok(axes)
    }

    /// One axis, which may not be the batch's.
    pub(crate) fn axis(&self, name: &str) -> Result<i64> {
        match self.i64(name)? {
            0 => Err(self.batch_axis(name)),
            axis => Ok(axis),
        }
    }

    /// One of the words; `none` stands for null.
    pub(crate) fn word(
        &self,
        name: &str,
        words: &'static [&'static str],
        none: Option<&'static str>,
    ) -> Result<&'static str> {
        let mut expected = words.join(", ");
        if none.is_some() {
            expected.push_str(" or null");
        }
        self.read(name, &expected, |value| match value {
            Value::Null => none,
            value => words
                .iter()
                .find(|word| value.as_str() == Some(word))
                .copied(),
        })
    }

    /// What the object computes in, from `dtype`: a name, a policy, or null for float32.
    pub(crate) fn kind(&self) -> Result<Kind> {
        let dtype = self.value("dtype")?;
        let name = match &dtype {
            Value::Null => Some("float32"),
            Value::String(name) => Some(name.as_str()),
            policy => policy.pointer("/config/name").and_then(Value::as_str),
        };
        match name {
            Some("float32") => Ok(Kind::Float),
            Some("float64") => Ok(Kind::Double),
            _ => Err(Error::Unsupported {
                place: self.place.clone(),
                what: format!("dtype = {dtype}"),
                supported: "float32, float64".to_owned(),
            }),
        }
    }

    /// The arguments as `get_config` writes them.
    pub(crate) fn config(&self) -> Result<Map<String, Value>> {
        let written = |argument: &&Argument| argument.listed || self.is_given(argument.name);
        self.known
            .iter()
            .filter(written)
            .map(|argument| Ok((argument.name.to_owned(), self.value(argument.name)?)))
            .collect()
    }

    /// An error about a value of this object.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidConfig {
            place: self.place.clone(),
            reason: reason.into(),
        }
    }

    fn batch_axis(&self, name: &str) -> Error {
        Error::Unsupported {
            place: self.place.clone(),
            what: format!("{name} = 0, the axis of the batch,"),
            supported: "the other axes, as rows may lie on several workers".to_owned(),
        }
    }
}

impl Default {
    fn value(self) -> Option<Value> {
        Some(match self {
            Self::Required => return None,
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::Float(value) => json!(value),
            Self::Text(value) => value.into(),
            Self::Ints(values) => values.into(),
        })
    }
}

/// Null as none, else what `read` gives.
pub(crate) fn nullable<T>(
    value: &Value,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Option<Option<T>> {
    match value {
        Value::Null => Some(None),
        value => read(value).map(Some),
    }
}

/// One value, or a list of them, also as Keras writes a tensor.
pub(crate) fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    let tensor = value.pointer("/config/value").filter(|_| {
        let class = value.get("class_name").and_then(Value::as_str);
        matches!(class, Some("__tensor__" | "__numpy__"))
    });
    match tensor.unwrap_or(value) {
        Value::Array(items) => items.iter().map(read).collect(),
        value => read(value).map(|value| vec![value]),
    }
}
