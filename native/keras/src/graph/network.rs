//! Which layers a model has and how they call each other, read from its config: Sequential, or
//! Functional in Keras 3's form or Keras 2's.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::order;
use crate::arguments::{Args, Tree};
use crate::config::Options;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::registry::{Entry, Family, shortened};
use crate::spec::Spec;

/// A tensor of the config: output `tensor` of call `node` of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) entry: usize,
    pub(crate) node: usize,
    pub(crate) tensor: usize,
}

/// One call of a layer on outputs of other calls.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) entry: usize,
    /// Which of its layer's calls it is.
    pub(crate) node: usize,
    pub(crate) args: Args<Key>,
}

/// A model as its config describes it.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) sequential: bool,
    pub(crate) entries: Vec<Entry>,
    /// The calls that the outputs need, each after those it needs.
    pub(crate) nodes: Vec<Node>,
    /// The inputs' layers, as the caller gives them.
    pub(crate) inputs: Tree<Key>,
    pub(crate) outputs: Tree<Key>,
    /// The entries in the order of Keras's `model.layers` with the operations between them.
    pub(crate) order: Vec<usize>,
}

impl Network {
    /// Reads the config of a model of Keras class `class`.
    ///
    /// # Errors
    /// The config is damaged, names what does not exist, or has a cycle.
    pub(crate) fn read(class: &str, options: &Options<'_>) -> Result<Self> {
        let layers = options.value("layers").and_then(Json::as_array);
        let layers = layers.ok_or_else(|| options.invalid("layers must be a list"))?;
        let entries = layers.iter().map(Entry::read).collect::<Result<Vec<_>>>()?;
        let mut names = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            if names.insert(entry.name.as_str(), at).is_some() {
                let name = &entry.name;
                return Err(options.invalid(format!("two layers are named \"{name}\"")));
            }
        }
        if class == "Sequential" {
            options.ignore(&["build_input_shape"]);
            return Self::sequential(entries, options);
        }
        let names: HashMap<String, usize> =
            names.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Self::functional(entries, layers, &names, options)
    }

    fn sequential(entries: Vec<Entry>, options: &Options<'_>) -> Result<Self> {
        if entries
            .first()
            .is_none_or(|entry| entry.class != "InputLayer")
        {
            return Err(options.invalid(
                "the input shape is unknown: start the model with keras.Input or build it",
            ));
        }
        let key = |entry| Key {
            entry,
            node: 0,
            tensor: 0,
        };
        let nodes = (1..entries.len()).map(|entry| Node {
            entry,
            node: 0,
            args: Args::one(key(entry - 1)),
        });
        Ok(Self {
            sequential: true,
            nodes: nodes.collect(),
            inputs: Tree::Leaf(key(0)),
            outputs: Tree::Leaf(key(entries.len() - 1)),
            order: (0..entries.len()).collect(),
            entries,
        })
    }

    fn functional(
        entries: Vec<Entry>,
        layers: &[Json],
        names: &HashMap<String, usize>,
        options: &Options<'_>,
    ) -> Result<Self> {
        let reader = Reader { names };
        let mut nodes = Vec::new();
        for (entry, layer) in layers.iter().enumerate() {
            let calls = layer["inbound_nodes"].as_array();
            for (node, call) in calls.into_iter().flatten().enumerate() {
                let place = entries[entry].place();
                let args = reader
                    .node(call)
                    .map_err(|reason| Error::InvalidConfig { place, reason })?;
                nodes.push(Node { entry, node, args });
            }
        }
        // Here a Functional model itself is call 0, which nobody names.
        let from_0 = |key: &Key| {
            let entry = &entries[key.entry];
            let skips = entry.family == Family::Models && entry.class != "Sequential";
            Key {
                node: key.node.saturating_sub(usize::from(skips)),
                ..*key
            }
        };
        let tree = |key: &str| {
            let value = options.value(key).unwrap_or(&Json::Null);
            let tree = reader.endpoints(value).map(|tree| tree.map(from_0));
            tree.map_err(|reason| options.invalid(format!("{key}: {reason}")))
        };
        let (inputs, outputs) = (tree("input_layers")?, tree("output_layers")?);
        for key in inputs.leaves() {
            if entries[key.entry].class != "InputLayer" {
                let place = entries[key.entry].place();
                return Err(options.invalid(format!("input_layers names {place}, no InputLayer")));
            }
        }
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let sorted = order::sort(&names, &nodes, &inputs, &outputs)
            .map_err(|reason| options.invalid(reason))?;
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        let nodes = sorted.nodes.iter().filter_map(|&at| nodes[at].take());
        Ok(Self {
            sequential: false,
            nodes: nodes.collect(),
            inputs,
            outputs,
            order: sorted.entries,
            entries,
        })
    }

    /// The spec of an `InputLayer`.
    ///
    /// # Errors
    /// Its shape or dtype is missing or wrong.
    pub(crate) fn input_spec(&self, entry: usize) -> Result<Spec> {
        let entry = &self.entries[entry];
        let options = Options::new(entry.place(), &entry.config);
        let shape = options
            .value("batch_shape")
            .or_else(|| options.value("batch_input_shape"));
        let dims = shape.and_then(Json::as_array).and_then(|axes| {
            let axes = axes.iter().map(|axis| match axis {
                Json::Null => Some(None),
                axis => axis.as_i64().filter(|&n| n > 0).map(Some),
            });
            axes.collect::<Option<Vec<_>>>()
        });
        let Some(mut dims) = dims.filter(|dims| !dims.is_empty()) else {
            let shape = shape.unwrap_or(&Json::Null);
            return Err(options.invalid(format!(
                "batch_shape = {shape} must be [null, sizes...], with null for what is not known"
            )));
        };
        // A model that was built for one batch size takes any.
        dims[0] = None;
        let name = options.str("dtype", "float32")?;
        let Some(dtype) = DType::from_name(name) else {
            return Err(options.invalid(format!("dtype = \"{name}\" is no dtype of Keras")));
        };
        for key in ["sparse", "ragged", "optional"] {
            options.require(key, &Json::Bool(false))?;
        }
        options.ignore(&["name", "trainable", "batch_shape", "batch_input_shape"]);
        options.finish()?;
        Ok(Spec::new(dims, dtype))
    }
}

