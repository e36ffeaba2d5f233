//! What needs no oracle: orders, errors, restoring, threads. The values are compared with Keras in
//! `tests/parity`.

use serde_json::{Value, json};

use super::class::CLASSES;
use super::{Optimizer, OptimizerValue, SavedVariable};
use crate::error::Error;
use crate::variables::{Variable, VariableStore};

fn store_of(variables: &[(&str, &[i64])]) -> VariableStore {
    let variable = |(path, shape): &(&str, &[i64])| Variable {
        path: (*path).to_owned(),
        layer: 0,
        name: path.rsplit('/').next().unwrap().to_owned(),
        shape: shape.to_vec(),
        offset: 0,
        held: None,
    };
    VariableStore::zeros(variables.iter().map(variable).collect(), true).unwrap()
}

/// A kernel of two values and a bias of one.
fn store() -> VariableStore {
    store_of(&[("dense/kernel", &[2, 1]), ("dense/bias", &[1])])
}

/// Every rank, one variable of several chunks, one without elements.
pub(super) fn large_store() -> VariableStore {
    store_of(&[
        ("wide/kernel", &[300, 700]),
        ("none/kernel", &[0, 3]),
        ("wide/bias", &[700]),
        ("embedding/embeddings", &[40, 50]),
        ("conv/kernel", &[3, 3, 20, 30]),
        ("scale/scalar", &[]),
    ])
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
    optimizer(config)
        .apply(&mut params, &mut grads, &mut [], &[true, true])
        .unwrap();
    params
}

pub(super) fn object(class: &str, config: Value) -> Value {
    json!({"module": "keras.optimizers", "class_name": class, "config": config, "registered_name": null})
}

/// Every class with its defaults and with all options at once, and one with loss scaling.
pub(super) fn every_optimizer() -> Vec<Value> {
    let options = json!({"use_ema": true, "ema_overwrite_frequency": 3, "weight_decay": 0.01,
        "gradient_accumulation_steps": 2, "global_clipnorm": 3.0, "loss_scale_factor": 2.0});
    let mut all: Vec<_> = CLASSES
        .iter()
        .flat_map(|class| [json!({}), options.clone()].map(|config| object(class.name, config)))
        .collect();
    let own = json!({"momentum": 0.9, "centered": true, "clipnorm": 0.5});
    all.push(object("RMSprop", own));
    all.push(object("Adam", json!({"amsgrad": true})));
    let inner = object("SGD", json!({"momentum": 0.9, "nesterov": true}));
    let scaled = json!({"inner_optimizer": inner, "dynamic_growth_steps": 4});
    all.push(object("LossScaleOptimizer", scaled));
    all
}

/// Numbers without a pattern, the same ones for a `seed`.
pub(super) fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Steps `from` to below `to`, in some of which some variables are not reached.
fn run(optimizer: &mut Optimizer, params: &mut [f32], from: u32, to: u32) {
    for step in from..to {
        let mut grads = numbers(step, params.len());
        let reached: Vec<_> = (0..6).map(|index| (step + index) % 5 != 0).collect();
        optimizer
            .apply(params, &mut grads, &mut [], &reached)
            .unwrap();
    }
}

