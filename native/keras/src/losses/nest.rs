//! How a model's outputs are nested, and what `compile` was given for each of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::identifier::is_identifier;

/// One thing, a list of nests, or nests by name, as Keras's trees.
#[derive(Debug, Clone, PartialEq)]
pub enum Nest<T> {
    /// One thing.
    Leaf(T),
    /// Several in order.
    List(Vec<Nest<T>>),
    /// Several by name, in the order of the names, in which Keras flattens them.
    Dict(BTreeMap<String, Nest<T>>),
}

/// What has to be known of an output. Shapes are without the batch axis.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    /// Keras's `output_names`: the name of the layer that it comes from.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Shape of the labels beside it, where that is known without a loss.
    pub label: Option<Vec<i64>>,
}

impl<T> Nest<T> {
    /// The leaves in Keras's order.
    pub fn leaves(&self) -> Vec<&T> {
        match self {
            Self::Leaf(leaf) => vec![leaf],
            Self::List(items) => items.iter().flat_map(Self::leaves).collect(),
            Self::Dict(items) => items.values().flat_map(Self::leaves).collect(),
        }
    }

    /// Whether it is one thing.
    pub(crate) fn is_leaf(&self) -> bool {
        matches!(self, Self::Leaf(_))
    }

    /// Whether all leaves lie directly in one list or dict.
    pub(crate) fn is_flat(&self) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::List(items) => items.iter().all(Self::is_leaf),
            Self::Dict(items) => items.values().all(Self::is_leaf),
        }
    }

    /// The same structure with other leaves.
    pub(crate) fn map<'a, U>(&'a self, leaf: &mut impl FnMut(&'a T) -> U) -> Nest<U> {
        match self {
            Self::Leaf(value) => Nest::Leaf(leaf(value)),
            Self::List(items) => Nest::List(items.iter().map(|item| item.map(leaf)).collect()),
            Self::Dict(items) => Nest::Dict(
                items
                    .iter()
                    .map(|(key, item)| (key.clone(), item.map(leaf)))
                    .collect(),
            ),
        }
    }
}

impl<'a> Nest<&'a Value> {
    /// A setting of `compile` as JSON: arrays are lists, and objects without a `class_name` dicts.
    pub(crate) fn read(value: &'a Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::read).collect()),
            Value::Object(items) if !is_identifier(value) => Self::Dict(
                items
                    .iter()
                    .map(|(key, item)| (key.clone(), Self::read(item)))
                    .collect(),
            ),
            value => Self::Leaf(value),
        }
    }
}