/// Reads references to tensors by the names of layers.
struct Reader<'a> {
    names: &'a HashMap<String, usize>,
}

type Read<T> = std::result::Result<T, String>;

impl Reader<'_> {
    /// The arguments of a call. Keras 3: `{"args", "kwargs"}` with `__keras_tensor__` objects;
    /// Keras 2: `[[name, node, tensor, kwargs], ...]`.
    fn node(&self, node: &Json) -> Read<Args<Key>> {
        let args = if let Json::Array(tensors) = node {
            self.legacy_node(tensors)?
        } else {
            let list = node["args"].as_array().into_iter().flatten();
            let named = node["kwargs"].as_object().into_iter().flatten();
            Args {
                list: list.map(|item| self.tree(item)).collect::<Read<_>>()?,
                named: named
                    .map(|(key, item)| Ok((key.clone(), self.tree(item)?)))
                    .collect::<Read<_>>()?,
            }
        };
        if args.leaves().is_empty() {
            let node = shortened(&node.to_string());
            return Err(format!("inbound node {node} names no input"));
        }
        Ok(args)
    }

    fn legacy_node(&self, tensors: &[Json]) -> Read<Args<Key>> {
        let mut inputs = Vec::new();
        let mut named = Vec::new();
        // A call on one tensor may stand without the list around it.
        let single = tensors.first().is_some_and(Json::is_string);
        let tensors = if single {
            vec![Json::Array(tensors.to_vec())]
        } else {
            tensors.to_vec()
        };
        for tensor in &tensors {
            let wrong = || format!("cannot read node {}", shortened(&tensor.to_string()));
            let parts = tensor.as_array().ok_or_else(wrong)?;
            if parts.first().and_then(Json::as_str) == Some("_CONSTANT_VALUE") {
                inputs.push(Tree::Constant(parts.get(2).cloned().unwrap_or_default()));
            } else {
                inputs.push(Tree::Leaf(self.history(tensor).ok_or_else(wrong)??));
            }
            let kwargs = parts.get(3).and_then(Json::as_object);
            for (key, value) in kwargs.into_iter().flatten() {
                let value = match self.legacy_tensor(value) {
                    Some(key) => Tree::Leaf(key?),
                    None => match value.as_array() {
                        Some(items)
                            if items.iter().any(|item| self.legacy_tensor(item).is_some()) =>
                        {
                            let items = items.iter().map(|item| match self.legacy_tensor(item) {
                                Some(key) => Ok(Tree::Leaf(key?)),
                                None => Ok(Tree::Constant(item.clone())),
                            });
                            Tree::List(items.collect::<Read<_>>()?)
                        }
                        _ => Tree::Constant(value.clone()),
                    },
                };
                named.push((key.clone(), value));
            }
        }
        let first = match inputs.len() {
            1 => inputs.swap_remove(0),
            _ => Tree::List(inputs),
        };
        Ok(Args {
            list: vec![first],
            named,
        })
    }

    /// `[layer name, node, tensor]` where that is what an argument of Keras 2 is.
    fn legacy_tensor(&self, value: &Json) -> Option<Read<Key>> {
        let parts = value.as_array()?;
        let name = parts.first()?.as_str()?;
        (parts.len() == 3 && self.names.contains_key(name)).then(|| {
            let key = self.history(value);
            key.unwrap_or_else(|| Err(format!("cannot read tensor {value}")))
        })
    }

    fn tree(&self, value: &Json) -> Read<Tree<Key>> {
        let class = value.get("class_name").and_then(Json::as_str);
        match (value, class) {
            (_, Some("__keras_tensor__")) => {
                let history = value.pointer("/config/keras_history");
                let key = history.and_then(|history| self.history(history));
                key.unwrap_or_else(|| Err(format!("{value} has no keras_history")))
                    .map(Tree::Leaf)
            }
            (_, Some("__tuple__")) => {
                let items = value
                    .get("items")
                    .or_else(|| value.pointer("/config/value"));
                self.tree(items.unwrap_or(&Json::Null))
            }
            (Json::Array(items), _) => {
                let items = items.iter().map(|item| self.tree(item));
                let items = items.collect::<Read<Vec<_>>>()?;
                if items.iter().all(|item| item.constant().is_some()) {
                    return Ok(Tree::Constant(value.clone()));
                }
                Ok(Tree::List(items))
            }
            (Json::Object(entries), None) => {
                let entries = entries
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), self.tree(item)?)));
                let entries = entries.collect::<Read<Vec<_>>>()?;
                if entries.iter().all(|(_, item)| item.constant().is_some()) {
                    return Ok(Tree::Constant(value.clone()));
                }
                Ok(Tree::Map(entries))
            }
            _ => Ok(Tree::Constant(value.clone())),
        }
    }

    /// `input_layers` or `output_layers`: `[name, node, tensor]`, in lists or dictionaries.
    fn endpoints(&self, value: &Json) -> Read<Tree<Key>> {
        if let Some(key) = self.history(value) {
            return key.map(Tree::Leaf);
        }
        match value {
            Json::Array(items) if !items.is_empty() => {
                let items = items.iter().map(|item| self.endpoints(item));
                Ok(Tree::List(items.collect::<Read<_>>()?))
            }
            Json::Object(entries) if !entries.is_empty() => {
                let entries = entries
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), self.endpoints(item)?)));
                Ok(Tree::Map(entries.collect::<Read<_>>()?))
            }
            _ => Err(format!("{value} names no tensor")),
        }
    }

    /// Reads `[name, node, tensor, ...]`; `None` if it is something else.
    fn history(&self, value: &Json) -> Option<Read<Key>> {
        let [name, node, tensor, ..] = value.as_array()?.as_slice() else {
            return None;
        };
        let name = name.as_str()?;
        let index = |value: &Json| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let (node, tensor) = (index(node)?, index(tensor)?);
        Some(match self.names.get(name) {
            Some(&entry) => Ok(Key {
                entry,
                node,
                tensor,
            }),
            None => Err(format!("there is no layer \"{name}\"")),
        })
    }
}
