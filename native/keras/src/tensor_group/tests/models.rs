//! Models whose weights a tensor group splits, and their inputs.

use serde_json::{Value as Json, json};
use tch::{Device, Kind, Tensor};

use crate::Value;

const ROWS: i64 = 6;

/// A model, what it is given, and what is expected of a group.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) config: String,
    /// Shape of a row of each input, and how many ids it draws from; 0 for numbers.
    pub(super) rows: Vec<(Vec<i64>, i64)>,
    /// The variables that are split.
    pub(super) split: Vec<&'static str>,
    /// How often ranks meet in a training step.
    pub(super) exchanges: usize,
    pub(super) tolerance: f32,
}

impl Case {
    /// The batch of a step.
    pub(super) fn inputs(&self, step: u64) -> Vec<Value> {
        let inputs = (0_i64..).zip(&self.rows).map(|(at, (shape, ids))| {
            let size = [&[ROWS], shape.as_slice()].concat();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let values = noise(&size) * (1.0 + 0.1 * at as f64 + 0.05 * step as f64);
            match *ids {
                0 => values.into(),
                // Numbers from 0 to 1 that jump with the step, as places among the ids.
                ids => {
                    let places = (values.abs() * 977.0).frac() * ids;
                    places.floor().to_kind(Kind::Int64).into()
                }
            }
        });
        inputs.collect()
    }
}

/// Numbers from -1 to 1 without an order, the same in every run.
pub(super) fn noise(shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let steps = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 12.9898;
    let scattered = (steps.sin() * 43_758.545_3).frac();
    scattered.to_kind(Kind::Float).view(shape)
}

fn layer(class: &str, name: &str, mut config: Json) -> Json {
    config["name"] = name.into();
    json!({"class_name": class, "name": name, "config": config})
}

fn dense(name: &str, units: i64, others: Json) -> Json {
    let mut config = json!({"units": units});
    for (key, value) in others.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    layer("Dense", name, config)
}

fn input(name: &str, shape: &[i64], dtype: &str) -> Json {
    let batch: Vec<Json> = std::iter::once(Json::Null)
        .chain(shape.iter().map(|&size| size.into()))
        .collect();
    layer(
        "InputLayer",
        name,
        json!({"batch_shape": batch, "dtype": dtype}),
    )
}

fn sequential(layers: &[Json]) -> String {
    json!({"class_name": "Sequential", "config": {"name": "m", "layers": layers}}).to_string()
}

/// Layers with the calls of each, as Keras 2 writes them.
fn functional(layers: Vec<(Json, Json)>, inputs: &[&str], outputs: Json) -> String {
    let layers = layers.into_iter().map(|(mut layer, calls)| {
        layer["inbound_nodes"] = calls;
        layer
    });
    let inputs: Vec<Json> = inputs.iter().map(|name| json!([name, 0, 0])).collect();
    json!({"class_name": "Functional", "config": {"name": "m",
        "layers": layers.collect::<Vec<_>>(), "input_layers": inputs, "output_layers": outputs}})
    .to_string()
}

/// One call on the outputs of these layers.
fn on(layers: &[&str]) -> Json {
    let tensors: Vec<Json> = layers.iter().map(|of| json!([of, 0, 0, {}])).collect();
    json!([tensors])
}

/// One call of an attention layer.
fn attends(query: &str, named: Json) -> Json {
    json!([[[query, 0, 0, named]]])
}

fn mlp(policy: &str) -> String {
    let dtype = json!(policy);
    sequential(&[
        input("x", &[5], "float32"),
        dense(
            "up",
            8,
            json!({"activation": "relu", "kernel_regularizer": "l2", "dtype": dtype}),
        ),
        layer("Dropout", "drop", json!({"rate": 0.25, "dtype": dtype})),
        layer("ELU", "elu", json!({"dtype": dtype})),
        dense(
            "down",
            3,
            json!({"bias_regularizer": "l1", "kernel_regularizer": "l1", "dtype": dtype}),
        ),
    ])
}

