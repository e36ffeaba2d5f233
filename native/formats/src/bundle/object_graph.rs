//! The graph of the objects in a checkpoint of `tf.train.Checkpoint` (`TrackableObjectGraph` of
//! `trackable_object_graph.proto`).
//!
//! Restoring walks from the Python object and from node 0 at once, along children of the same name,
//! so a checkpoint fits a model if its graph has the model's paths; the keys under which tensors
//! are stored are free, but TensorFlow makes them of the first path to the variable.
//!
//! # What to describe for `tf.train.Checkpoint(model=model)` of Keras 3
//!
//! Found in Keras 3.15's checkpoints on TensorFlow 2.21 (`KerasAutoTrackable` makes a child of every
//! attribute that is set to a layer or variable, under the attribute's own name):
//!
//! - `save_counter`: an int64 scalar, which `tf.train.Checkpoint` itself has. Always needed.
//! - A Functional model at path M: operation `i` of `model.operations`, which are the layers in the
//!   order of `model.layers` where no plain operations are among them and InputLayers count, is at
//!   `M/_operations/<i>`.
//! - A Sequential model at path M: `M/_functional/_operations/<i>`, where 0 is the InputLayer.
//! - A model that is a layer of another has its layer's path as M.
//! - A layer's variables:
//!
//! | layer | below the layer's path |
//! |---|---|
//! | Dense, EinsumDense, Conv1D to 3D | `_kernel`, `bias` |
//! | Embedding | `_embeddings` |
//! | DepthwiseConv, ConvTranspose | `kernel`, `bias` |
//! | SeparableConv | `depthwise_kernel`, `pointwise_kernel`, `bias` |
//! | BatchNormalization | `gamma`, `beta`, `moving_mean`, `moving_variance` |
//! | LayerNormalization, GroupNormalization | `gamma`, `beta` |
//! | RMSNormalization | `scale` |
//! | PReLU | `alpha` |
//! | LSTM, GRU, SimpleRNN, ConvLSTM | `cell/kernel`, `cell/recurrent_kernel`, `cell/bias` |
//! | Bidirectional | `forward_layer/...`, `backward_layer/...` |
//! | TimeDistributed | `layer/...` |
//! | SpectralNormalization | `layer/...`, `vector_u`; and `kernel`, the wrapped layer's kernel again |
//! | MultiHeadAttention, GroupQueryAttention | `_query_dense/...`, `_key_dense/...`, `_value_dense/...`, `_output_dense/...` |
//! | Attention, AdditiveAttention | `scale` |
//! | Normalization | `adapt_mean`, `adapt_variance`, `count` |
//!
//! - The optimizer of a compiled model is `M/optimizer`. Below it are `_iterations`,
//!   `_learning_rate` (unless a schedule computes it), and `_variables/<k>` for each of
//!   `optimizer.variables`, of which the first one or two are those again. For `assert_consumed` the
//!   other lists that refer to the same variables are needed too: `_trainable_variables/<k>`, the
//!   model's own, and one list for each kind of slot: `_momentums` and `_velocities` (Adam, AdamW,
//!   Nadam), `_momentums` (SGD with momentum, Lion), `_m` and `_u` (Adamax), `_velocities`
//!   (RMSprop), `_accumulators` (Adagrad), `_accumulators` and `_linears` (Ftrl),
//!   `_accumulated_grads` and `_accumulated_delta_vars` (Adadelta),
//!   `_model_variables_moving_average` (EMA), `_accumulated_gradients` (gradient accumulation).
//!   A LossScaleOptimizer has `step_counter`, `dynamic_scale` and `inner_optimizer`, an optimizer.
//!
//! What refers to a variable again is made by [`ObjectGraph::link`]. The cells of a
//! `StackedRNNCells` are in no checkpoint of Keras 3: it does not track lists of layers there.

use std::collections::BTreeMap;

use super::entry::{each_field, wire_error};
use super::{OBJECT_GRAPH_KEY, tensor_place};
use crate::protobuf::{Message, Value, WireError, put_bytes, put_uint};
use crate::{Error, Result};

/// The name that TensorFlow gives to the value of a variable.
const VARIABLE_VALUE: &str = "VARIABLE_VALUE";

/// The objects of a checkpoint; node 0 is the object that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectGraph {
    nodes: Vec<Node>,
}

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its attributes that are objects: their names and nodes.
    pub children: BTreeMap<String, usize>,
    /// Its own values.
    pub tensors: Vec<SavedTensor>,
    /// Variables that an optimizer of TensorFlow 2 keeps for others; Keras 3 has none.
    pub slot_variables: Vec<SlotVariable>,
}

