//! Passes over several replicas in threads, against one replica with all of their rows.

use std::ops::Range;
use std::sync::{Barrier, Mutex};

use serde_json::{Value as Json, json};
use tch::{Kind, Tensor};

use super::{Failure, Replicas, WithoutRows};
use crate::error::Error;
use crate::{Model, Pass, Rng, Value};
use rand_core::SeedableRng;

const ROWS: i64 = 12;

/// Replicas in threads of one process, who meet at each sum.
#[derive(Debug)]
struct Meeting {
    barrier: Barrier,
    sums: Mutex<Vec<f64>>,
}

impl Meeting {
    fn of(replicas: usize) -> Self {
        Self {
            barrier: Barrier::new(replicas),
            sums: Mutex::default(),
        }
    }
}

/// One of them, and how often they met.
#[derive(Debug)]
struct Member<'a>(&'a Meeting, usize);

impl Replicas for Member<'_> {
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        let Meeting { barrier, sums } = self.0;
        self.1 += 1;
        {
            let mut sums = sums.lock().unwrap();
            sums.resize(values.len(), 0.0);
            for (sum, value) in sums.iter_mut().zip(values.iter()) {
                *sum += value;
            }
        }
        barrier.wait();
        values.copy_from_slice(&sums.lock().unwrap());
        if barrier.wait().is_leader() {
            sums.lock().unwrap().clear();
        }
        barrier.wait();
        Ok(())
    }
}

/// Numbers from -1 to 1 without an order, the same in every run.
fn noise(shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let steps = Tensor::arange(count, (Kind::Double, tch::Device::Cpu)) * 12.9898;
    let scattered = (steps.sin() * 43_758.545_3).frac();
    scattered.to_kind(Kind::Float).view(shape)
}

/// Replicas that cannot reach each other.
#[derive(Debug)]
struct Lost;

impl Replicas for Lost {
    fn sum(&mut self, _values: &mut [f64]) -> Result<(), Failure> {
        Err("nobody is there".into())
    }
}

/// What a training step of one replica comes to.
#[derive(Debug)]
struct Stepped {
    outputs: Vec<f32>,
    gradients: Vec<f32>,
    updates: Vec<f32>,
    /// Which variables the loss depends on; none for want of rows.
    reached: Vec<bool>,
}

/// A step over some of the rows, or over one that does not count if there are none.
fn step(
    config: &str,
    x: &Tensor,
    rows: Range<i64>,
    replicas: Option<&mut dyn Replicas>,
) -> Stepped {
    let mut model = Model::from_json(config).unwrap();
    model.initialize(5).unwrap();
    let mut pass = Pass::training(Rng::seed_from_u64(1));
    let mut gradients = vec![0.0; model.trainable().len()];
    let input = |rows: Range<i64>| [Value::new(x.narrow(0, rows.start, rows.end - rows.start))];
    let loss = |output: &Value| {
        // Not the sum, on which normalization would leave no gradient.
        let y = output.y().unwrap();
        (y * y * y + y.sigmoid()).sum(Kind::Double)
    };
    let mut reached = Vec::new();
    let outputs = match replicas {
        None => {
            let outputs = model.forward(&input(rows), &mut pass).unwrap();
            reached = model
                .gradients(&pass, &loss(&outputs[0]), &mut gradients, &mut [])
                .unwrap();
            outputs
        }
        Some(replicas) if rows.is_empty() => {
            let row = model.blank(1).unwrap();
            let none = &mut WithoutRows(replicas);
            model.forward_over(none, &row, &mut pass).unwrap();
            pass.skip(replicas).unwrap();
            Vec::new()
        }
        Some(replicas) => {
            let outputs = model.forward_over(replicas, &input(rows), &mut pass);
            let outputs = outputs.unwrap();
            let loss = loss(&outputs[0]);
            reached = model
                .gradients_over(replicas, &pass, &loss, &mut gradients, &mut [])
                .unwrap();
            outputs
        }
    };
    let flat = |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
    let values = outputs
        .first()
        .into_iter()
        .flat_map(|output| flat(output.values().unwrap()));
    Stepped {
        outputs: values.collect(),
        gradients,
        reached,
        updates: pass
            .updates
            .iter()
            .flat_map(|update| flat(&update.value))
            .collect(),
    }
}

fn batch_normalization(name: &str, options: Json) -> Json {
    let mut config = json!({"name": name, "synchronized": true, "momentum": 0.5});
    for (key, value) in options.as_object().unwrap() {
        config[key] = value.clone();
    }
    json!({"class_name": "BatchNormalization", "config": config})
}

fn dense(name: &str) -> Json {
    json!({"class_name": "Dense", "config": {"name": name, "units": 5}})
}

fn sequential(shape: &[i64], layers: &[Json]) -> String {
    let batch: Vec<Json> = std::iter::once(Json::Null)
        .chain(shape.iter().map(|&size| size.into()))
        .collect();
    let input = json!({"class_name": "InputLayer", "config": {"batch_shape": batch, "name": "x"}});
    let layers: Vec<_> = std::iter::once(&input).chain(layers).collect();
    json!({"class_name": "Sequential", "config": {"name": "m", "layers": layers}}).to_string()
}

