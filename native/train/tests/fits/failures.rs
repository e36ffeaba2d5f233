//! What every rank ends with when one of them meets a fault.

use crate::ranks::{Job, Outcome, dense, normalized, partition, perceptron, rows};
use arrow_array::{ArrayRef, Float32Array, Int32Array, RecordBatch};
use flambeau_formats::pointer::Pointer;
use flambeau_train::Error;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn fail(job: &Job, partitions: &[Vec<RecordBatch>]) -> Vec<Arc<Error>> {
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let outcomes: Vec<Outcome> = job.run(partitions, directory.path());
    assert!(
        started.elapsed().as_secs() < 30,
        "took {:?}",
        started.elapsed()
    );
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_err())
        .collect()
}

fn replace(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().map(|field| {
        let old = batch.column_by_name(field.name()).unwrap();
        let new = if field.name() == name { &column } else { old };
        (field.name().clone(), Arc::clone(new), true)
    });
    RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap()
}

/// One whose ranks exchange between passes only, and one whose ranks do so within them.
fn models() -> [Value; 2] {
    [perceptron(), normalized(true)]
}

#[test]
fn a_label_out_of_range_on_one_rank_ends_all_ranks_with_that_cause() {
    let label: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2]));
    let bad = replace(&rows(0, 3), "label", label);
    for model in models() {
        let job = Job::new(model, json!({}));
        let errors = fail(&job, &[partition(0, 500), vec![rows(0, 10), bad.clone()]]);
        assert_eq!(
            errors[1].to_string(),
            "label 2 of column 'label' in row 12 of the partition is out of range [0, 2): the \
             model's output has 2 classes"
        );
        let peer = errors[0].to_string();
        assert!(
            peer.contains("rank 1 (127.0.0.1) failed: label 2 of column 'label'"),
            "{peer}"
        );
        assert!(
            errors.iter().all(|error| error.is_deterministic()),
            "{errors:?}"
        );
    }
}

/// Also by a rank that is busy receiving rows of its own before it goes on from a checkpoint.
#[test]
fn a_rank_that_still_receives_rows_hears_of_another_ranks_failure() {
    let first = tempfile::tempdir().unwrap();
    let good = [partition(0, 500), partition(500, 500)];
    let outcomes = Job::new(perceptron(), json!({"epochs": 1})).run(&good, first.path());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let rank_0 = first.path().join("0");
    let newest = Pointer::read(&rank_0).unwrap().unwrap();
    let mut job = Job::new(perceptron(), json!({"epochs": 2}));
    job.resume = Some(newest.newest_path(&rank_0));
    job.pauses = vec![Duration::from_secs(2), Duration::from_millis(10)];
    let label: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2]));
    let bad = replace(&rows(0, 3), "label", label);
    // It takes rank 0 a minute to get all its rows, and the test fails after half of it.
    let errors = fail(&job, &[partition(0, 15_000), vec![rows(0, 10), bad]]);
    let peer = errors[0].to_string();
    assert!(
        peer.contains("rank 1 (127.0.0.1) failed: label 2"),
        "{peer}"
    );
}

/// Blocks of single rows come all the time, but it takes four thousand before there is a batch.
#[test]
fn a_rank_with_a_trickle_of_rows_hears_of_another_ranks_failure() {
    let mut job = Job::new(perceptron(), json!({"shuffle_buffer": 4096}));
    job.pauses = vec![Duration::from_millis(10), Duration::ZERO];
    let label: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2]));
    let bad = replace(&rows(0, 3), "label", label);
    let trickle = (0..9_000).map(|row| rows(row, 1)).collect();
    // It takes a minute and a half until all rows are there, and the test fails after a third of it.
    let errors = fail(&job, &[trickle, vec![rows(0, 10), bad]]);
    let peer = errors[0].to_string();
    assert!(
        peer.contains("rank 1 (127.0.0.1) failed: label 2"),
        "{peer}"
    );
}

/// Rank 0 evaluates for a minute while rank 1 waits for it and is cancelled.
#[test]
fn a_rank_that_evaluates_hears_that_another_was_cancelled() {
    let wide = json!([
        dense("hidden", 3_000, "relu"),
        dense("deep", 3_000, "relu"),
        dense("logits", 2, "linear")
    ]);
    let mut job = Job::new(wide, json!({"epochs": 1}));
    job.validation_of = vec![partition(0, 100_000), vec![rows(0, 1)]];
    job.cancel_in_evaluation = Some(1);
    let errors = fail(&job, &[partition(0, 32), partition(32, 32)]);
    assert!(matches!(*errors[1], Error::Cancelled), "{}", errors[1]);
    let peer = errors[0].to_string();
    assert!(
        peer.contains("rank 1 (127.0.0.1) failed: its task was cancelled"),
        "{peer}"
    );
    assert!(!errors[0].is_deterministic());
}