/// A value of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTensor {
    /// What it is to the object: `VARIABLE_VALUE` for a variable.
    pub name: String,
    /// Keras's path of the variable, such as `sequential/dense/kernel`.
    pub full_name: String,
    /// The key of the tensor in the checkpoint.
    pub key: String,
}

/// A variable that an optimizer keeps for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotVariable {
    /// Node of the variable it is kept for.
    pub original: usize,
    /// Name of the slot, such as `m`.
    pub name: String,
    /// Node of the variable itself.
    pub slot: usize,
}

impl Default for ObjectGraph {
    fn default() -> Self {
        ObjectGraph {
            nodes: vec![Node::default()],
        }
    }
}

impl ObjectGraph {
    /// All objects.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node at a path of names from node 0, such as `model/_operations/1/bias`.
    pub fn node_at(&self, path: &str) -> Option<usize> {
        parts(path).try_fold(0, |node, name| self.child(node, name))
    }

    /// The variable at a path.
    pub fn variable_at(&self, path: &str) -> Option<&SavedTensor> {
        let node = self.nodes.get(self.node_at(path)?)?;
        let value = |tensor: &&SavedTensor| tensor.name == VARIABLE_VALUE;
        node.tensors.iter().find(value)
    }

    /// The first variable that Keras calls `full_name`; Keras does not keep these names distinct.
    pub fn variable_named(&self, full_name: &str) -> Option<&SavedTensor> {
        let mut tensors = self.nodes.iter().flat_map(|node| &node.tensors);
        tensors.find(|tensor| tensor.name == VARIABLE_VALUE && tensor.full_name == full_name)
    }

    /// Describes the variable at `path`, with every object that leads to it, and returns the key
    /// under which its tensor belongs in the checkpoint.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `path` is empty or already the path of a variable.
    pub fn add_variable(&mut self, path: &str, full_name: &str) -> Result<String> {
        // TensorFlow doubles the dots in names, so that ".ATTRIBUTES" is never one of them.
        let names = parts(path).map(|name| name.replace('.', ".."));
        let ends = [".ATTRIBUTES", VARIABLE_VALUE].map(str::to_owned);
        let key = names.chain(ends).collect::<Vec<_>>().join("/");
        let id = self.make(path);
        match self.nodes.get_mut(id) {
            Some(node) if id > 0 && node.tensors.is_empty() => {
                node.tensors.push(SavedTensor {
                    name: VARIABLE_VALUE.into(),
                    full_name: full_name.into(),
                    key: key.clone(),
                });
                Ok(key)
            }
            _ => Err(Error::invalid(
                format!("variable {path:?}"),
                "its path must be one that no variable has",
            )),
        }
    }

    /// Makes the object at path `target`, which must be described already, a child at `path` too.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is nothing at `target`, or something else at `path`.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let place = || format!("object {path:?}");
        let Some(target_node) = self.node_at(target) else {
            let reason = format!("there is no object {target:?} that it could be");
            return Err(Error::invalid(place(), reason));
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.make(parent);
        match self.child(parent, name) {
            _ if name.is_empty() => Err(Error::invalid(place(), "its path is empty")),
            Some(node) if node != target_node => Err(Error::invalid(
                place(),
                "its path is that of another object",
            )),
            Some(_) => Ok(()),
            None => {
                if let Some(parent) = self.nodes.get_mut(parent) {
                    parent.children.insert(name.to_owned(), target_node);
                }
                Ok(())
            }
        }
    }

    fn child(&self, node: usize, name: &str) -> Option<usize> {
        self.nodes.get(node)?.children.get(name).copied()
    }

    /// The node at `path`, made if need be.
    fn make(&mut self, path: &str) -> usize {
        parts(path).fold(0, |node, name| {
            self.child(node, name).unwrap_or_else(|| {
                let id = self.nodes.len();
                self.nodes.push(Node::default());
                if let Some(node) = self.nodes.get_mut(node) {
                    node.children.insert(name.to_owned(), id);
                }
                id
            })
        })
    }

