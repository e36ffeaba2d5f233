//! Which layers of a model the ranks of a tensor group split between them, and how.
//!
//! ```text
//! Dense alone            columns of the kernel; the outputs are gathered
//! Dense ... Dense        columns, then rows: what is element by element between them stays split,
//!                        and only the second one's outputs are summed
//! attention layers       heads; the outputs are summed
//! Embedding              rows of the matrix; what they give is summed
//! ```
//!
//! Everything else is whole on every rank, as are layers whose sizes do not divide, and weights of
//! which a regularizer or constraint looks at more than one element at a time.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::network::{Key, Network, Node};
use crate::activations::Activation;
use crate::config::Options;
use crate::constraints::Constraint;
use crate::registry::{Entry, Family};
use crate::regularizers::Regularizer;
use crate::tensor_group::TensorPart;

/// What a layer does with its part of a tensor group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Keeps its weights whole.
    Whole,
    /// May split its weights, between whole inputs and whole outputs.
    Inside,
    /// Gives only what its columns do of the outputs.
    Columns,
    /// Takes a part of the inputs, as [`Self::Columns`] gives it, and gives whole outputs.
    Rows,
    /// Takes and gives such a part, element by element.
    Between,
}

/// What each entry of `network` does at the place `part`, in a model that does `around`.
pub(super) fn plan(network: &Network, part: TensorPart, around: Split) -> Vec<Split> {
    let entries = &network.entries;
    if part.count < 2 || around == Split::Whole {
        return vec![Split::Whole; entries.len()];
    }
    let may_split = |entry: &Entry| match can_split(entry, part) {
        true => Split::Inside,
        false => Split::Whole,
    };
    let mut splits: Vec<Split> = entries.iter().map(may_split).collect();
    let uses = Uses::of(network);
    for node in &network.nodes {
        if splits[node.entry] != Split::Inside || !gives_parts(&entries[node.entry]) {
            continue;
        }
        let Some((between, last)) = uses.chain(network, node) else {
            continue;
        };
        let takes_parts = entries[last].class == "Dense" && allows_parts(&entries[last], DENSE);
        // The second of one pair is not the first of the next.
        if takes_parts && splits[last] != Split::Rows {
            splits[node.entry] = Split::Columns;
            splits[last] = Split::Rows;
            between
                .iter()
                .for_each(|&entry| splits[entry] = Split::Between);
        }
    }
    splits
}

/// What the options of weights begin with.
const DENSE: &[&str] = &["kernel", "bias"];

/// Whether a layer by itself may split its weights.
fn can_split(entry: &Entry, part: TensorPart) -> bool {
    let divides = |key: &str| {
        let size = entry.config.get(key).and_then(Json::as_i64);
        size.is_some_and(|size| size > 0 && part.divides(size))
    };
    let without_activity = no_activity_regularizer(entry);
    match (entry.family, entry.class.as_str()) {
        (Family::Models, _) => true,
        (Family::Layers, "Dense") => divides("units") && allows_parts(entry, DENSE),
        // Its equation says more.
        (Family::Layers, "EinsumDense") => allows_parts(entry, DENSE),
        (Family::Layers, "MultiHeadAttention") => {
            divides("num_heads") && without_activity && allows_parts(entry, DENSE)
        }
        (Family::Layers, "GroupedQueryAttention") => {
            divides("num_key_value_heads") && without_activity && allows_parts(entry, DENSE)
        }
        (Family::Layers, "Embedding") => {
            let rows = entry.config.get("input_dim").and_then(Json::as_i64);
            rows.is_some_and(|rows| rows >= part.ranks()) && allows_parts(entry, &["embeddings"])
        }
        _ => false,
    }
}

/// Whether a Dense may leave its outputs split.
fn gives_parts(entry: &Entry) -> bool {
    entry.class == "Dense" && no_activity_regularizer(entry) && is_elementwise(entry, "Activation")
}

/// Whether a layer gives each element by the same element of its input alone.
fn is_between(entry: &Entry) -> bool {
    let of_layers = entry.family == Family::Layers && no_activity_regularizer(entry);
    of_layers
        && match entry.class.as_str() {
            "Identity" => true,
            "Dropout" => entry.config.get("noise_shape").is_none_or(Json::is_null),
            class @ ("Activation" | "ReLU" | "LeakyReLU" | "ELU") => is_elementwise(entry, class),
            _ => false,
        }
}

fn no_activity_regularizer(entry: &Entry) -> bool {
    let activity = entry.config.get("activity_regularizer");
    activity.is_none_or(Json::is_null)
}

