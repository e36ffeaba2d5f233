//! Configs of Keras 2 and 3, shapes, errors, and what a pass does; values are checked against
//! TensorFlow elsewhere.

use rand_core::SeedableRng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::{Json, Model};
use crate::archive::Loaded;
use crate::context::{Pass, Rng};
use crate::error::{Error, Result};
use crate::value::Value as Batch;
use crate::variables::VariableStore;

/// One value as the inputs of a model.
fn batch(x: &Tensor) -> [Batch; 1] {
    [x.shallow_clone().into()]
}

/// The output of a model with one, in inference.
fn predict(model: &Model, x: &Tensor) -> Result<Tensor> {
    let outputs = model.forward(&batch(x), &mut Pass::inference())?;
    Ok(outputs[0].values()?.shallow_clone())
}

fn dims(sizes: &[i64]) -> Vec<Option<i64>> {
    let rows = sizes.iter().map(|&size| Some(size));
    std::iter::once(None).chain(rows).collect()
}

fn layer(class: &str, config: Value) -> Value {
    json!({"module": "keras.layers", "class_name": class, "config": config})
}

fn input(shape: &[i64]) -> Value {
    let batch_shape: Vec<Value> = std::iter::once(Value::Null)
        .chain(shape.iter().map(|&size| json!(size)))
        .collect();
    layer(
        "InputLayer",
        json!({"name": "input", "batch_shape": batch_shape}),
    )
}

fn sequential(layers: &[Value]) -> Result<Model> {
    let document = json!({"class_name": "Sequential", "config": {"name": "net", "layers": layers}});
    Model::from_json(&document.to_string())
}

fn cnn() -> Model {
    sequential(&[
        input(&[28, 28, 1]),
        layer(
            "Rescaling",
            json!({"name": "rescaling", "scale": 0.5, "offset": 0.0}),
        ),
        layer(
            "Conv2D",
            json!({"name": "conv2d", "filters": 4, "kernel_size": [3, 3], "activation": "relu"}),
        ),
        layer(
            "BatchNormalization",
            json!({"name": "bn", "momentum": 0.75}),
        ),
        layer("MaxPooling2D", json!({"name": "pool", "pool_size": [2, 2]})),
        layer("Flatten", json!({"name": "flatten"})),
        layer("Dropout", json!({"name": "dropout", "rate": 0.5})),
        layer(
            "Dense",
            json!({"name": "dense", "units": 10, "activation": "softmax"}),
        ),
    ])
    .unwrap()
}

fn paths(store: &VariableStore) -> Vec<&str> {
    store
        .variables()
        .iter()
        .map(|variable| variable.path.as_str())
        .collect()
}

#[test]
fn variables_have_keras_paths_shapes_and_order() {
    let model = cnn();
    let trainable = [
        "conv2d/kernel",
        "conv2d/bias",
        "bn/gamma",
        "bn/beta",
        "dense/kernel",
        "dense/bias",
    ];
    assert_eq!(paths(model.trainable()), trainable);
    assert_eq!(
        paths(model.non_trainable()),
        ["bn/moving_mean", "bn/moving_variance"]
    );
    assert_eq!(model.trainable().variables()[0].shape, [3, 3, 1, 4]);
    assert_eq!(model.trainable().variables()[4].shape, [13 * 13 * 4, 10]);
    assert_eq!(model.outputs()[0].spec.dims, dims(&[10]));
    assert_eq!(model.inputs()[0].spec.dims, dims(&[28, 28, 1]));
    assert_eq!(model.outputs()[0].name, "dense");
}

#[test]
fn frozen_layers_keep_their_variables_out_of_the_gradients() {
    let dense = json!({"name": "dense", "units": 2, "trainable": false});
    let bn = json!({"name": "bn", "trainable": false});
    let model = sequential(&[
        input(&[3]),
        layer("Dense", dense),
        layer("BatchNormalization", bn),
    ])
    .unwrap();
    assert!(model.trainable().is_empty());
    let all = [
        "dense/kernel",
        "dense/bias",
        "bn/gamma",
        "bn/beta",
        "bn/moving_mean",
    ];
    assert_eq!(paths(model.non_trainable())[..5], all);
    let mut pass = Pass::training(Rng::seed_from_u64(1));
    let x = Tensor::f_ones([4, 3], (Kind::Float, Device::Cpu)).unwrap();
    model.forward(&batch(&x), &mut pass).unwrap();
    assert!(
        pass.updates.is_empty(),
        "a frozen BatchNormalization runs in inference mode"
    );
}