#[test]
fn restored_optimizers_continue_bit_by_bit() {
    let store = large_store();
    for config in every_optimizer() {
        let mut params = numbers(99, store.len());
        let mut whole = Optimizer::from_config(&config, &store).unwrap();
        run(&mut whole, &mut params, 0, 5);

        let mut copy = params.clone();
        let mut resumed = Optimizer::from_config(&whole.config(), &store).unwrap();
        let variables = whole.keras_variables();
        let find = |key: &str| {
            let mut of_key = variables.iter().filter(|variable| variable.key == key);
            let found = of_key
                .next()
                .map(|variable| (variable.shape, variable.value));
            assert!(of_key.next().is_none(), "{key} is not unique in {config}");
            found
        };
        resumed.restore(find).unwrap();
        let mut third = Optimizer::from_config(&config, &store).unwrap();
        let saved: Vec<SavedVariable<'_>> = variables
            .iter()
            .map(|variable| (variable.shape, variable.value))
            .collect();
        assert!(third.set_keras_variables(&saved).unwrap());
        let mut third_params = params.clone();

        run(&mut whole, &mut params, 5, 9);
        run(&mut resumed, &mut copy, 5, 9);
        run(&mut third, &mut third_params, 5, 9);
        whole.finalize(&mut params).unwrap();
        resumed.finalize(&mut copy).unwrap();
        third.finalize(&mut third_params).unwrap();
        assert!(copy == params, "{config}");
        assert!(third_params == params, "{config}");
        assert_eq!(resumed.keras_variables(), whole.keras_variables());
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let store = large_store();
    for config in every_optimizer() {
        let results = [1, 2, 5].map(|threads| {
            let mut params = numbers(7, store.len());
            let mut optimizer = Optimizer::from_config(&config, &store).unwrap();
            optimizer.set_threads(threads);
            run(&mut optimizer, &mut params, 0, 4);
            params
        });
        assert!(results[0] == results[1], "{config}");
        assert!(results[0] == results[2], "{config}");
        assert!(results[0].iter().all(|value| value.is_finite()), "{config}");
    }
}

#[test]
fn a_config_written_is_the_config_read() {
    let decay = json!({"initial_learning_rate": 0.1, "decay_steps": 10, "alpha": 0.5});
    let schedule = json!({"class_name": "CosineDecay", "config": decay});
    let mut configs = every_optimizer();
    configs.extend([
        object(
            "AdamW",
            json!({"learning_rate": schedule, "global_clipnorm": 1.0}),
        ),
        json!("adagrad"),
        json!({"class_name": "RMSprop", "config": {"rho": 0.8, "decay": 0.0, "jit_compile": true}}),
    ]);
    for config in configs {
        let written = optimizer(&config).config();
        assert_eq!(optimizer(&written).config(), written);
    }
}

#[test]
fn weight_decay_comes_before_the_update_and_takes_biases_too() {
    let sgd = object("SGD", json!({"learning_rate": 0.5, "weight_decay": 0.5}));
    assert_eq!(after_step(&sgd, [1.0, 0.0, 0.0]), [0.25, 0.75, 0.75]);
}

#[test]
fn variables_that_no_loss_reaches_are_left_alone() {
    let mut adam = optimizer(&object("AdamW", json!({"weight_decay": 0.5})));
    let mut params = [1.0; 3];
    adam.apply(&mut params, &mut [1.0; 3], &mut [], &[true, false])
        .unwrap();
    assert!(params[0] < 1.0 && params[2] == 1.0);
    assert_eq!(
        adam.keras_variables()[4].value,
        OptimizerValue::Float32(&[0.0])
    );
    let error = adam.apply(&mut params, &mut [1.0; 3], &mut [], &[false, false]);
    assert!(error.unwrap_err().to_string().contains("no variable"));
    assert_eq!(adam.iterations(), 1);
}

#[test]
fn a_gradient_that_is_not_a_number_survives_every_clipping() {
    for key in ["clipnorm", "global_clipnorm", "clipvalue"] {
        let params = after_step(&object("SGD", json!({key: 1.0})), [f32::NAN, 1.0, 1.0]);
        assert!(params[0].is_nan(), "{key}");
    }
}

#[test]
fn gradients_that_are_not_finite_halve_the_loss_scale() {
    let inner = object("SGD", json!({"learning_rate": 1.0}));
    let config = json!({"inner_optimizer": inner, "initial_scale": 8.0, "dynamic_growth_steps": 2});
    let mut scaled = optimizer(&object("LossScaleOptimizer", config));
    let mut params = [1.0; 3];
    let mut step = |grads: [f32; 3]| {
        let is_taken = scaled.apply(&mut params, &mut grads.clone(), &mut [], &[true, true]);
        (
            is_taken.unwrap(),
            scaled.loss_scale(),
            scaled.iterations(),
            params,
        )
    };
    assert_eq!(step([8.0; 3]), (true, 8.0, 1, [0.0; 3]));
    assert_eq!(step([f32::INFINITY, 1.0, 1.0]), (false, 4.0, 1, [0.0; 3]));
    assert_eq!(step([1.0, 1.0, f32::NAN]), (false, 2.0, 1, [0.0; 3]));
    assert_eq!(step([2.0; 3]), (true, 2.0, 2, [-1.0; 3]));
    assert_eq!(step([2.0; 3]), (true, 4.0, 3, [-2.0; 3]));
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
    assert_eq!(variables[0].value, OptimizerValue::Int64(0));
    assert_eq!(variables[1].value, OptimizerValue::Float32(&[0.001]));
    assert_eq!(variables[2].shape, [2, 1]);
}

#[test]
fn variables_of_another_optimizer_are_refused_before_any_change() {
    let mut adam = optimizer(&json!("adam"));
    let iteration: SavedVariable<'_> = (&[], OptimizerValue::Int64(7));
    let rate: SavedVariable<'_> = (&[], OptimizerValue::Float32(&[0.5]));
    // What Keras saves of an optimizer that was not built.
    assert!(!adam.set_keras_variables(&[iteration, rate]).unwrap());
    let slot: SavedVariable<'_> = (&[3], OptimizerValue::Float32(&[1.0; 3]));
    let error = adam
        .set_keras_variables(&[iteration, rate, slot])
        .unwrap_err();
    assert!(
        error.to_string().contains("3 variables, expected 6"),
        "{error}"
    );
    let all = [iteration, rate, slot, slot, slot, slot];
    let error = adam.set_keras_variables(&all).unwrap_err().to_string();
    assert!(error.contains("dense/kernel/momentum"), "{error}");
    let error = adam.restore(|_| None).unwrap_err().to_string();
    assert!(error.contains("iteration"), "{error}");
    assert_eq!(
        (adam.iterations(), adam.learning_rate()),
        (0, f64::from(0.001_f32))
    );
}

#[test]
fn a_learning_rate_can_be_set_unless_a_schedule_does() {
    let mut sgd = optimizer(&json!("sgd"));
    sgd.set_learning_rate(0.5).unwrap();
    assert_eq!(sgd.learning_rate(), 0.5);
    let boundaries = json!({"boundaries": [1, 2], "values": [1.0, 0.5, 0.25]});
    let schedule = json!({"class_name": "PiecewiseConstantDecay", "config": boundaries});
    let mut sgd = optimizer(&object("SGD", json!({"learning_rate": schedule})));
    assert!(sgd.set_learning_rate(0.5).is_err());
    let mut rates = Vec::new();
    for _ in 0..4 {
        rates.push(sgd.learning_rate());
        sgd.apply(&mut [1.0; 3], &mut [1.0; 3], &mut [], &[true; 2])
            .unwrap();
    }
    assert_eq!(rates, [1.0, 1.0, 0.5, 0.25]);
    assert_eq!(sgd.keras_variables().len(), 1, "a schedule is no variable");
}

#[test]
fn a_slice_of_the_wrong_length_is_an_error_before_any_change() {
    let mut sgd = optimizer(&json!("sgd"));
    let mut params = [1.0; 3];
    let error = sgd
        .apply(&mut params, &mut [1.0; 2], &mut [], &[true; 2])
        .unwrap_err();
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
    assert!(
        sgd.apply(&mut params, &mut [1.0; 3], &mut [], &[true; 3])
            .is_err()
    );
    assert!(sgd.finalize(&mut params[..2]).is_err());
    assert_eq!((params, sgd.iterations()), ([1.0; 3], 0));
}

#[test]
fn what_keras_does_not_take_is_refused_by_name() {
    let schedule = |class: &str, config: Value| json!({"learning_rate": {"class_name": class, "config": config}});
    let refused = [
        (json!("magic"), "magic is not supported"),
        (object("Adam", json!({"momentum": 0.9})), "momentum = 0.9"),
        (object("Adam", json!({"beta_1": null})), "beta_1 = null"),
        (object("SGD", json!({"momentum": 1.5})), "momentum = 1.5"),
        (
            object("AdamW", json!({"weight_decay": null})),
            "weight_decay = null",
        ),
        (
            object("Adam", json!({"clipnorm": 1.0, "clipvalue": 1.0})),
            "only one",
        ),
        (
            object("Adam", json!({"gradient_accumulation_steps": 1})),
            "2 or above",
        ),
        (
            object("SGD", json!({"use_ema": true, "ema_momentum": 2})),
            "ema_momentum = 2",
        ),
        (object("Lion", json!({"beta_1": 0})), "beta_1 = 0"),
        (
            object("Ftrl", json!({"learning_rate_power": 1})),
            "learning_rate_power = 1",
        ),
        (
            object("Muon", json!({"exclude_layers": ["("]})),
            "exclude_layers",
        ),
        (object("LossScaleOptimizer", json!({})), "inner_optimizer"),
        (
            object("SGD", schedule("Magic", json!({}))),
            "InverseTimeDecay",
        ),
        (
            object("SGD", schedule("CosineDecay", json!({"decay_steps": 5}))),
            "initial_learning",
        ),
        (
            json!({"module": "mine", "class_name": "Adam", "config": {}}),
            "Adam of module \"mine\"",
        ),
        (
            json!({"class_name": "SGD", "config": {}, "registered_name": "mine>SGD"}),
            "SGD registered as",
        ),
    ];
    for (config, what) in refused {
        let message = message(&config);
        assert!(message.contains(what), "{message} lacks {what}");
    }
}
