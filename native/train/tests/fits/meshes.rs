//! Fits whose ranks have stages of a model: they come to what ranks come to that have all of it.

use crate::embeddings::embedded;
use crate::exactness::relative_difference;
use crate::ranks::{
    Job, Outcome, dense, fit, newest_checkpoint, normalized, partition, partitions, perceptron,
};
use arrow_array::RecordBatch;
use flambeau_formats::array::Array;
use flambeau_formats::checkpoint;
use flambeau_keras::Model;
use flambeau_train::Error;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Partitions of replicas, each with those of ranks that have no rows behind it.
fn on_mesh(rows: &[Vec<RecordBatch>], ranks: usize) -> Vec<Vec<RecordBatch>> {
    let with_others = rows.iter().flat_map(|rows| {
        let others = (1..ranks).map(|_| Vec::new());
        std::iter::once(rows.clone()).chain(others)
    });
    with_others.collect()
}

/// What a checkpoint holds, by name.
fn state(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let checkpoint = checkpoint::read(&newest_checkpoint(folder)).unwrap();
    let tensors = checkpoint.tensors.into_iter();
    tensors
        .map(|(name, array)| (name, array.values().unwrap()))
        .collect()
}

fn flat(state: &BTreeMap<String, Vec<f32>>) -> Vec<f32> {
    state.values().flatten().copied().collect()
}

/// The loss and metrics of every epoch.
fn numbers(history: &Value) -> Vec<f64> {
    let columns = history.as_object().unwrap().values();
    let all = columns.flat_map(|column| column.as_array().unwrap());
    all.map(|value| value.as_f64().unwrap()).collect()
}

fn with_mesh(job: &Job, mesh: &Value) -> Job {
    let mut job = job.clone();
    job.run_id += &mesh.to_string().replace(['"', '{', '}', ':', ','], "-");
    job.fit["mesh"] = mesh.clone();
    job
}

/// A fit of replicas with partitions of `sizes`, plain and on meshes.
fn compare(job: &Job, sizes: &[usize], meshes: &[Value], tolerance: f64) {
    let rows = partitions(sizes);
    let folder = tempfile::tempdir().unwrap();
    let plain = fit(job, &rows, folder.path());
    let expected = state(folder.path());
    for mesh in meshes {
        let size = |key: &str| usize::try_from(mesh[key].as_u64().unwrap_or(1)).unwrap();
        let ranks = size("pipeline") * size("tensor");
        let folder = tempfile::tempdir().unwrap();
        let result = fit(&with_mesh(job, mesh), &on_mesh(&rows, ranks), folder.path());
        let what = format!("{mesh}, {sizes:?}");
        let came = state(folder.path());
        let names = |state: &BTreeMap<String, Vec<f32>>| state.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&came), names(&expected), "{what}");
        let difference = relative_difference(&flat(&came), &flat(&expected));
        assert!(difference < tolerance, "{what}: {difference}");
        assert_eq!((result.steps, &result.rows), (plain.steps, &plain.rows));
        let history = |result: &flambeau_train::event::FitResult| {
            numbers(&serde_json::to_value(&result.history).unwrap())
        };
        for (came, expected) in history(&result).iter().zip(history(&plain)) {
            let difference = (came - expected).abs();
            assert!(difference < 1e-4 * expected.abs().max(1.0), "{what}");
        }
        // The export is the whole model.
        let bytes = std::fs::read(result.model.unwrap()).unwrap();
        let (model, loaded) = Model::from_bytes(&bytes).unwrap();
        assert!(loaded.weights && loaded.compile.is_some());
        for variable in model.trainable().variables() {
            let at = model
                .trainable()
                .variables()
                .iter()
                .position(|one| one == variable);
            let values = model.trainable().values(at.unwrap()).unwrap();
            assert_eq!(values, came[&variable.path], "{what}: {}", variable.path);
        }
    }
}

