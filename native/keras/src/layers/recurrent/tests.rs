//! Dropout of recurrent layers, and what no oracle is needed for; values are checked against
//! TensorFlow elsewhere.

use rand_core::SeedableRng;
use serde_json::{Value as Json, json};
use tch::{Device, Kind, Tensor};

use crate::context::{Pass, Rng};
use crate::model::Model;
use crate::value::Value;

const ROWS: i64 = 400;
const STEPS: i64 = 3;
const UNITS: i64 = 5;

/// A layer on sequences of `UNITS` features, all weights given as functions of their shape.
fn model(class: &str, config: Json, kernel: f64, recurrent: f64) -> Model {
    let mut layer = json!({"name": "r", "units": UNITS, "return_sequences": true,
        "use_bias": false, "activation": "linear", "recurrent_activation": "linear",
        "recurrent_initializer": {"class_name": "Identity", "config": {"gain": recurrent}},
        "kernel_initializer": {"class_name": "Identity", "config": {"gain": kernel}}});
    if class == "SimpleRNN" {
        layer
            .as_object_mut()
            .unwrap()
            .remove("recurrent_activation");
    }
    for (key, value) in config.as_object().unwrap() {
        layer[key] = value.clone();
    }
    let document = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, null, UNITS]}},
        {"class_name": class, "config": layer},
    ]}});
    let mut model = Model::from_json(&document.to_string()).unwrap();
    model.initialize(1).unwrap();
    model
}

fn run(model: &Model, x: &Tensor, seed: u64) -> Tensor {
    let mut pass = Pass::training(Rng::seed_from_u64(seed));
    let outputs = model
        .forward(&[Value::new(x.shallow_clone())], &mut pass)
        .unwrap();
    outputs[0].y().unwrap().detach()
}

fn ones() -> Tensor {
    Tensor::ones([ROWS, STEPS, UNITS], (Kind::Float, Device::Cpu))
}

fn mean(x: &Tensor) -> f64 {
    f64::try_from(x.mean(Kind::Double)).unwrap()
}

/// Asserts that elements are 0 with probability `rate` and else about `kept`.
fn assert_dropped(x: &Tensor, rate: f64, kept: f64) {
    let dropped = mean(&x.eq(0.0).to_kind(Kind::Double));
    // Four standard deviations of the share of `ROWS * UNITS` independent draws.
    assert!(
        (dropped - rate).abs() < 0.045,
        "{dropped} instead of {rate}"
    );
    let others = x.masked_select(&x.ne(0.0));
    assert!(mean(&(others - kept).abs()) < 1e-5, "not {kept}");
}

#[test]
fn inputs_have_one_mask_for_all_steps() {
    let model = model("SimpleRNN", json!({"dropout": 0.25}), 1.0, 0.0);
    let y = run(&model, &ones(), 7);
    assert_dropped(&y.select(1, 0), 0.25, 1.0 / 0.75);
    for step in 1..STEPS {
        assert_eq!(y.select(1, 0), y.select(1, step));
    }
    assert_eq!(y, run(&model, &ones(), 7));
    assert_ne!(y, run(&model, &ones(), 8));
    // Only training drops.
    let outputs = model.forward(&[Value::new(ones())], &mut Pass::inference());
    assert_eq!(outputs.unwrap()[0].y().unwrap(), &ones());
}

#[test]
fn states_have_one_mask_for_all_steps() {
    // y1 = 1, y2 = 1 + m, y3 = 1 + m * (1 + m), with one m of 0 or 2 for all steps.
    let model = model("SimpleRNN", json!({"recurrent_dropout": 0.5}), 1.0, 1.0);
    let y = run(&model, &ones(), 7);
    assert_eq!(y.select(1, 0), ones().select(1, 0));
    assert_dropped(&(y.select(1, 1) - 1.0), 0.5, 2.0);
    assert_dropped(&(y.select(1, 2) - 1.0), 0.5, 6.0);
}