/// Whether the activation that `entry` has, read as that of a layer `class`, looks at one element at a
/// time. What cannot be read is found when the layer is built.
fn is_elementwise(entry: &Entry, class: &str) -> bool {
    let options = Options::new(entry.place(), &entry.config);
    let activation = Activation::from_layer(class, &options);
    matches!(activation, Ok(Some(activation)) if activation.is_elementwise())
}

/// Whether what is asked of the weights whose options begin with `prefixes` can be had of their parts.
fn allows_parts(entry: &Entry, prefixes: &[&str]) -> bool {
    let given = |config: &Map<String, Json>, key: String| {
        config.get(&key).filter(|value| !value.is_null()).cloned()
    };
    prefixes.iter().all(|prefix| {
        let regularizer = given(&entry.config, format!("{prefix}_regularizer"));
        let constraint = given(&entry.config, format!("{prefix}_constraint"));
        let sums = regularizer.is_none_or(|value| {
            let read = Regularizer::from_config(&value, prefix);
            matches!(read, Ok(Some(regularizer)) if regularizer.is_sum())
        });
        let elementwise = constraint.is_none_or(|value| {
            let read = Constraint::from_config(&value, prefix);
            matches!(read, Ok(Some(constraint)) if constraint.is_elementwise())
        });
        sums && elementwise
    })
}

/// Who takes which value, and how often layers are called.
struct Uses {
    /// The calls that take a value; the model itself counts as one that does not exist.
    takers: HashMap<Key, Vec<usize>>,
    calls: Vec<usize>,
}

impl Uses {
    fn of(network: &Network) -> Self {
        let mut takers: HashMap<Key, Vec<usize>> = HashMap::new();
        let mut calls = vec![0; network.entries.len()];
        for (at, node) in network.nodes.iter().enumerate() {
            calls[node.entry] += 1;
            for key in node.args.leaves() {
                takers.entry(*key).or_default().push(at);
            }
        }
        for key in network.outputs.leaves() {
            takers.entry(*key).or_default().push(usize::MAX);
        }
        Self { takers, calls }
    }

