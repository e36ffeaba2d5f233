//! Predictions of a model made ready are those of the model.

use serde_json::{Value as Json, json};
use tch::{Device, Kind};

use super::*;

/// A functional model of images `[8, 8, 4]`, every layer with the layers that it takes.
fn model(layers: &[(&str, &str, Json, &[&str])]) -> Model {
    let input = json!({"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
        "config": {"name": "x", "batch_input_shape": [null, 8, 8, 4], "dtype": "float32"}});
    let others = layers.iter().map(|(name, class, config, from)| {
        let mut config = config.clone();
        config["name"] = json!(name);
        // Keras records masks that are not there.
        let from = from.iter().map(|from| json!([from, 0, 0, {"mask": null}]));
        let from: Vec<Json> = from.collect();
        json!({"class_name": class, "name": name, "config": config, "inbound_nodes": [from]})
    });
    let last = layers.last().map_or("x", |layer| layer.0);
    let document = json!({"class_name": "Functional", "config": {"name": "m",
        "layers": std::iter::once(input).chain(others).collect::<Vec<_>>(),
        "input_layers": [["x", 0, 0]], "output_layers": [[last, 0, 0]]}});
    let (mut model, _) = Model::from_config(document).unwrap();
    model.initialize(3).unwrap();
    // Statistics that are not those of the initializers.
    let changed = model.non_trainable_mut().change(|values| {
        for (at, value) in (0_u16..).zip(values) {
            *value += 0.3 + f32::from(at % 7) * 0.1;
        }
    });
    changed.unwrap();
    model
}

fn conv(filters: i64, size: i64) -> Json {
    json!({"filters": filters, "kernel_size": size, "padding": "same"})
}

/// How many steps are left, predictions being what they are without.
fn steps(layers: &[(&str, &str, Json, &[&str])]) -> usize {
    let x = Tensor::f_randn([3, 8, 8, 4], (Kind::Float, Device::Cpu)).unwrap();
    let x = [Value::new(x)];
    let plain = model(layers).forward(&x, &mut Pass::inference()).unwrap();
    let inference = Inference::new(model(layers)).unwrap();
    let predicted = inference.predict(&x).unwrap();
    let difference = predicted[0].f_sub(plain[0].values().unwrap()).unwrap();
    assert!(difference.abs().max().double_value(&[]) < 1e-5);
    inference.model().step_count()
}

#[test]
fn normalization_and_relu_become_part_of_a_convolution() {
    let epsilon = json!({"epsilon": 1e-3});
    assert_eq!(
        steps(&[
            ("a", "Conv2D", conv(8, 3), &["x"]),
            ("b", "BatchNormalization", epsilon.clone(), &["a"]),
            ("c", "ReLU", json!({"max_value": 6.0}), &["b"]),
            (
                "d",
                "DepthwiseConv2D",
                json!({"kernel_size": 3, "strides": 2}),
                &["c"]
            ),
            ("e", "BatchNormalization", epsilon, &["d"]),
            ("f", "Activation", json!({"activation": "relu"}), &["e"]),
        ]),
        2
    );
}

#[test]
fn a_sum_becomes_part_of_one_of_its_convolutions() {
    assert_eq!(
        steps(&[
            ("a", "Conv2D", conv(8, 1), &["x"]),
            ("b", "Conv2D", conv(8, 3), &["x"]),
            ("c", "BatchNormalization", json!({}), &["b"]),
            ("d", "Add", json!({}), &["a", "c"]),
            ("e", "Activation", json!({"activation": "relu"}), &["d"]),
            ("f", "Conv2D", conv(8, 3), &["e"]),
            ("g", "Add", json!({}), &["f", "e"]),
        ]),
        3
    );
}

#[test]
fn what_others_take_as_well_stays_as_it_is() {
    assert_eq!(
        steps(&[
            ("a", "Conv2D", conv(8, 3), &["x"]),
            ("b", "BatchNormalization", json!({}), &["a"]),
            ("c", "Add", json!({}), &["a", "b"]),
            ("d", "Conv2D", conv(8, 3), &["c"]),
            ("e", "Add", json!({}), &["d", "d"]),
            (
                "f",
                "Conv2D",
                json!({"filters": 4, "kernel_size": 2, "activation": "tanh"}),
                &["e"]
            ),
        ]),
        7
    );
}

#[test]
fn a_sum_leaves_alone_what_is_seen_through_a_view() {
    assert_eq!(
        steps(&[
            ("a", "Conv2D", conv(8, 3), &["x"]),
            ("v", "Reshape", json!({"target_shape": [8, 8, 8]}), &["a"]),
            ("b", "Conv2D", conv(8, 3), &["a"]),
            ("c", "Add", json!({}), &["a", "b"]),
            ("d", "Multiply", json!({}), &["c", "v"]),
        ]),
        4
    );
}