#[test]
fn a_loss_that_is_no_number_ends_all_ranks_at_the_same_step() {
    let column: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN; 10]));
    let bad = replace(&rows(0, 10), "a", column);
    for model in models() {
        let job = Job::new(model, json!({"shuffle": false}));
        let errors = fail(&job, &[partition(0, 64), vec![bad.clone()], vec![]]);
        for error in errors {
            assert_eq!(
                error.to_string(),
                "the loss is NaN in epoch 1 at step 1: lower the learning rate, set clipnorm, or \
                 look for NaN and huge values in the data"
            );
        }
    }
}

#[test]
fn no_rows_at_all_is_an_error_on_every_rank() {
    for model in models() {
        let job = Job::new(model, json!({}));
        for error in fail(&job, &[vec![], vec![], vec![]]) {
            assert_eq!(
                error.to_string(),
                "the training data has no rows in any of the 3 partitions"
            );
        }
    }
}

/// What all ranks agree on is each rank's own error, however far apart they leave the allreduce
/// that tells them: here the wide model's takes long, and there are more ranks than processors.
#[test]
fn an_error_that_all_agree_on_is_never_reported_as_another_ranks() {
    let wide = json!([
        dense("hidden", 30_000, "relu"),
        dense("logits", 2, "linear")
    ]);
    let column: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN; 10]));
    let bad = replace(&rows(0, 10), "a", column);
    for (job, partitions, begin) in [
        (json!({}), vec![vec![]; 8], "the training data has no rows"),
        (
            json!({"shuffle": false}),
            vec![vec![bad]; 8],
            "the loss is NaN",
        ),
    ] {
        for _ in 0..5 {
            let errors = fail(&Job::new(wide.clone(), job.clone()), &partitions);
            let own = |error: &&Arc<Error>| error.to_string().starts_with(begin);
            assert_eq!(errors.iter().filter(own).count(), 8, "{errors:?}");
        }
    }
}

#[test]
fn an_unknown_layer_is_named_with_those_supported() {
    let layers = json!([{"class_name": "Fourier", "config": {"name": "f"}}]);
    let error = fail(&Job::new(layers, json!({})), &[vec![]])
        .remove(0)
        .to_string();
    assert!(
        error.contains("Fourier") && error.contains("Dense"),
        "{error}"
    );
}

#[test]
fn missing_compile_settings_are_named() {
    let error = fail(&Job::new(perceptron(), json!({"loss": null})), &[vec![]]).remove(0);
    assert_eq!(
        error.to_string(),
        "no loss: set it, or compile the Keras model with one"
    );
}

/// The disk of rank 0 is a pipe that nobody reads from: to open it takes for ever.
#[test]
fn a_cancelled_task_does_not_wait_for_a_disk_that_does_not_answer() {
    let directory = tempfile::tempdir().unwrap();
    let rank_0 = directory.path().join("0");
    std::fs::create_dir(&rank_0).unwrap();
    let pipe = rank_0.join("ckpt-10.safetensors.tmp");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let after = Duration::from_secs(3);
    let mut job = Job::new(
        perceptron(),
        json!({"checkpoint_every_steps": 10, "epochs": 1}),
    );
    job.killed = Some((0, after));
    let started = Instant::now();
    let partitions = [partition(0, 2_000), partition(2_000, 2_000)];
    let outcomes = job.run(&partitions, directory.path());
    let took = started.elapsed();
    assert!(
        matches!(outcomes[0].as_ref().unwrap_err().as_ref(), Error::Cancelled),
        "{outcomes:?}"
    );
    let peer = outcomes[1].as_ref().unwrap_err().to_string();
    assert!(
        peer.contains("rank 0 (127.0.0.1) failed: its task was cancelled"),
        "{peer}"
    );
    // A session's own patience is ten seconds.
    assert!(took < after + Duration::from_secs(6), "{took:?}");
    // Lets the thread that writes go on to its end.
    let both_ends = OpenOptions::new().read(true).write(true).open(&pipe);
    drop(both_ends.unwrap());
}