/// Layers with the layers that each is called on, once for each list; `b:1` is the second call of b.
fn functional(layers: &[(Json, &[&[&str]])], outputs: &[&str]) -> String {
    let mut all = vec![
        json!({"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
        "config": {"batch_input_shape": [null, 4], "dtype": "float32", "name": "x"}}),
    ];
    for (layer, calls) in layers {
        let mut layer = layer.clone();
        layer["name"] = layer["config"]["name"].clone();
        let tensor = |of: &&str| match of.split_once(':') {
            Some((of, call)) => json!([of, call.parse::<u32>().unwrap(), 0, {}]),
            None => json!([of, 0, 0, {}]),
        };
        let node = |call: &&[&str]| -> Json { call.iter().map(tensor).collect() };
        layer["inbound_nodes"] = calls.iter().map(node).collect();
        all.push(layer);
    }
    let outputs: Vec<Json> = outputs.iter().map(|of| json!([of, 0, 0])).collect();
    json!({"class_name": "Functional", "config": {"name": "m", "layers": all,
        "input_layers": [["x", 0, 0]], "output_layers": outputs}})
    .to_string()
}

/// A model that normalizes by `keras.ops.moments` over the batch, as Keras 3 records it.
fn by_moments(synchronized: bool) -> String {
    let of = |name: &str, output: i64| {
        json!({"class_name": "__keras_tensor__", "config": {
            "shape": [null, 5], "dtype": "float32", "keras_history": [name, 0, output]}})
    };
    let node = |module: &str, class: &str, config: Json, args: &[Json]| {
        json!({"module": module, "class_name": class, "config": config, "registered_name": class,
            "name": config["name"], "inbound_nodes": [{"args": args, "kwargs": {}}]})
    };
    let operation = |class: &str, name: &str, args: &[Json]| {
        node("keras.src.ops.numpy", class, json!({"name": name}), args)
    };
    let dense = |name: &str, of: Json| {
        node(
            "keras.layers",
            "Dense",
            json!({"name": name, "units": 5}),
            &[of],
        )
    };
    let moments = json!({"name": "moments", "axes": [0], "synchronized": synchronized});
    let layers = json!([
        {"module": "keras.layers", "class_name": "InputLayer", "name": "x", "inbound_nodes": [],
            "config": {"batch_shape": [null, 4], "dtype": "float32", "name": "x"},
            "registered_name": null},
        dense("a", of("x", 0)),
        node("keras.src.ops.nn", "Moments", moments, &[of("a", 0)]),
        operation("Subtract", "centred", &[of("a", 0), of("moments", 0)]),
        operation("Add", "spread", &[of("moments", 1), json!(0.1)]),
        operation("Divide", "scaled", &[of("centred", 0), of("spread", 0)]),
        dense("e", of("scaled", 0)),
    ]);
    json!({"class_name": "Functional", "module": "keras.src.models.functional",
        "registered_name": "Functional", "config": {"name": "m", "layers": layers,
        "input_layers": [["x", 0, 0]], "output_layers": [["e", 0, 0]]}})
    .to_string()
}

/// Models, their inputs and how often replicas meet in a step: for the sums of the forward pass, and
/// for the gradients of those that depend on variables.
fn cases() -> Vec<(String, Tensor, usize)> {
    let x = |shape: &[i64]| noise(&[&[ROWS], shape].concat());
    let bn = |name: &str| batch_normalization(name, json!({}));
    let deep = [dense("a"), bn("b"), dense("c"), bn("d"), dense("e")];
    let on_inputs = [bn("a"), dense("b"), bn("c")];
    let relu = json!({"class_name": "Activation", "config": {"name": "r", "activation": "tanh"}});
    let add = json!({"class_name": "Add", "config": {"name": "add"}});
    let residual: [(Json, &[&[&str]]); 7] = [
        (dense("a"), &[&["x"]]),
        (bn("b"), &[&["a"]]),
        (relu, &[&["b"]]),
        (dense("c"), &[&["r"]]),
        (bn("d"), &[&["c"]]),
        (add, &[&["a", "d"]]),
        (dense("e"), &[&["add"]]),
    ];
    let shared: [(Json, &[&[&str]]); 4] = [
        (dense("a"), &[&["x"]]),
        (bn("b"), &[&["a"], &["c"]]),
        (dense("c"), &[&["b"]]),
        (dense("e"), &[&["b:1"]]),
    ];
    // No loss depends on the second output.
    let aside: [(Json, &[&[&str]]); 5] = [
        (dense("a"), &[&["x"]]),
        (bn("b"), &[&["a"]]),
        (dense("c"), &[&["x"]]),
        (bn("d"), &[&["c"]]),
        (dense("e"), &[&["d"]]),
    ];
    let lstm = json!({"class_name": "LSTM", "config": {
        "name": "lstm", "units": 4, "return_sequences": true}});
    let in_steps = json!({"class_name": "TimeDistributed", "config": {
        "name": "steps", "layer": bn("b")}});
    let masking = json!({"class_name": "Masking", "config": {"name": "mask", "mask_value": 0.0}});
    let steps = x(&[3, 4]);
    let keep = noise(&[ROWS, 3, 1]).gt(-0.2);
    let renorm = json!({"renorm": true, "renorm_clipping": {"rmax": 1.5}});
    let conv = json!({"class_name": "Conv2D", "config": {
        "name": "conv", "filters": 3, "kernel_size": 2}});
    let first_axis = batch_normalization("n", json!({"axis": 1}));
    vec![
        (sequential(&[4], &deep), x(&[4]) * 3.0 + 50.0, 4),
        (sequential(&[4], &on_inputs), x(&[4]), 3),
        (by_moments(true), x(&[4]), 2),
        (functional(&residual, &["e"]), x(&[4]), 4),
        (functional(&shared, &["e"]), x(&[4]), 4),
        (functional(&aside, &["e", "b"]), x(&[4]), 4),
        (
            sequential(&[3, 4], &[lstm, in_steps, dense("c")]),
            x(&[3, 4]),
            6,
        ),
        (
            sequential(&[3, 4], &[masking, dense("a"), bn("b"), dense("c")]),
            steps * keep,
            2,
        ),
        (
            sequential(&[4], &[dense("a"), batch_normalization("b", renorm)]),
            x(&[4]),
            2,
        ),
        (
            sequential(&[4, 5, 2], &[conv, first_axis]),
            x(&[4, 5, 2]),
            2,
        ),
    ]
}