#[test]
fn a_batch_may_be_flat_and_of_any_numeric_kind() {
    let mut model = cnn();
    model.initialize(3).unwrap();
    let x = Tensor::f_arange(784 * 2, (Kind::Uint8, Device::Cpu)).unwrap();
    let flat = predict(&model, &x.f_view([2, 784]).unwrap()).unwrap();
    let images = x
        .f_view([2, 28, 28, 1])
        .unwrap()
        .f_to_kind(Kind::Float)
        .unwrap();
    assert!(flat.f_equal(&predict(&model, &images).unwrap()).unwrap());
    assert_eq!(flat.size(), [2, 10]);
    assert_eq!(
        predict(&model, &images.f_narrow(0, 0, 0).unwrap())
            .unwrap()
            .size(),
        [0, 10]
    );
    let error = predict(&model, &x.f_view([4, 392]).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("[4, 392]") && error.contains("(None, 28, 28, 1)"),
        "{error}"
    );
}

#[test]
fn a_final_softmax_is_left_to_the_output() {
    let mut model = cnn();
    model.initialize(3).unwrap();
    let x = Tensor::f_ones([2, 784], (Kind::Float, Device::Cpu)).unwrap();
    let output = model
        .forward(&batch(&x), &mut Pass::inference())
        .unwrap()
        .swap_remove(0);
    let logits = output.logits().unwrap().f_softmax(-1, None).unwrap();
    assert!(output.values().unwrap().f_equal(&logits).unwrap());
    assert!(!output.values().unwrap().requires_grad());
}

#[test]
fn training_passes_repeat_with_their_seed_and_report_batch_statistics() {
    let mut model = cnn();
    model.initialize(3).unwrap();
    let x = Tensor::f_arange(784 * 2, (Kind::Uint8, Device::Cpu)).unwrap();
    let x = x.f_view([2, 784]).unwrap();
    let run = |seed| {
        let mut pass = Pass::training(Rng::seed_from_u64(seed));
        let output = model.forward(&batch(&x), &mut pass).unwrap().swap_remove(0);
        (output.values().unwrap().shallow_clone(), pass.updates)
    };
    let ((first, updates), (second, _), (other, _)) = (run(1), run(1), run(2));
    assert!(first.f_equal(&second).unwrap());
    assert!(!first.f_equal(&other).unwrap());
    let named = updates
        .iter()
        .map(|update| model.variables().variable(update.handle));
    let named: Vec<&str> = named.map(|variable| variable.name.as_str()).collect();
    assert_eq!(named, ["moving_mean", "moving_variance"]);
    model.apply_updates(&updates).unwrap();
    let moved: Vec<f32> = Vec::try_from(&updates[0].value).unwrap();
    assert_eq!(model.non_trainable().values(0).unwrap(), moved);
    assert!(moved.iter().any(|&value| value != 0.0));
}

#[test]
fn gradients_fill_the_slice_and_are_zero_where_the_loss_does_not_reach() {
    let mut model = cnn();
    model.initialize(3).unwrap();
    let mut out = vec![f32::NAN; model.trainable().len()];
    let pass = Pass::inference();
    let bias = model.trainable().tensor(1).f_sum(Kind::Float).unwrap();
    let reached = model.gradients(&pass, &bias, &mut out, &mut []).unwrap();
    assert_eq!(reached.iter().filter(|&&reached| reached).count(), 1);
    assert!(reached[1]);
    let span = model.trainable().variables()[1].span();
    let expected = |index: usize| if span.contains(&index) { 1.0 } else { 0.0 };
    assert!(
        out.iter()
            .enumerate()
            .all(|(index, &value)| value == expected(index))
    );
    assert!(matches!(
        model.gradients(&pass, &bias, &mut [0.0; 3], &mut []),
        Err(Error::LengthMismatch { .. })
    ));
}

