//! What a call of a TensorFlow function becomes: an operation of `keras.ops` on tensors, constants
//! and other operations.

use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::literals;
use crate::normalize::keras_tensor;

/// An argument of an operation.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    /// A tensor of the model or a constant, in Keras 3's form.
    Given(Value),
    /// What another operation computes.
    Computed(Box<Operation>),
    /// Several of them.
    List(Vec<Argument>),
}

impl Argument {
    /// Output `history` (`[layer, node, tensor]`) of the model.
    pub(super) fn tensor(history: Value) -> Self {
        Self::Given(keras_tensor(history))
    }

    /// A number, or nested lists of numbers as an array of the dtype that TensorFlow gives them;
    /// `None` for anything else.
    pub(super) fn constant(value: &Value) -> Option<Self> {
        literals::shape(value)?;
        if !value.is_array() {
            return Some(Self::Given(value.clone()));
        }
        let dtype = DType::Tensor(literals::kind(value)).name();
        Some(Self::Given(json!({
            "class_name": "__numpy__", "config": {"value": value, "dtype": dtype},
        })))
    }

    /// Whether it is an array, which does not take the dtype of the tensor beside it.
    pub(super) fn is_array(&self) -> bool {
        matches!(self, Self::Given(value) if value["class_name"] == "__numpy__")
    }

    /// Whether it is an array or a number.
    pub(super) fn is_constant(&self) -> bool {
        self.is_array() || matches!(self, Self::Given(value) if !value.is_object())
    }

    /// The argument as JSON; operations in it become layers in front.
    fn emit(self, name: &str, layers: &mut Vec<Value>) -> Value {
        match self {
            Self::Given(value) => value,
            Self::List(items) => {
                let items = items.into_iter().map(|item| item.emit(name, layers));
                Value::Array(items.collect())
            }
            Self::Computed(operation) => {
                let inner = operation.class.to_lowercase();
                let inner = format!("{name}.{inner}_{}", layers.len());
                operation.emit(&inner, layers);
                keras_tensor(json!([inner, 0, 0]))
            }
        }
    }
}

impl From<Operation> for Argument {
    fn from(operation: Operation) -> Self {
        Self::Computed(Box::new(operation))
    }
}

/// An operation of `keras.ops` with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    module: &'static str,
    pub(super) class: &'static str,
    config: Map<String, Value>,
    pub(super) args: Vec<Argument>,
    kwargs: Map<String, Value>,
    dtypes: Option<&'static [&'static str]>,
}

impl Operation {
    /// The operation `path`, such as `numpy.Add`, of `args`.
    pub(super) fn new(path: &'static str, args: impl Into<Vec<Argument>>) -> Self {
        let (module, class) = path.split_once('.').unwrap_or(("numpy", path));
        Self {
            module,
            class,
            config: Map::new(),
            args: args.into(),
            kwargs: Map::new(),
            dtypes: None,
        }
    }

    /// With an option of its class.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.config.insert(key.to_owned(), value.into());
        self
    }

    /// With a constant argument of its call.
    pub(super) fn called_with(mut self, key: &str, value: Value) -> Self {
        self.kwargs.insert(key.to_owned(), value);
        self
    }

    /// Only for inputs of these dtypes, since for others TensorFlow's function gives another
    /// result or dtype than Keras's.
    pub(super) fn only(mut self, dtypes: &'static [&'static str]) -> Self {
        self.dtypes = Some(dtypes);
        self
    }

    /// The layer `name` of Keras 3's config, after those for the operations among its arguments.
    pub(super) fn emit(self, name: &str, layers: &mut Vec<Value>) {
        let args = self.args.into_iter();
        let args = args.map(|argument| argument.emit(name, layers));
        let args: Vec<Value> = args.collect();
        let mut config = self.config;
        config.insert("name".to_owned(), name.into());
        let mut layer = json!({
            "module": format!("keras.src.ops.{}", self.module),
            "class_name": self.class,
            "config": config,
            "registered_name": self.class,
            "name": name,
            "inbound_nodes": [{"args": args, "kwargs": self.kwargs}],
        });
        if let Some(dtypes) = self.dtypes {
            layer["input_dtypes"] = json!(dtypes);
        }
        layers.push(layer);
    }
}