/// Of whose layers some add to the loss.
fn convolutional() -> Value {
    json!([
        {"class_name": "Reshape", "config": {"name": "image", "target_shape": [2, 2, 1]}},
        {"class_name": "Conv2D", "config": {
            "name": "conv", "filters": 8, "kernel_size": [2, 2], "padding": "same",
            "activation": "relu", "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}}}},
        {"class_name": "MaxPooling2D", "config": {"name": "pool", "pool_size": [2, 2], "padding": "same"}},
        {"class_name": "Flatten", "config": {"name": "flat", }},
        dense("hidden", 12, "tanh"),
        {"class_name": "Dense", "config": {"name": "classes", "units": 2, "activation": "softmax",
            "activity_regularizer": {"class_name": "L1", "config": {"l1": 0.001}}}}
    ])
}

/// Every order of work, with a batch in parts that do not divide it.
fn meshes(pipeline: usize) -> Vec<Value> {
    [("gpipe", 1), ("gpipe", 3), ("1f1b", 1), ("1f1b", 5)]
        .map(|(schedule, parts)| {
            json!({"pipeline": pipeline, "micro_batches": parts, "schedule": schedule})
        })
        .to_vec()
}

/// Weights split between ranks, alone and of stages.
fn split() -> Vec<Value> {
    vec![
        json!({"tensor": 2}),
        json!({"tensor": 4}),
        json!({"tensor": 2, "pipeline": 2, "micro_batches": 3, "schedule": "1f1b"}),
    ]
}

#[test]
fn weights_split_between_ranks_come_to_what_whole_ones_do() {
    let mut job = Job::new(perceptron(), json!({"optimizer": "adam"}));
    job.validation = partitions(&[150]).swap_remove(0);
    compare(&job, &[333], &split(), 1e-5);
    compare(&job, &[200, 133], &split(), 1e-5);
    let clipped = json!({"class_name": "Adam", "config": {"global_clipnorm": 0.1}});
    let mut job = Job::new(perceptron(), json!({"optimizer": clipped}));
    job.model = block();
    compare(&job, &[160], &split(), 1e-5);
    compare(&job, &[90, 70], &split()[2..], 1e-5);
    let job = Job::new(embedded(30_001), json!({"optimizer": "adagrad"}));
    compare(&job, &[150, 130], &split(), 1e-5);
    let job = Job::new(
        convolutional(),
        json!({"loss": "sparse_categorical_crossentropy"}),
    );
    compare(&job, &[170], &split(), 1e-5);
}

#[test]
fn a_perceptron_in_stages() {
    let mut job = Job::new(perceptron(), json!({"epochs": 2}));
    job.validation = partitions(&[150]).swap_remove(0);
    compare(&job, &[333], &meshes(2), 1e-5);
    compare(&job, &[200, 133], &meshes(2), 1e-5);
}

#[test]
fn a_convolutional_network_in_stages_as_the_user_cuts_it() {
    let settings = json!({"optimizer": {"class_name": "Adam", "config": {"global_clipnorm": 0.5}},
        "loss": "sparse_categorical_crossentropy"});
    let job = Job::new(convolutional(), settings);
    let cuts = [
        json!({"conv": 0, "pool": 1, "hidden": 2}),
        json!({"hidden": 1, "classes": 2}),
        json!({"flat": 1, "classes": 2}),
    ];
    let mut all = Vec::new();
    for stages in cuts {
        for mut mesh in meshes(3) {
            mesh["stages"] = stages.clone();
            all.push(mesh);
        }
    }
    compare(&job, &[170], &all, 1e-5);
    compare(&job, &[90, 120], &all[..4], 1e-5);
}

/// A block whose residuals pass over the end of a stage, with two inputs to the losses of two outputs.
fn block() -> Value {
    let history = |layer: &str| {
        json!({"class_name": "__keras_tensor__", "config": {
        "shape": [null, 4], "dtype": "float32", "keras_history": [layer, 0, 0]}})
    };
    let layer = |class: &str, config: Value, from: &[&str]| {
        let args = match from {
            [one] => json!([history(one)]),
            many => json!([many.iter().map(|one| history(one)).collect::<Vec<_>>()]),
        };
        json!({"class_name": class, "name": config["name"], "config": config,
            "inbound_nodes": [{"args": args, "kwargs": {}}]})
    };
    let mut attention = layer(
        "MultiHeadAttention",
        json!({
        "name": "attention", "num_heads": 2, "key_dim": 4}),
        &["norm"],
    );
    attention["inbound_nodes"][0]["args"] = json!([history("norm"), history("norm")]);
    json!({"class_name": "Functional", "config": {
        "name": "net", "trainable": true,
        "layers": [
            {"class_name": "InputLayer", "name": "input", "config": {
                "name": "input", "batch_shape": [null, 4], "dtype": "float32"}, "inbound_nodes": []},
            layer("Dense", json!({"name": "embed", "units": 24}), &["input"]),
            layer("Reshape", json!({"name": "steps", "target_shape": [3, 8]}), &["embed"]),
            layer("LayerNormalization", json!({"name": "norm"}), &["steps"]),
            attention,
            layer("Add", json!({"name": "add"}), &["attention", "steps"]),
            layer("LayerNormalization", json!({"name": "norm_2"}), &["add"]),
            layer("Dense", json!({"name": "up", "units": 16, "activation": "gelu"}), &["norm_2"]),
            layer("Dense", json!({"name": "down", "units": 8}), &["up"]),
            layer("Add", json!({"name": "add_2"}), &["down", "add"]),
            layer("Flatten", json!({"name": "flat"}), &["add_2"]),
            layer("Dense", json!({"name": "logits", "units": 2}), &["flat"])
        ],
        "input_layers": [["input", 0, 0]], "output_layers": [["logits", 0, 0]]}})
}

#[test]
fn a_transformer_block_cut_within_its_residuals() {
    let mut job = Job::new(perceptron(), json!({"epochs": 2, "optimizer": "adamw"}));
    job.model = block();
    let mut all = Vec::new();
    for stages in [
        json!({"attention": 1, "up": 2}),
        json!({"norm": 1, "down": 2}),
        json!({"add": 1, "flat": 2}),
    ] {
        for mut mesh in meshes(3) {
            mesh["stages"] = stages.clone();
            all.push(mesh);
        }
    }
    compare(&job, &[160], &all, 1e-5);
    // Cut by what layers take, over two replicas.
    compare(&job, &[90, 70], &meshes(4), 1e-5);
}

#[test]
fn rows_of_an_embedding_in_the_first_stage_are_added_up_over_parts_and_replicas() {
    for optimizer in [
        json!("adam"),
        json!({"class_name": "Adagrad", "config": {"clipnorm": 0.1}}),
    ] {
        let job = Job::new(embedded(30_000), json!({"optimizer": optimizer}));
        compare(&job, &[150, 130], &meshes(2), 1e-5);
    }
}

#[test]
fn normalization_sees_the_parts_of_a_batch_and_goes_on_with_their_statistics() {
    let job = Job::new(normalized(false), json!({}));
    let whole = [
        json!({"pipeline": 2}),
        json!({"pipeline": 3, "schedule": "1f1b"}),
    ];
    compare(&job, &[160], &whole, 1e-5);
    compare(&job, &[96, 64], &whole, 1e-5);
}

#[test]
fn a_fit_whose_stage_is_killed_goes_on_from_its_last_checkpoint() {
    let settings = json!({"epochs": 4, "checkpoint_every_steps": 3, "optimizer": "adam"});
    let job = Job::new(perceptron(), settings);
    for mesh in [
        json!({"pipeline": 2, "micro_batches": 4, "schedule": "1f1b"}),
        json!({"tensor": 2}),
    ] {
        kill_each(&job, &mesh);
    }
}

fn kill_each(job: &Job, mesh: &Value) {
    let rows = on_mesh(&partitions(&[400, 300]), 2);
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = fit(&with_mesh(job, mesh), &rows, folder.path());
    let expected = state(folder.path());
    for killed in 0..4 {
        let mut job = with_mesh(job, mesh);
        job.run_id += &format!("killed-{killed}");
        job.pauses = vec![Duration::from_millis(60); 4];
        job.killed = Some((killed, Duration::from_millis(400)));
        let folder = tempfile::tempdir().unwrap();
        let outcomes = job.run(&rows, folder.path());
        if outcomes.iter().all(Result::is_ok) {
            continue;
        }
        assert!(outcomes.iter().all(Outcome::is_err), "{outcomes:?}");
        job.killed = None;
        job.attempt = 1;
        let left = folder.path().join("0").join("checkpoint").exists();
        job.resume = left.then(|| newest_checkpoint(folder.path()));
        let again = tempfile::tempdir().unwrap();
        let result = fit(&job, &rows, again.path());
        assert_eq!(result.digest, undisturbed.digest, "rank {killed} killed");
        // A fit that was killed when all steps were done leaves no other checkpoint.
        let goes_on = again.path().join("0").join("checkpoint").exists();
        let last = if goes_on { &again } else { &folder };
        assert!(state(last.path()) == expected);
    }
}

/// A checkpoint is of the model, however it was cut.
#[test]
fn a_fit_goes_on_with_other_stages_than_it_began_with() {
    let job = Job::new(perceptron(), json!({"epochs": 1, "optimizer": "adam"}));
    let rows = partitions(&[320]);
    let folder = tempfile::tempdir().unwrap();
    let mesh = json!({"pipeline": 2, "micro_batches": 2});
    fit(&with_mesh(&job, &mesh), &on_mesh(&rows, 2), folder.path());
    let mut further = job.clone();
    further.fit["epochs"] = json!(2);
    further.resume = Some(newest_checkpoint(folder.path()));
    let mesh =
        json!({"pipeline": 2, "micro_batches": 2, "stages": {"logits": 1}, "schedule": "1f1b"});
    let cut = tempfile::tempdir().unwrap();
    let result = fit(&with_mesh(&further, &mesh), &on_mesh(&rows, 2), cut.path());
    assert_eq!(result.epochs, 2);
    let mut whole = job.clone();
    whole.fit["epochs"] = json!(2);
    let plain = tempfile::tempdir().unwrap();
    fit(&whole, &rows, plain.path());
    let difference = relative_difference(&flat(&state(cut.path())), &flat(&state(plain.path())));
    assert!(difference < 1e-5, "{difference}");
}

/// Weights of one stage, or what the optimizer keeps of them, that are no numbers: all ranks, also those of
/// other stages and of another replica, end with an error that names the tensor.
#[test]
fn what_is_no_number_is_named_wherever_it_is() {
    let mesh = json!({"pipeline": 2});
    let named = |job: &Job, tensor: &str| {
        let folder = tempfile::tempdir().unwrap();
        let rows = on_mesh(&partitions(&[100, 60]), 2);
        for outcome in with_mesh(job, &mesh).run(&rows, folder.path()) {
            let error = outcome.unwrap_err();
            let expected = matches!(*error, Error::NotFinite { step: 1, .. });
            assert!(expected && error.to_string().contains(tensor), "{error}");
        }
        assert!(!folder.path().join("0/export").exists());
    };
    let huge = json!({"class_name": "SGD", "config": {"learning_rate": 1e39}});
    let one = |optimizer: &Value| json!({"optimizer": optimizer, "max_steps": 1});
    named(
        &Job::new(perceptron(), one(&huge)),
        "variable hidden/kernel holds",
    );

    let momentum = json!({"class_name": "SGD", "config": {"momentum": 0.9}});
    let mut job = Job::new(perceptron(), one(&momentum));
    let folder = tempfile::tempdir().unwrap();
    let rows = on_mesh(&partitions(&[100, 60]), 2);
    fit(&with_mesh(&job, &mesh), &rows, folder.path());
    let mut known = checkpoint::read(&newest_checkpoint(folder.path())).unwrap();
    let tensor = "logits/bias/momentum";
    let mut tensors = known.tensors.iter_mut();
    let (_, array) = tensors.find(|(name, _)| name.ends_with(tensor)).unwrap();
    *array = Array::new(array.shape().to_vec(), vec![1.0, f32::NAN]).unwrap();
    job.resume = Some(checkpoint::write(folder.path(), &known).unwrap());
    job.attempt = 1;
    named(&job, tensor);
}

fn refused(model: Value, fit: Value, ranks: usize) -> String {
    let job = Job::new(model, fit);
    let rows: Vec<_> = (0..ranks).map(|_| partition(0, 40)).collect();
    let folder = tempfile::tempdir().unwrap();
    let outcome = job.run(&rows, folder.path()).swap_remove(0);
    let error = outcome.unwrap_err();
    assert!(error.is_deterministic(), "{error}");
    error.to_string()
}

#[test]
fn what_cannot_be_cut_is_refused_by_name() {
    let cases = [
        (
            perceptron(),
            json!({"pipeline": 3}),
            3,
            "can only be cut into 2",
        ),
        (perceptron(), json!({"pipeline": 2}), 3, "numWorkers is 3"),
        (perceptron(), json!({"pipeline": 0}), 2, "at least 1"),
        (
            perceptron(),
            json!({"pipeline": 2, "stages": {"lost": 1}}),
            2,
            "no layer \"lost\"",
        ),
        (
            perceptron(),
            json!({"pipeline": 2, "stages": {"logits": 2}}),
            2,
            "stage 2 of 0 to 1",
        ),
        (
            perceptron(),
            json!({"pipeline": 2, "stages": {"hidden": 1}}),
            2,
            "stage 0 of 2 has no layer",
        ),
        (
            perceptron(),
            json!({"pipeline": 2, "stages": {"hidden": 1, "logits": 0}}),
            2,
            "takes what stage 1 gives",
        ),
        (normalized(true), json!({"pipeline": 2}), 2, "synchronized"),
    ];
    for (model, mesh, ranks, expected) in cases {
        let message = refused(model, json!({"mesh": mesh}), ranks);
        assert!(message.contains(expected), "{mesh}: {message}");
    }
    let both = json!({"mesh": {"pipeline": 2}, "shard_optimizer_state": true});
    let message = refused(perceptron(), both, 2);
    assert!(message.contains("shardOptimizerState exclude"), "{message}");
}