/// A block of self-attention over embedded ids, of which 0 is padding, and an MLP, with what is usual
/// around them.
pub(super) fn transformer() -> Case {
    let attention = json!({"num_heads": 4, "key_dim": 3, "value_dim": 2, "dropout": 0.2,
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.001}}});
    let config = functional(
        vec![
            (input("ids", &[7], "int32"), json!([])),
            (
                layer(
                    "Embedding",
                    "embedding",
                    json!({"input_dim": 10, "output_dim": 6, "mask_zero": true}),
                ),
                on(&["ids"]),
            ),
            (
                layer("MultiHeadAttention", "attention", attention),
                attends(
                    "embedding",
                    json!({"value": ["embedding", 0, 0], "use_causal_mask": true}),
                ),
            ),
            (
                layer("Add", "add", json!({})),
                on(&["embedding", "attention"]),
            ),
            (layer("LayerNormalization", "norm", json!({})), on(&["add"])),
            (dense("up", 8, json!({"activation": "gelu"})), on(&["norm"])),
            (layer("Dropout", "drop", json!({"rate": 0.1})), on(&["up"])),
            (dense("down", 6, json!({})), on(&["drop"])),
            (layer("Add", "sum", json!({})), on(&["norm", "down"])),
            (layer("LayerNormalization", "last", json!({})), on(&["sum"])),
            (
                layer("GlobalAveragePooling1D", "pool", json!({})),
                on(&["last"]),
            ),
            (dense("head", 3, json!({})), on(&["pool"])),
        ],
        &["ids"],
        json!([["head", 0, 0]]),
    );
    Case {
        name: "transformer",
        config,
        rows: vec![(vec![7], 10)],
        split: vec![
            "attention/attention_output/kernel",
            "attention/key/bias",
            "attention/key/kernel",
            "attention/query/bias",
            "attention/query/kernel",
            "attention/value/bias",
            "attention/value/kernel",
            "down/kernel",
            "embedding/embeddings",
            "up/bias",
            "up/kernel",
        ],
        // The embedding, regularizers; attention and MLP both ways.
        exchanges: 6,
        tolerance: 1e-5,
    }
}

/// Attention of one input to another, with a mask for each head and a gate, whose scores are an output.
fn cross_attention() -> Case {
    let config = functional(
        vec![
            (input("x", &[4, 6], "float32"), json!([])),
            (input("y", &[5, 3], "float32"), json!([])),
            (input("mask", &[4, 4, 5], "int32"), json!([])),
            (dense("in", 5, json!({"activation": "tanh"})), on(&["x"])),
            (
                layer(
                    "MultiHeadAttention",
                    "attention",
                    json!({"num_heads": 4, "key_dim": 2, "use_gate": true, "output_shape": 3}),
                ),
                attends(
                    "in",
                    json!({"value": ["y", 0, 0], "attention_mask": ["mask", 0, 0],
                        "return_attention_scores": true}),
                ),
            ),
        ],
        &["x", "y", "mask"],
        json!([["attention", 0, 0], ["attention", 0, 1]]),
    );
    Case {
        name: "cross attention",
        config,
        rows: vec![(vec![4, 6], 0), (vec![5, 3], 0), (vec![4, 4, 5], 2)],
        split: vec![
            "attention/attention_output/kernel",
            "attention/gate/bias",
            "attention/gate/kernel",
            "attention/key/bias",
            "attention/key/kernel",
            "attention/query/bias",
            "attention/query/kernel",
            "attention/value/bias",
            "attention/value/kernel",
        ],
        // The scores, the output; the gradient of the query.
        exchanges: 3,
        tolerance: 1e-5,
    }
}

fn grouped_query(policy: &str) -> Case {
    let config = functional(
        vec![
            (input("x", &[5, 6], "float32"), json!([])),
            (dense("in", 5, json!({})), on(&["x"])),
            (
                layer(
                    "GroupedQueryAttention",
                    "attention",
                    json!({"num_query_heads": 8, "num_key_value_heads": 4, "head_dim": 2,
                        "dropout": 0.1, "dtype": policy}),
                ),
                attends("in", json!({"value": ["in", 0, 0]})),
            ),
            (layer("Flatten", "flat", json!({})), on(&["attention"])),
            (
                dense("out", 4, json!({"activation": "softmax"})),
                on(&["flat"]),
            ),
        ],
        &["x"],
        json!([["out", 0, 0]]),
    );
    Case {
        name: "grouped-query attention",
        config,
        rows: vec![(vec![5, 6], 0)],
        split: vec![
            "attention/attention_output/kernel",
            "attention/key/bias",
            "attention/key/kernel",
            "attention/query/bias",
            "attention/query/kernel",
            "attention/value/bias",
            "attention/value/kernel",
            "out/bias",
            "out/kernel",
        ],
        exchanges: 4,
        tolerance: 1e-5,
    }
}