fn close(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let greatest = expected
        .iter()
        .fold(1e-3_f32, |greatest, value| greatest.max(value.abs()));
    for (actual, expected) in actual.iter().zip(expected) {
        let difference = (actual - expected).abs() / greatest;
        assert!(difference < 2e-5, "{what}: {actual}, expected {expected}");
    }
}

#[test]
fn replicas_with_some_rows_each_are_one_replica_with_all_of_them() {
    for (at, (config, x, meetings)) in cases().into_iter().enumerate() {
        let one = step(&config, &x, 0..ROWS, None);
        for bounds in [vec![0, 5, 12], vec![0, 1, 1, 4, 12], vec![0, 0, 12, 12]] {
            let meeting = Meeting::of(bounds.len() - 1);
            let x = &Mutex::new(x.shallow_clone());
            let run = |rows: Range<i64>| {
                let x = x.lock().unwrap().copy();
                let mut member = Member(&meeting, 0);
                let stepped = step(&config, &x, rows, Some(&mut member));
                assert_eq!(member.1, meetings, "{config}");
                stepped
            };
            let all: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = bounds
                    .windows(2)
                    .map(|pair| {
                        let run = &run;
                        let rows = pair[0]..pair[1];
                        scope.spawn(move || run(rows))
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            let what = |part: &str| format!("{part} of case {at} in {bounds:?}");
            let outputs: Vec<f32> = all.iter().flat_map(|step| step.outputs.clone()).collect();
            close(&outputs, &one.outputs, &what("outputs"));
            let mut gradients = vec![0.0; one.gradients.len()];
            for step in &all {
                close(&step.updates, &one.updates, &what("updates"));
                assert!(
                    step.reached.is_empty() || step.reached == one.reached,
                    "{}",
                    what("reach")
                );
                for (sum, gradient) in gradients.iter_mut().zip(&step.gradients) {
                    *sum += gradient;
                }
            }
            close(&gradients, &one.gradients, &what("gradients"));
        }
    }
}

#[test]
fn what_replicas_fail_with_comes_out_whole() {
    let (config, x, _) = cases().swap_remove(0);
    let mut model = Model::from_json(&config).unwrap();
    model.initialize(5).unwrap();
    let mut pass = Pass::training(Rng::seed_from_u64(1));
    let error = model
        .forward_over(&mut Lost, &[Value::new(x)], &mut pass)
        .unwrap_err();
    assert!(matches!(error, Error::Layer { .. }));
    assert_eq!(error.into_failure().unwrap().to_string(), "nobody is there");
}

#[test]
fn only_synchronized_layers_that_learn_sum_over_replicas() {
    let sums = |layer: Json| {
        let config = sequential(&[4], &[layer]);
        Model::from_json(&config).unwrap().sums_over_replicas()
    };
    assert!(sums(batch_normalization("b", json!({}))));
    assert!(!sums(batch_normalization(
        "b",
        json!({"synchronized": false})
    )));
    assert!(!sums(batch_normalization("b", json!({"trainable": false}))));
    for synchronized in [true, false] {
        let model = Model::from_json(&by_moments(synchronized)).unwrap();
        assert_eq!(model.sums_over_replicas(), synchronized);
    }
}

#[test]
fn inference_takes_moving_statistics_and_no_sums() {
    let (config, x, _) = cases().swap_remove(0);
    let mut model = Model::from_json(&config).unwrap();
    model.initialize(5).unwrap();
    let mut pass = Pass::inference();
    model
        .forward_over(&mut Lost, &[Value::new(x)], &mut pass)
        .unwrap();
    assert!(pass.cuts.is_empty() && pass.updates.is_empty());
}