#[test]
fn a_keras_2_model_is_converted() {
    let text: Json = json!({
        "class_name": "Sequential", "keras_version": "2.15.0", "backend": "tensorflow",
        "config": {"name": "old", "layers": [
            {"class_name": "Conv2D", "config": {
                "name": "conv2d", "batch_input_shape": [null, 8, 8, 2], "dtype": "float32",
                "filters": 3, "kernel_size": [3, 3], "padding": "same", "kernel_initializer":
                    {"class_name": "GlorotUniform", "config": {"seed": null, "dtype": "float32"}}}},
            {"class_name": "BatchNormalization", "config": {"name": "bn", "axis": [3]}},
            {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.1}},
        ]},
    });
    let model = Model::from_json(&text.to_string()).unwrap();
    assert_eq!(model.outputs()[0].spec.dims, dims(&[8, 8, 3]));
    let layers = model.config()["config"]["layers"].as_array().unwrap();
    assert_eq!(layers[0]["config"]["batch_shape"], json!([null, 8, 8, 2]));
    assert_eq!(layers[1]["module"], "keras.layers");
    assert!(layers[1]["config"].get("batch_input_shape").is_none());
    let initializer = json!({"class_name": "GlorotUniform", "config": {"seed": null},
        "module": "keras.initializers", "registered_name": null});
    assert_eq!(layers[1]["config"]["kernel_initializer"], initializer);
    assert_eq!(layers[2]["config"]["axis"], 3);
    assert_eq!(layers[3]["config"]["negative_slope"], 0.1);
    let again = Model::from_json(&model.to_json()).unwrap();
    assert_eq!(again.config(), model.config());
}

#[test]
fn errors_name_the_layer_the_option_and_what_is_supported() {
    let conv = |key: &str, value: Value| {
        let mut config = json!({"name": "c1", "filters": 4, "kernel_size": 3});
        config[key] = value;
        vec![input(&[8, 8, 3]), layer("Conv2D", config)]
    };
    let bn = json!({"name": "bn", "synchronized": "yes"});
    let unknown = layer("Crystal", json!({"name": "crystal"}));
    let cases = [
        (
            conv("data_format", json!("sideways")),
            vec!["\"c1\" (Conv2D)", "channels_last"],
        ),
        (
            conv("kernel_regularizer", json!({"class_name": "L9"})),
            vec!["kernel_regularizer", "L9"],
        ),
        (
            conv("filters", json!(0)),
            vec!["\"c1\" (Conv2D): filters = 0 must be a positive integer"],
        ),
        (conv("groups", json!(3)), vec!["groups = 3", "filters = 4"]),
        (
            conv("groups", json!(2)),
            vec!["3 channels do not divide into 2 groups"],
        ),
        (
            conv("kernel_size", json!(9)),
            vec!["a window of 9 does not fit into an axis of 8"],
        ),
        (
            conv("activation", json!("magic")),
            vec!["activation \"magic\"", "softmax"],
        ),
        (
            conv("dtype", json!("float16")),
            vec!["keeping variables in float16", "mixed_float16"],
        ),
        (
            vec![input(&[8]), layer("BatchNormalization", bn)],
            vec!["\"bn\"", "synchronized = \"yes\""],
        ),
        (
            vec![input(&[8]), unknown],
            vec!["layer \"crystal\" (Crystal)", "Dense, "],
        ),
        (
            vec![layer("Flatten", json!({"name": "f"}))],
            vec!["input shape is unknown"],
        ),
        (
            vec![input(&[4]), input(&[4])],
            vec!["two layers are named \"input\""],
        ),
    ];
    for (layers, parts) in cases {
        let message = sequential(&layers).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}

#[test]
fn an_archive_holds_the_model() {
    let mut model = cnn();
    model.initialize(3).unwrap();
    let compile = json!({"loss": "mse"});
    let (read, loaded) =
        Model::from_bytes(&model.to_archive(Some(&compile), None).unwrap()).unwrap();
    assert_eq!(
        loaded,
        Loaded {
            weights: true,
            some_weights: true,
            compile: Some(compile),
            optimizer: Vec::new(),
        }
    );
    assert_eq!(read.config(), model.config());
    assert_eq!(
        read.trainable().as_slice().unwrap(),
        model.trainable().as_slice().unwrap()
    );
    assert_eq!(
        read.non_trainable().as_slice().unwrap(),
        model.non_trainable().as_slice().unwrap()
    );
    let (_, loaded) = Model::from_bytes(model.to_json().as_bytes()).unwrap();
    assert_eq!(loaded, Loaded::default());
    assert!(matches!(
        Model::from_bytes(b"PK\x03\x04"),
        Err(Error::Archive { .. })
    ));
    assert!(matches!(Model::from_bytes(b"{"), Err(Error::NotJson(_))));
}