    /// Whether there is a tensor at or below each node.
    fn have_values(&self) -> Vec<bool> {
        let mut parents = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for child in node.children.values() {
                parents[*child].push(id);
            }
        }
        let mut have = vec![false; self.nodes.len()];
        let with_tensors = |id: &usize| !self.nodes[*id].tensors.is_empty();
        let mut reached: Vec<usize> = (0..self.nodes.len()).filter(with_tensors).collect();
        while let Some(id) = reached.pop() {
            if !have[id] {
                have[id] = true;
                reached.extend(&parents[id]);
            }
        }
        have
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut graph = Vec::new();
        for (node, has_values) in self.nodes.iter().zip(self.have_values()) {
            put_bytes(1, &node.encode(has_values), &mut graph);
        }
        graph
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let place = tensor_place(OBJECT_GRAPH_KEY);
        let mut nodes = Vec::new();
        let decoded = each_field(bytes, |field| {
            if let (1, Value::Bytes(message)) = (field.number, field.value) {
                nodes.push(Node::decode(message)?);
            }
            Ok(())
        });
        decoded.map_err(|e| wire_error(&place, &e))?;
        if nodes.is_empty() {
            return Err(Error::corrupt(place, "it has no nodes"));
        }
        let refers_within = |node: &Node| {
            let slots = node.slot_variables.iter();
            let slots = slots.flat_map(|slot| [slot.original, slot.slot]);
            let mut ids = node.children.values().copied().chain(slots);
            ids.all(|id| id < nodes.len())
        };
        if !nodes.iter().all(refers_within) {
            return Err(Error::corrupt(
                place,
                "it refers to nodes that it does not have",
            ));
        }
        Ok(ObjectGraph { nodes })
    }
}

impl Node {
    fn encode(&self, has_values: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, id) in &self.children {
            let mut child = Vec::new();
            put_uint(1, *id as u64, &mut child);
            put_bytes(2, name.as_bytes(), &mut child);
            put_bytes(1, &child, &mut bytes);
        }
        for tensor in &self.tensors {
            let mut saved = Vec::new();
            put_bytes(1, tensor.name.as_bytes(), &mut saved);
            put_bytes(2, tensor.full_name.as_bytes(), &mut saved);
            put_bytes(3, tensor.key.as_bytes(), &mut saved);
            put_bytes(2, &saved, &mut bytes);
        }
        for slot in &self.slot_variables {
            let mut variable = Vec::new();
            put_uint(1, slot.original as u64, &mut variable);
            put_bytes(2, slot.name.as_bytes(), &mut variable);
            put_uint(3, slot.slot as u64, &mut variable);
            put_bytes(3, &variable, &mut bytes);
        }
        if has_values {
            put_bytes(5, &[0x08, 1], &mut bytes);
        }
        bytes
    }

    fn decode(message: Message<'_>) -> std::result::Result<Self, WireError> {
        let mut node = Node::default();
        each_field(message.bytes(), |field| {
            match (field.number, field.value) {
                (1, Value::Bytes(child)) => {
                    let [id, _] = numbers(&child, [1, 3])?;
                    let [name, ..] = texts(&child)?;
                    node.children.insert(name, id);
                }
                (2, Value::Bytes(tensor)) => {
                    let [full_name, name, key] = texts(&tensor)?;
                    node.tensors.push(SavedTensor {
                        name,
                        full_name,
                        key,
                    });
                }
                (3, Value::Bytes(slot)) => {
                    let [original, id] = numbers(&slot, [1, 3])?;
                    let [name, ..] = texts(&slot)?;
                    node.slot_variables.push(SlotVariable {
                        original,
                        name,
                        slot: id,
                    });
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }
}

/// The integer fields of these numbers; absent ones are 0.
fn numbers(message: &Message<'_>, wanted: [u32; 2]) -> std::result::Result<[usize; 2], WireError> {
    let mut found = [0; 2];
    each_field(message.bytes(), |field| {
        if let Value::Varint(value) = field.value {
            for (number, found) in wanted.iter().zip(&mut found) {
                if *number == field.number {
                    *found = usize::try_from(value).unwrap_or(usize::MAX);
                }
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The texts of fields 2, 1 and 3; absent ones are empty.
fn texts(message: &Message<'_>) -> std::result::Result<[String; 3], WireError> {
    let mut found = [const { String::new() }; 3];
    each_field(message.bytes(), |field| {
        if let Value::Bytes(text) = field.value {
            let place = match field.number {
                2 => 0,
                1 => 1,
                3 => 2,
                _ => return Ok(()),
            };
            let valid = String::from_utf8(text.bytes().to_vec());
            found[place] = valid.map_err(|_| text.error("a name is no UTF-8"))?;
        }
        Ok(())
    })?;
    Ok(found)
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}
