//! Rules that need no oracle: orders, errors, restoring. The values are compared with Keras in
//! `tests/parity`.

use serde_json::{Value, json};

use super::{Optimizer, OptimizerValue};
use crate::error::Error;
use crate::variables::{Variable, VariableStore};

/// A kernel of two values and a bias of one.
fn store() -> VariableStore {
    let variable = |name: &str, shape: &[i64]| Variable {
        path: format!("dense/{name}"),
        layer: 0,
        name: name.into(),
        shape: shape.into(),
        offset: 0,
    };
    VariableStore::zeros(
        vec![variable("kernel", &[2, 1]), variable("bias", &[1])],
        true,
    )
    .unwrap()
}

fn optimizer(config: &Value) -> Optimizer {
    Optimizer::from_config(config, &store()).unwrap()
}

fn message(config: &Value) -> String {
    Optimizer::from_config(config, &store())
        .unwrap_err()
        .to_string()
}

/// The parameters after one step from 1.0 each.
fn after_step(config: &Value, grads: [f32; 3]) -> [f32; 3] {
    let (mut params, mut grads) = ([1.0; 3], grads);
    optimizer(config).apply(&mut params, &mut grads).unwrap();
    params
}

fn object(class: &str, config: Value) -> Value {
    json!({"module": "keras.optimizers", "class_name": class, "config": config, "registered_name": null})
}

#[test]
fn sgd_without_momentum_moves_against_the_gradient_and_has_no_slot() {
    let sgd = object("SGD", json!({"learning_rate": 0.5}));
    assert_eq!(after_step(&sgd, [1.0, -2.0, 0.0]), [0.5, 2.0, 1.0]);
    assert!(optimizer(&sgd).slots().is_empty());
}

#[test]
fn weight_decay_comes_before_the_update_and_takes_biases_too() {
    let sgd = object("SGD", json!({"learning_rate": 0.5, "weight_decay": 0.5}));
    assert_eq!(after_step(&sgd, [1.0, 0.0, 0.0]), [0.25, 0.75, 0.75]);
}

#[test]
fn the_first_adam_step_has_the_size_of_the_learning_rate() {
    let [a, b, c] = after_step(&json!("adam"), [3.0, -0.01, 0.0]);
    assert!(
        (a - 0.999).abs() < 1e-6 && (b - 1.001).abs() < 1e-6,
        "{a} {b}"
    );
    assert!((c - 1.0).abs() < 1e-9);
}

#[test]
fn clipnorm_takes_each_variable_and_global_clipnorm_all() {
    let sgd = |key: &str| object("SGD", json!({"learning_rate": 1.0, key: 1.0}));
    let near = |actual: [f32; 3], expected: [f32; 3]| {
        let far = actual
            .iter()
            .zip(expected)
            .any(|(a, e)| (a - e).abs() > 1e-6);
        assert!(!far, "{actual:?} {expected:?}");
    };
    near(
        after_step(&sgd("clipnorm"), [3.0, 4.0, 0.5]),
        [0.4, 0.2, 0.5],
    );
    near(
        after_step(&sgd("global_clipnorm"), [0.0, 3.0, 4.0]),
        [1.0, 0.4, 0.2],
    );
    near(
        after_step(&sgd("clipvalue"), [-3.0, 0.5, 4.0]),
        [2.0, 0.5, 0.0],
    );
}

#[test]
fn a_gradient_that_is_not_a_number_survives_every_clipping() {
    for key in ["clipnorm", "global_clipnorm", "clipvalue"] {
        let params = after_step(&object("SGD", json!({key: 1.0})), [f32::NAN, 1.0, 1.0]);
        assert!(params[0].is_nan(), "{key}");
    }
}

