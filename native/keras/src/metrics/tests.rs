//! How metrics are named and resolved, and their results on small batches.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::from_config;
use crate::losses::Loss;
use crate::output::Output;

/// The metric's name, and its value on one batch.
fn measure(config: &Value, loss: &str, y_true: &Tensor, y: &[f32], width: i64) -> (String, f64) {
    let loss = Loss::from_config(&json!(loss)).unwrap();
    let metric = from_config(config, &loss, &[width]).unwrap();
    let output = Output::new(Tensor::from_slice(y).reshape([-1, width]));
    let update = metric
        .update(y_true, &output)
        .unwrap()
        .to_kind(Kind::Double);
    assert_eq!(update.size(), [metric.state_len() as i64]);
    let state = Vec::<f64>::try_from(update).unwrap();
    (metric.name().to_owned(), metric.result(&state))
}

#[test]
fn accuracy_of_class_ids_compares_with_the_greatest_score() {
    let ids = Tensor::from_slice(&[1_i64, 0]);
    let scores = [0.1, 0.9, 0.2, 0.8];
    let measured = measure(
        &json!("accuracy"),
        "sparse_categorical_crossentropy",
        &ids,
        &scores,
        2,
    );
    assert_eq!(measured, ("accuracy".into(), 0.5));
}

#[test]
fn accuracy_of_width_one_has_a_threshold_even_on_logits() {
    let labels = Tensor::from_slice(&[1_f32, 1.0, 0.0, 0.0]);
    let measured = measure(&json!("acc"), "bce", &labels, &[0.6, 0.4, -2.0, 0.5], 1);
    assert_eq!(measured, ("acc".into(), 0.75));
}

#[test]
fn accuracy_of_other_values_compares_the_greatest() {
    let labels = Tensor::from_slice(&[0_f32, 1.0, 1.0, 0.0]).reshape([2, 2]);
    let measured = measure(&json!("accuracy"), "bce", &labels, &[0.6, 0.7, 0.6, 0.7], 2);
    assert_eq!(measured, ("accuracy".into(), 0.5));
}

#[test]
fn ties_count_for_top_k_and_infinite_scores_never() {
    let top =
        json!({"class_name": "SparseTopKCategoricalAccuracy", "config": {"k": 1, "name": "top"}});
    let ids = Tensor::from_slice(&[0_i64, 0]);
    let scores = [0.5, 0.5, f32::INFINITY, 0.0];
    let measured = measure(&top, "sparse_categorical_crossentropy", &ids, &scores, 2);
    assert_eq!(measured, ("top".into(), 0.5));
}

#[test]
fn a_loss_is_a_metric_under_the_name_asked_for() {
    let labels = Tensor::from_slice(&[1_f32, 3.0]);
    assert_eq!(
        measure(&json!("mse"), "mae", &labels, &[0.0, 0.0], 1),
        ("mse".into(), 5.0)
    );
}

#[test]
fn a_metric_without_rows_is_zero() {
    let loss = Loss::from_config(&json!("mse")).unwrap();
    let metric = from_config(&json!("mae"), &loss, &[1]).unwrap();
    assert_eq!(metric.result(&[0.0, 0.0]).to_bits(), 0);
}

#[test]
fn a_metric_for_other_labels_than_the_loss_is_an_error() {
    let loss = Loss::from_config(&json!("sparse_categorical_crossentropy")).unwrap();
    let error = from_config(&json!("categorical_accuracy"), &loss, &[10])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("categorical_accuracy") && error.contains("class ids"),
        "{error}"
    );
    let error = from_config(&json!("auc"), &loss, &[10])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sparse_top_k_categorical_accuracy"),
        "{error}"
    );
}
