//! How losses are named, which labels they want, and which output they work on.

use serde_json::{Value, json};
use tch::Tensor;

use super::{LabelSpec, Loss};
use crate::activations::Activation;
use crate::error::Error;
use crate::output::Output;

fn loss(config: &Value) -> Loss {
    Loss::from_config(config).unwrap()
}

fn per_row(config: &Value, y_true: &Tensor, output: &Output) -> Vec<f32> {
    Vec::try_from(loss(config).per_row(y_true, output).unwrap()).unwrap()
}

fn matrix(values: &[f32], columns: i64) -> Tensor {
    Tensor::from_slice(values).reshape([-1, columns])
}

#[test]
fn names_aliases_and_objects_of_both_kerases_give_the_same_loss() {
    let function = json!({"module": "builtins", "class_name": "function",
        "config": "mean_squared_error", "registered_name": "function"});
    let object = json!({"module": "keras.losses", "class_name": "MeanSquaredError",
        "config": {"name": "mean_squared_error", "reduction": "sum_over_batch_size"}});
    let keras2 = json!({"class_name": "MeanSquaredError",
        "config": {"reduction": "auto", "name": "mean_squared_error", "fn": "mean_squared_error"}});
    for config in [
        json!("mse"),
        json!("MeanSquaredError"),
        function,
        object,
        keras2,
    ] {
        let output = Output::new(matrix(&[1.0, 3.0], 2));
        assert_eq!(
            per_row(&config, &matrix(&[0.0, 0.0], 2), &output),
            [5.0],
            "{config}"
        );
    }
    assert_eq!(loss(&json!("mse")).name(), "mse");
}

#[test]
fn a_loss_tells_which_labels_it_wants() {
    let sparse = loss(&json!("sparse_categorical_crossentropy"));
    assert_eq!(sparse.label(&[10]), LabelSpec::Class { classes: 10 });
    assert_eq!(
        loss(&json!("mae")).label(&[2, 3]),
        LabelSpec::Values { shape: vec![2, 3] }
    );
}

#[test]
fn logits_of_the_final_activation_win_over_probabilities_and_from_logits() {
    let logits = || matrix(&[200.0, 0.0], 2);
    let output = Output::from_logits(logits(), Activation::Sigmoid);
    let label = Tensor::from_slice(&[1_i64]);
    assert_eq!(
        per_row(&json!("sparse_categorical_crossentropy"), &label, &output),
        [200.0]
    );
    let clipped = Output::new(logits().softmax(-1, tch::Kind::Float));
    let [value] = per_row(&json!("sparse_categorical_crossentropy"), &label, &clipped)[..] else {
        panic!("one row gives one loss");
    };
    assert!((value - 16.118).abs() < 1e-2, "{value}");
}

#[test]
fn a_row_of_many_values_has_their_mean() {
    let output = Output::new(Tensor::from_slice(&[1_f32, 2.0, 3.0, 4.0]).reshape([1, 2, 2]));
    let zeros = Tensor::zeros([1, 2, 2], (tch::Kind::Float, tch::Device::Cpu));
    assert_eq!(per_row(&json!("mae"), &zeros, &output), [2.5]);
}

#[test]
fn plain_numbers_are_labels_of_an_output_of_width_one() {
    let output = Output::new(matrix(&[1.0, 2.0], 1));
    assert_eq!(
        per_row(&json!("mae"), &Tensor::from_slice(&[0_f32, 0.0]), &output),
        [1.0, 2.0]
    );
}

#[test]
fn labels_of_another_shape_are_an_error_with_both_shapes() {
    let output = Output::new(matrix(&[1.0, 2.0, 3.0, 4.0], 2));
    let error = loss(&json!("mse"))
        .per_row(&matrix(&[1.0, 2.0], 1), &output)
        .unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }));
    assert!(error.to_string().contains("[2, 1]") && error.to_string().contains("[2, 2]"));
}

#[test]
fn what_is_not_implemented_is_an_error() {
    let sparse = |config: Value| {
        let object = json!({"class_name": "SparseCategoricalCrossentropy", "config": config});
        Loss::from_config(&object).unwrap_err().to_string()
    };
    assert!(sparse(json!({"ignore_class": 255})).contains("ignore_class"));
    assert!(sparse(json!({"reduction": "sum"})).contains("sum_over_batch_size"));
    let unknown = Loss::from_config(&json!("hinge")).unwrap_err().to_string();
    assert!(unknown.contains("hinge") && unknown.contains("categorical_crossentropy"));
}