#[test]
fn gates_share_a_mask_unless_they_are_computed_apart() {
    // With all functions linear and no state yet, h = o * c = x_o * x_i * x_c.
    let kernel = json!({"class_name": "Ones", "config": {}});
    for (implementation, dropped, kept) in [(2, 0.3, 0.7), (1, 1.0 - 0.343, 0.7)] {
        let config = json!({"dropout": 0.3, "implementation": implementation});
        let mut config = config;
        config["kernel_initializer"] = kernel.clone();
        let model = model("LSTM", config, 1.0, 1.0);
        // One feature per row, so that each row has one mask per gate.
        let x = Tensor::zeros([ROWS * UNITS, 1, UNITS], (Kind::Float, Device::Cpu));
        let x = x.index_fill(2, &Tensor::from_slice(&[0_i64]), 1.0);
        let y = run(&model, &x, 7).select(1, 0).select(1, 0);
        assert_dropped(&y, dropped, 1.0 / (kept * kept * kept));
    }
}

#[test]
fn states_of_gates_have_masks_of_their_own() {
    // Without inputs and from h = 1, c = 0, the new h is m_o * m_i * m_c.
    let document = json!({"class_name": "Functional", "config": {"name": "f", "layers": [
        {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
            "config": {"name": "x", "batch_shape": [null, null, UNITS]}},
        {"class_name": "InputLayer", "name": "h", "inbound_nodes": [],
            "config": {"name": "h", "batch_shape": [null, 1]}},
        {"class_name": "InputLayer", "name": "c", "inbound_nodes": [],
            "config": {"name": "c", "batch_shape": [null, 1]}},
        {"class_name": "LSTM", "name": "r", "config": {"name": "r", "units": 1,
            "use_bias": false, "activation": "linear", "recurrent_activation": "linear",
            "recurrent_initializer": "ones", "recurrent_dropout": 0.5},
            "inbound_nodes": [[["x", 0, 0, {}], ["h", 0, 0, {}], ["c", 0, 0, {}]]]},
    ], "input_layers": [["x", 0, 0], ["h", 0, 0], ["c", 0, 0]], "output_layers": [["r", 0, 0]]}});
    let mut model = Model::from_json(&document.to_string()).unwrap();
    model.initialize(1).unwrap();
    let rows = ROWS * UNITS;
    let kind = (Kind::Float, Device::Cpu);
    let inputs = [
        Value::new(Tensor::zeros([rows, 1, UNITS], kind)),
        Value::new(Tensor::ones([rows, 1], kind)),
        Value::new(Tensor::zeros([rows, 1], kind)),
    ];
    let mut pass = Pass::training(Rng::seed_from_u64(3));
    let outputs = model.forward(&inputs, &mut pass).unwrap();
    assert_dropped(&outputs[0].y().unwrap().detach(), 1.0 - 0.125, 8.0);
}

#[test]
fn an_empty_batch_gives_an_empty_result() {
    for class in ["SimpleRNN", "GRU", "LSTM"] {
        let model = model(class, json!({"activation": "tanh"}), 1.0, 1.0);
        let x = Tensor::zeros([0, STEPS, UNITS], (Kind::Float, Device::Cpu));
        let outputs = model.forward(&[Value::new(x)], &mut Pass::inference());
        assert_eq!(outputs.unwrap()[0].size(), [0, STEPS, UNITS]);
    }
}

#[test]
fn the_forget_gate_starts_with_a_bias_of_one() {
    let config = json!({"use_bias": true, "bias_initializer": {"class_name": "RandomNormal",
        "config": {"mean": -3.0, "stddev": 0.1}}});
    for (forget, expected) in [(true, 1.0), (false, -3.0)] {
        let mut config = config.clone();
        config["unit_forget_bias"] = json!(forget);
        config["kernel_initializer"] = json!("glorot_uniform");
        config["recurrent_initializer"] = json!("orthogonal");
        let model = model("LSTM", config, 1.0, 1.0);
        let store = model.trainable();
        let at = store
            .variables()
            .iter()
            .position(|v| v.name == "bias")
            .unwrap();
        assert_eq!(store.variables()[at].path, "r/lstm_cell/bias");
        let units = usize::try_from(UNITS).unwrap();
        for (gate, values) in store.values(at).unwrap().chunks(units).enumerate() {
            let wanted = if gate == 1 { expected } else { -3.0 };
            assert!(
                values.iter().all(|value| (value - wanted).abs() < 0.6),
                "{values:?}"
            );
        }
    }
}