    /// The layers that a value goes through element by element from the call `node` on, and the one
    /// behind them: if nobody else takes it, and none of them is called on anything else.
    fn chain(&self, network: &Network, node: &Node) -> Option<(Vec<usize>, usize)> {
        let mut between = Vec::new();
        let mut node = node;
        loop {
            if self.calls[node.entry] != 1 {
                return None;
            }
            let value = Key {
                entry: node.entry,
                node: node.node,
                tensor: 0,
            };
            let [taker] = self.takers.get(&value)?.as_slice() else {
                return None;
            };
            let taker = network.nodes.get(*taker)?;
            if taker.args.leaves().len() != 1 || self.calls[taker.entry] != 1 {
                return None;
            }
            if !is_between(&network.entries[taker.entry]) {
                return Some((between, taker.entry));
            }
            between.push(taker.entry);
            node = taker;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TWO: TensorPart = TensorPart { index: 1, count: 2 };

    fn layer(class: &str, name: &str, mut config: Json) -> Json {
        config["name"] = name.into();
        json!({"class_name": class, "config": config})
    }

    fn dense(name: &str, units: i64, others: Json) -> Json {
        let mut config = json!({"units": units});
        for (key, value) in others.as_object().unwrap() {
            config[key] = value.clone();
        }
        layer("Dense", name, config)
    }

    /// What the layers behind the input of a Sequential do.
    fn sequential(layers: &[Json]) -> Vec<Split> {
        let input = layer("InputLayer", "x", json!({"batch_shape": [null, 8]}));
        let layers: Vec<_> = std::iter::once(&input).chain(layers).collect();
        let config = json!({"layers": layers});
        let options = Options::new("model", config.as_object().unwrap());
        let network = Network::read("Sequential", &options).unwrap();
        plan(&network, TWO, Split::Inside)[1..].to_vec()
    }

    #[test]
    fn two_dense_layers_are_columns_and_rows_with_what_is_between() {
        use Split::{Between, Columns, Inside, Rows};
        let relu = json!({"activation": "relu"});
        let block = [
            dense("a", 6, relu.clone()),
            layer("Dropout", "d", json!({"rate": 0.5})),
            dense("b", 3, json!({"activation": "softmax"})),
        ];
        assert_eq!(sequential(&block), [Columns, Between, Rows]);
        let deep: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|name| dense(name, 4, relu.clone()))
            .into();
        assert_eq!(sequential(&deep), [Columns, Rows, Columns, Rows, Inside]);
        let elu = layer("ELU", "elu", json!({}));
        let block = [dense("a", 6, json!({})), elu, dense("b", 3, json!({}))];
        assert_eq!(sequential(&block), [Columns, Between, Rows]);
    }

    #[test]
    fn what_looks_at_several_elements_ends_a_block_or_keeps_a_layer_whole() {
        use Split::{Inside, Rows, Whole};
        let ends = |between: Json| {
            let splits = sequential(&[dense("a", 6, json!({})), between, dense("b", 4, json!({}))]);
            assert_eq!(splits, [Inside, Whole, Inside]);
        };
        ends(layer("Softmax", "s", json!({})));
        ends(layer("LayerNormalization", "n", json!({})));
        ends(layer("Activation", "s", json!({"activation": "softmax"})));
        ends(layer("Dropout", "d", json!({"noise_shape": [null, 1]})));
        let first = |others: Json| {
            let splits = sequential(&[dense("a", 6, others), dense("b", 3, json!({}))]);
            (splits[0], splits[1] == Rows)
        };
        assert_eq!(first(json!({"activation": "softmax"})), (Inside, false));
        assert_eq!(
            first(json!({"activity_regularizer": "l2"})),
            (Inside, false)
        );
        assert_eq!(
            first(json!({"kernel_constraint": "max_norm"})),
            (Whole, false)
        );
        let orthogonal = json!({"kernel_regularizer": "orthogonal_regularizer"});
        assert_eq!(first(orthogonal), (Whole, false));
        assert_eq!(
            first(json!({"kernel_constraint": "non_neg"})).0,
            Split::Columns
        );
        assert_eq!(first(json!({"kernel_regularizer": "l2"})).0, Split::Columns);
        assert_eq!(sequential(&[dense("a", 5, json!({}))]), [Whole]);
    }

    #[test]
    fn attention_and_embeddings_are_split_by_heads_and_rows() {
        use Split::{Inside, Whole};
        let splits = sequential(&[
            layer("Embedding", "e", json!({"input_dim": 7, "output_dim": 3})),
            layer(
                "MultiHeadAttention",
                "m",
                json!({"num_heads": 4, "key_dim": 2}),
            ),
            layer(
                "MultiHeadAttention",
                "n",
                json!({"num_heads": 3, "key_dim": 2}),
            ),
            layer(
                "ReversibleEmbedding",
                "r",
                json!({"input_dim": 8, "output_dim": 4}),
            ),
            layer("Conv1D", "c", json!({"filters": 4, "kernel_size": 3})),
        ]);
        assert_eq!(splits, [Inside, Inside, Whole, Whole, Whole]);
    }

    #[test]
    fn values_that_others_take_too_are_whole() {
        let node = |of: &str| json!([[[of, 0, 0, {}]]]);
        let with = |mut layer: Json, nodes: Json| {
            layer["name"] = layer["config"]["name"].clone();
            layer["inbound_nodes"] = nodes;
            layer
        };
        let input = layer("InputLayer", "x", json!({"batch_shape": [null, 8]}));
        let layers = [
            with(input, json!([])),
            with(dense("a", 4, json!({})), node("x")),
            with(dense("b", 4, json!({})), node("a")),
            with(
                layer("Add", "sum", json!({})),
                json!([[["a", 0, 0, {}], ["b", 0, 0, {}]]]),
            ),
            with(dense("c", 4, json!({})), node("sum")),
            with(dense("d", 4, json!({})), node("c")),
        ];
        let splits = |outputs: &[&str]| {
            let outputs: Vec<Json> = outputs.iter().map(|of| json!([of, 0, 0])).collect();
            let config = json!({"layers": layers, "input_layers": [["x", 0, 0]],
                "output_layers": outputs});
            let options = Options::new("model", config.as_object().unwrap());
            let network = Network::read("Functional", &options).unwrap();
            plan(&network, TWO, Split::Inside)
        };
        use Split::{Columns, Inside, Rows, Whole};
        assert_eq!(
            splits(&["d"]),
            [Whole, Inside, Inside, Whole, Columns, Rows]
        );
        assert_eq!(
            splits(&["d", "c"]),
            [Whole, Inside, Inside, Whole, Inside, Inside]
        );
    }

    #[test]
    fn one_rank_splits_nothing() {
        let config = json!({"layers": [
            layer("InputLayer", "x", json!({"batch_shape": [null, 8]})),
            dense("a", 4, json!({})),
        ]});
        let options = Options::new("model", config.as_object().unwrap());
        let network = Network::read("Sequential", &options).unwrap();
        assert_eq!(
            plan(&network, TensorPart::WHOLE, Split::Inside),
            [Split::Whole; 2]
        );
        assert_eq!(plan(&network, TWO, Split::Whole), [Split::Whole; 2]);
    }
}
