//! Order, sharing, nesting and errors of graphs; values are checked against TensorFlow elsewhere.

use serde_json::{Value as Json, json};

use crate::model::Model;

fn tensor(name: &str, node: u64) -> Json {
    json!({"class_name": "__keras_tensor__",
        "config": {"shape": [null], "dtype": "float32", "keras_history": [name, node, 0]}})
}

fn layer(class: &str, config: Json, inputs: &[&[Json]]) -> Json {
    let nodes: Vec<Json> = inputs
        .iter()
        .map(|tensors| match tensors {
            [single] => json!({"args": [single], "kwargs": {}}),
            several => json!({"args": [several], "kwargs": {}}),
        })
        .collect();
    json!({"module": "keras.layers", "class_name": class, "name": config["name"],
        "config": config, "registered_name": null, "inbound_nodes": nodes})
}

fn input(name: &str, width: i64) -> Json {
    layer(
        "InputLayer",
        json!({"name": name, "batch_shape": [null, width]}),
        &[],
    )
}

fn dense(name: &str, units: i64, inputs: &[&[Json]]) -> Json {
    layer("Dense", json!({"name": name, "units": units}), inputs)
}

fn functional(layers: &[Json], inputs: &Json, outputs: &Json) -> crate::error::Result<Model> {
    let document = json!({"class_name": "Functional", "module": "keras.src.models.functional",
        "config": {"name": "net", "trainable": true, "layers": layers, "input_layers": inputs,
            "output_layers": outputs}});
    Model::from_json(&document.to_string())
}

fn paths(model: &Model) -> Vec<&str> {
    let variables = model.trainable().variables().iter();
    variables.map(|variable| variable.path.as_str()).collect()
}

#[test]
fn weights_are_numbered_by_depth_whatever_the_order_of_the_config() {
    // Two layers of one depth come in the order in which the outputs reach them.
    let layers = [
        dense("b", 2, &[&[tensor("x", 0)]]),
        layer(
            "Add",
            json!({"name": "sum"}),
            &[&[tensor("a", 0), tensor("b", 0)]],
        ),
        dense("a", 2, &[&[tensor("x", 0)]]),
        input("x", 3),
    ];
    let model = functional(&layers, &json!([["x", 0, 0]]), &json!([["sum", 0, 0]])).unwrap();
    let order = ["a/kernel", "a/bias", "b/kernel", "b/bias"];
    assert_eq!(paths(&model), order);
    let groups = model
        .weight_groups()
        .iter()
        .map(|group| group.group.as_str());
    assert_eq!(
        groups.collect::<Vec<_>>(),
        ["layers/dense", "layers/dense_1"]
    );
}

#[test]
fn a_model_has_several_inputs_and_outputs() {
    let layers = [
        input("p", 3),
        input("q", 2),
        layer(
            "Concatenate",
            json!({"name": "both"}),
            &[&[tensor("p", 0), tensor("q", 0)]],
        ),
        dense("one", 1, &[&[tensor("both", 0)]]),
        dense("two", 4, &[&[tensor("p", 0)]]),
    ];
    let inputs = json!({"second": ["q", 0, 0], "first": ["p", 0, 0]});
    let outputs = json!([["two", 0, 0], ["one", 0, 0]]);
    let model = functional(&layers, &inputs, &outputs).unwrap();
    // Dictionaries flatten by their keys.
    let names: Vec<&str> = model
        .inputs()
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["p", "q"]);
    let names: Vec<&str> = model
        .outputs()
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    assert_eq!(names, ["two", "one"]);
    assert_eq!(model.outputs()[1].spec.dims, [None, Some(1)]);
}

#[test]
fn what_no_output_needs_is_left_out() {
    let layers = [
        input("x", 3),
        dense("used", 2, &[&[tensor("x", 0)]]),
        dense("unused", 2, &[&[tensor("x", 0)]]),
    ];
    let model = functional(&layers, &json!(["x", 0, 0]), &json!(["used", 0, 0])).unwrap();
    assert_eq!(paths(&model), ["used/kernel", "used/bias"]);
}

#[test]
fn damaged_graphs_are_refused_by_name() {
    let x = || input("x", 3);
    let cases = [
        (
            vec![
                x(),
                dense("a", 2, &[&[tensor("b", 0)]]),
                dense("b", 3, &[&[tensor("a", 0)]]),
            ],
            "part of a cycle",
        ),
        (
            vec![x(), dense("a", 2, &[&[tensor("ghost", 0)]])],
            "no layer \"ghost\"",
        ),
        (
            vec![x(), dense("a", 2, &[&[tensor("x", 5)]])],
            "no output 0 in call 5",
        ),
        (
            vec![x(), dense("a", 2, &[&[tensor("x", 0), tensor("x", 0)]])],
            "takes one input, got 2",
        ),
        (
            vec![x(), dense("a", 2, &[&[tensor("x", 0)], &[tensor("a", 0)]])],
            "kernel for inputs of width 3",
        ),
    ];
    for (layers, expected) in cases {
        let node = layers.last().unwrap()["inbound_nodes"]
            .as_array()
            .unwrap()
            .len()
            - 1;
        let outputs = json!([["a", node, 0]]);
        let message = functional(&layers, &json!([["x", 0, 0]]), &outputs)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn damaged_arrays_are_refused_with_their_layer() {
    let array = json!({"class_name": "__numpy__", "config": {"value": null, "dtype": "float32"}});
    let config = json!({"name": "scale", "axis": -1, "mean": array, "variance": [1.0]});
    let normalization = layer("Normalization", config, &[&[tensor("x", 0)]]);
    let add = json!({"module": "keras.src.ops.numpy", "class_name": "Add", "name": "shift",
        "config": {"name": "shift"}, "registered_name": null,
        "inbound_nodes": [{"args": [tensor("x", 0), array], "kwargs": {}}]});
    let cases = [
        (normalization, "layer \"scale\" (Normalization): null is no"),
        (add, "operation \"shift\" (Add): null is no"),
    ];
    for (layer, expected) in cases {
        let outputs = json!([[layer["name"], 0, 0]]);
        let message = functional(&[input("x", 1), layer], &json!([["x", 0, 0]]), &outputs)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_custom_class_is_never_taken_for_one_of_keras() {
    for (module, registered) in [
        (json!("my.package"), Json::Null),
        (json!("keras.layers"), json!("mine>Dense")),
    ] {
        let mut custom = dense("a", 2, &[&[tensor("x", 0)]]);
        custom["module"] = module;
        custom["registered_name"] = registered;
        let layers = [input("x", 3), custom];
        let message = functional(&layers, &json!(["x", 0, 0]), &json!(["a", 0, 0]))
            .unwrap_err()
            .to_string();
        assert!(message.contains("layer \"a\" (Dense)"), "{message}");
    }
}

#[test]
fn a_config_for_much_memory_takes_none_before_its_weights_are_compared() {
    let huge = 1_i64 << 40;
    let layers = [input("x", huge), dense("a", huge, &[&[tensor("x", 0)]])];
    let error = functional(&layers, &json!(["x", 0, 0]), &json!(["a", 0, 0])).unwrap_err();
    assert!(matches!(error, crate::Error::Memory(_)), "{error}");
}