pub(super) fn cases() -> Vec<Case> {
    let numbers = |shape: &[i64]| vec![(shape.to_vec(), 0)];
    let pair = vec!["down/kernel", "up/bias", "up/kernel"];
    let cnn = sequential(&[
        input("x", &[6, 6, 2], "float32"),
        layer(
            "Conv2D",
            "conv",
            json!({"filters": 3, "kernel_size": 3, "activation": "relu"}),
        ),
        layer("MaxPooling2D", "pool", json!({"pool_size": 2})),
        layer("Flatten", "flat", json!({})),
        dense("up", 8, json!({"activation": "relu"})),
        dense("down", 3, json!({})),
    ]);
    let lone = sequential(&[
        input("x", &[3, 5], "float32"),
        layer("Dense", "first", json!({"units": 7, "activation": "tanh"})),
        dense("classes", 4, json!({"activation": "softmax"})),
    ]);
    let pooled = sequential(&[
        input("x", &[9], "int64"),
        layer(
            "Embedding",
            "embedding",
            json!({"input_dim": 13, "output_dim": 4, "mask_zero": true,
                "embeddings_regularizer": {"class_name": "L2", "config": {"l2": 0.01}}}),
        ),
        layer("GlobalAveragePooling1D", "pool", json!({})),
        layer("Dense", "head", json!({"units": 3})),
    ]);
    let looked_up = sequential(&[
        input("x", &[9], "int64"),
        layer(
            "Embedding",
            "embedding",
            json!({"input_dim": 13, "output_dim": 4}),
        ),
        layer("GlobalMaxPooling1D", "pool", json!({})),
        layer("Dense", "head", json!({"units": 3})),
    ]);
    let einsum = sequential(&[
        input("x", &[3, 5], "float32"),
        layer("Dense", "first", json!({"units": 5})),
        layer(
            "EinsumDense",
            "einsum",
            json!({"equation": "abc,cde->adbe", "output_shape": [4, null, 2], "bias_axes": "d",
                "activation": "tanh"}),
        ),
    ]);
    let block = json!({"class_name": "Sequential", "name": "block", "config": {"name": "block",
        "layers": [input("in", &[6], "float32"), dense("up", 8, json!({"activation": "silu"})),
            dense("down", 6, json!({}))]}});
    let shared = functional(
        vec![
            (input("x", &[6], "float32"), json!([])),
            (block, json!([[["x", 0, 0, {}]], [["block", 0, 0, {}]]])),
            (
                layer("Dense", "head", json!({"units": 3})),
                json!([[["block", 1, 0, {}]]]),
            ),
        ],
        &["x"],
        json!([["head", 0, 0]]),
    );
    vec![
        Case {
            name: "MLP",
            config: mlp("float32"),
            rows: numbers(&[5]),
            split: pair.clone(),
            // The sum, and that of the regularizers; nothing goes back to the inputs.
            exchanges: 2,
            tolerance: 1e-5,
        },
        Case {
            name: "MLP in bfloat16",
            config: mlp("mixed_bfloat16"),
            rows: numbers(&[5]),
            split: pair.clone(),
            exchanges: 2,
            tolerance: 3e-2,
        },
        Case {
            name: "lone Dense",
            config: lone,
            rows: numbers(&[3, 5]),
            split: vec!["classes/bias", "classes/kernel"],
            exchanges: 2,
            tolerance: 1e-5,
        },
        Case {
            name: "CNN",
            config: cnn,
            rows: numbers(&[6, 6, 2]),
            split: pair,
            exchanges: 2,
            tolerance: 1e-5,
        },
        Case {
            name: "regularized embedding",
            config: pooled,
            rows: vec![(vec![9], 13)],
            split: vec!["embedding/embeddings"],
            exchanges: 2,
            tolerance: 1e-5,
        },
        Case {
            name: "embedding",
            config: looked_up,
            // Some ranks have none of these rows.
            rows: vec![(vec![9], 3)],
            split: vec!["embedding/embeddings"],
            exchanges: 1,
            tolerance: 1e-5,
        },
        Case {
            name: "EinsumDense",
            config: einsum,
            rows: numbers(&[3, 5]),
            split: vec!["einsum/bias", "einsum/kernel"],
            exchanges: 2,
            tolerance: 1e-5,
        },
        Case {
            name: "a block that is called twice",
            config: shared,
            rows: numbers(&[6]),
            split: vec!["block/down/kernel", "block/up/bias", "block/up/kernel"],
            exchanges: 3,
            tolerance: 1e-5,
        },
        transformer(),
        cross_attention(),
        grouped_query("float32"),
        Case {
            name: "attention in float16",
            tolerance: 5e-3,
            ..grouped_query("mixed_float16")
        },
    ]
}

/// A model that looks at the rows of all ranks.
pub(super) fn synchronized() -> String {
    sequential(&[
        input("x", &[5], "float32"),
        layer("BatchNormalization", "norm", json!({"synchronized": true})),
        dense("head", 4, json!({})),
    ])
}