#[test]
fn variables_come_in_the_order_of_keras() {
    let adam = optimizer(&object("Adam", json!({"amsgrad": true})));
    let variables = adam.keras_variables();
    let names: Vec<_> = variables
        .iter()
        .map(|variable| variable.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "iteration",
            "learning_rate",
            "dense_kernel_momentum",
            "dense_kernel_velocity",
            "dense_bias_momentum",
            "dense_bias_velocity",
            "dense_kernel_velocity_hat",
            "dense_bias_velocity_hat",
        ]
    );
    assert_eq!(variables[0].value, OptimizerValue::Integer(0));
    assert_eq!(variables[1].value, OptimizerValue::Floats(&[0.001]));
    assert_eq!(variables[2].shape, [2, 1]);
}

#[test]
fn restored_slots_and_iterations_continue_the_same_run() {
    let config = object(
        "RMSprop",
        json!({"momentum": 0.9, "centered": true, "clipnorm": 0.5}),
    );
    let grads = |step: u8| [f32::from(step), -1.0, 0.5];
    let (mut whole, mut params) = (optimizer(&config), [1.0; 3]);
    whole.apply(&mut params, &mut grads(1)).unwrap();

    let mut resumed = optimizer(&whole.config());
    resumed.set_iterations(whole.iterations());
    for ((_, to), (_, from)) in resumed.slots_mut().into_iter().zip(whole.slots()) {
        to.copy_from_slice(from);
    }
    let mut copy = params;
    whole.apply(&mut params, &mut grads(2)).unwrap();
    resumed.apply(&mut copy, &mut grads(2)).unwrap();
    assert_eq!(copy, params);
}

#[test]
fn a_config_written_is_the_config_read() {
    let schedule = json!({
        "module": "keras.optimizers.schedules",
        "class_name": "CosineDecay",
        "config": {"initial_learning_rate": 0.1, "decay_steps": 10, "alpha": 0.5},
        "registered_name": null,
    });
    for config in [
        object(
            "AdamW",
            json!({"learning_rate": schedule, "global_clipnorm": 1.0}),
        ),
        json!("adagrad"),
        json!("sgd"),
        json!({"class_name": "RMSprop", "config": {"rho": 0.8, "decay": 0.0, "jit_compile": true}}),
    ] {
        let written = optimizer(&config).config();
        assert_eq!(optimizer(&written).config(), written);
    }
}

#[test]
fn a_schedule_sets_the_rate_of_the_next_step() {
    let boundaries = json!({"boundaries": [1, 2], "values": [1.0, 0.5, 0.25]});
    let schedule = json!({"class_name": "PiecewiseConstantDecay", "config": boundaries});
    let mut sgd = optimizer(&object("SGD", json!({"learning_rate": schedule})));
    let rates = [0, 1, 2, 3].map(|iterations| {
        sgd.set_iterations(iterations);
        sgd.learning_rate()
    });
    assert_eq!(rates, [1.0, 1.0, 0.5, 0.25]);
    assert_eq!(sgd.keras_variables().len(), 1, "a schedule is no variable");
}

#[test]
fn a_slice_of_the_wrong_length_is_an_error_before_any_change() {
    let mut sgd = optimizer(&json!("sgd"));
    let mut params = [1.0; 3];
    let error = sgd.apply(&mut params, &mut [1.0; 2]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::LengthMismatch {
                expected: 3,
                actual: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!((params, sgd.iterations()), ([1.0; 3], 0));
}

#[test]
fn what_is_not_implemented_is_named_with_what_is() {
    assert!(message(&json!("lion")).contains("SGD, Adam, AdamW, Adagrad, RMSprop"));
    let ema = message(&object(
        "Adam",
        json!({"use_ema": true, "ema_momentum": 0.9}),
    ));
    assert!(ema.contains("use_ema"), "{ema}");
    let two = message(&object("Adam", json!({"clipnorm": 1.0, "clipvalue": 1.0})));
    assert!(two.contains("only one"), "{two}");
    let decay = json!({"learning_rate": {"class_name": "InverseTimeDecay", "config": {}}});
    assert!(message(&object("SGD", decay)).contains("CosineDecay"));
}
