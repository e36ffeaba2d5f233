//! Epochs counted in steps, rows that come anew in each pass, and fits that go on in the middle of
//! an epoch.

use crate::ranks::{Job, dense, fit, newest_checkpoint, partitions, perceptron, rows};
use arrow_array::{Float32Array, RecordBatch};
use flambeau_train::Error;
use flambeau_train::error::DataError;
use flambeau_train::event::FitResult;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

fn train(sizes: &[usize], settings: Value) -> FitResult {
    let directory = tempfile::tempdir().unwrap();
    let job = Job::new(perceptron(), settings);
    fit(&job, &partitions(sizes), directory.path())
}

#[test]
fn an_epoch_of_so_many_steps_goes_on_where_the_last_one_stood() {
    let by_passes = train(&[640], json!({"epochs": 2, "batch_size": 64}));
    let by_steps = train(
        &[640],
        json!({"epochs": 4, "batch_size": 64, "steps_per_epoch": 5}),
    );
    assert_eq!(by_steps.digest, by_passes.digest);
    assert_eq!(by_steps.rows, [320, 320, 320, 320]);
}

#[test]
fn an_epoch_ends_with_the_rows_unless_it_repeats_them() {
    let settings = |repeat: bool| json!({"epochs": 3, "batch_size": 64, "steps_per_epoch": 8, "repeat": repeat});
    // A pass over 300 and 200 rows takes 5 steps.
    let cut = train(&[300, 200], settings(false));
    assert_eq!((cut.rows, cut.steps), (vec![500, 500, 500], 15));
    let repeated = train(&[300, 200], settings(true));
    assert_eq!(repeated.steps, 24);
    // Four passes, and steps of 128, 128, 128 and 72 rows of the fifth.
    assert_eq!(repeated.rows.iter().sum::<u64>(), 2456);
}

#[test]
fn training_ends_after_so_many_steps() {
    let alone = train(
        &[640],
        json!({"epochs": null, "batch_size": 64, "max_steps": 25}),
    );
    assert_eq!((alone.rows, alone.steps), (vec![640, 640, 320], 25));
    let first = train(
        &[640],
        json!({"epochs": 9, "batch_size": 64, "max_steps": 25, "steps_per_epoch": 20,
               "repeat": true}),
    );
    assert_eq!((first.rows, first.steps), (vec![1280, 320], 25));
    assert_eq!(first.digest, alone.digest);
    let epochs = json!({"epochs": 1, "batch_size": 64, "max_steps": 25});
    assert_eq!(train(&[640], epochs).steps, 10);
}

#[test]
fn a_global_batch_is_shared_and_a_remainder_left_out() {
    let shared = train(
        &[500, 500, 500],
        json!({"epochs": 1, "batch_size": 100, "global_batch": true}),
    );
    // 34, 33 and 33 rows a step: the second and third ranks need 16 of them.
    assert_eq!((shared.rows, shared.steps), (vec![1500], 16));
    let whole = train(
        &[500, 300],
        json!({"epochs": 2, "batch_size": 64, "drop_remainder": true}),
    );
    assert_eq!((whole.rows, whole.steps), (vec![704, 704], 14));
}

#[test]
fn rows_too_few_for_a_whole_batch_are_an_error_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let settings = json!({"epochs": 2, "batch_size": 64, "drop_remainder": true});
    let job = Job::new(perceptron(), settings);
    for outcome in job.run(&partitions(&[63, 10]), directory.path()) {
        let error = outcome.unwrap_err();
        let Error::Data(DataError::NoWholeBatch { batch_size, .. }) = &*error else {
            panic!("{error}");
        };
        assert_eq!(*batch_size, 64);
    }
}

#[test]
fn what_the_user_should_know_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let settings = json!({"epochs": 3, "batch_size": 64, "steps_per_epoch": 8});
    let short = Job::new(perceptron(), settings);
    fit(&short, &partitions(&[300, 200]), directory.path());
    let told = short.warnings.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("epoch 1 ends after 5 of 8 steps"),
        "{told:?}"
    );

    let directory = tempfile::tempdir().unwrap();
    let mut dropping = Job::new(perceptron(), json!({"epochs": 2}));
    dropping.null_policy = "drop";
    let rows = [with_nulls(100, 7), with_nulls(50, 3)].map(|rows| vec![rows]);
    let result = fit(&dropping, &rows, directory.path());
    assert_eq!(result.rows, [140, 140]);
    let told = dropping.warnings.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("10 rows are left out"), "{told:?}");
}

/// Rows of which the first ones hold a null.
fn with_nulls(count: usize, nulls: usize) -> RecordBatch {
    let whole = rows(0, count);
    let holes: Float32Array = (0..count)
        .map(|row| (row >= nulls).then_some(0.5))
        .collect();
    let mut columns = whole.columns().to_vec();
    columns[1] = Arc::new(holes);
    RecordBatch::try_new(whole.schema(), columns).unwrap()
}

/// Where rows are not shuffled, those of each pass train as those that were kept.
#[test]
fn rows_that_come_anew_train_as_those_that_are_kept() {
    for sizes in [vec![1000], vec![700, 0, 310]] {
        let settings = |reread: bool| json!({"epochs": 3, "shuffle": false, "reread": reread, "optimizer": "adam"});
        let kept = train(&sizes, settings(false));
        let read = train(&sizes, settings(true));
        assert_eq!(read.digest, kept.digest, "{sizes:?}");
        assert_eq!(read.history, kept.history, "{sizes:?}");
    }
}

#[test]
fn rows_to_validate_with_are_those_of_the_first_pass() {
    for reread in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let settings = json!({"epochs": 1, "reread": reread, "batch_size": 50});
        let mut job = Job::new(perceptron(), settings);
        job.validation = vec![rows(5000, 200)];
        let result = fit(&job, &partitions(&[400]), directory.path());
        assert_eq!(result.rows, [400]);
        assert_eq!(result.history["val_loss"].as_array().unwrap().len(), 1);
    }
}

/// A fit that was lost after any of its steps ends with the bits of one that was not.
#[test]
fn a_fit_goes_on_from_the_middle_of_an_epoch_with_the_same_bits() {
    let model = json!([
        dense("hidden", 16, "relu"),
        {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.3}},
        dense("logits", 2, "linear")
    ]);
    let variants = [
        json!({}),
        json!({"reread": true, "shuffle_buffer": 100}),
        json!({"reread": true, "shuffle": false}),
        json!({"steps_per_epoch": 7, "repeat": true, "epochs": 6}),
        json!({"steps_per_epoch": 9, "reread": true, "epochs": 6}),
        json!({"drop_remainder": true, "max_steps": 31}),
    ];
    for (at, variant) in variants.iter().enumerate() {
        for sizes in [vec![600], vec![333, 190]] {
            let mut settings = json!({"epochs": 3, "batch_size": 48, "optimizer": "adam"});
            for (key, value) in variant.as_object().unwrap() {
                settings[key] = value.clone();
            }
            let partitions = partitions(&sizes);
            let whole = tempfile::tempdir().unwrap();
            let mut job = Job::new(model.clone(), settings);
            let uninterrupted = fit(&job, &partitions, whole.path());
            let steps = [1, 5, 12, 13, 20].into_iter();
            for lost_after in steps.filter(|step| *step < uninterrupted.steps) {
                let first = tempfile::tempdir().unwrap();
                let mut start = job.clone();
                start.fit["checkpoint_every_steps"] = json!(lost_after);
                start.fit["keep_checkpoints"] = json!(1000);
                fit(&start, &partitions, first.path());
                job.resume = Some(checkpoint_of(&first.path().join("0"), lost_after));
                let second = tempfile::tempdir().unwrap();
                let resumed = fit(&job, &partitions, second.path());
                job.resume = None;
                let what = format!("variant {at}, {sizes:?}, lost after step {lost_after}");
                assert_eq!(resumed.digest, uninterrupted.digest, "{what}");
                assert_eq!(resumed.history, uninterrupted.history, "{what}");
                assert_eq!(resumed.rows, uninterrupted.rows, "{what}");
                assert_eq!(resumed.steps, uninterrupted.steps, "{what}");
            }
        }
    }
}

/// The checkpoint of a step.
pub(crate) fn checkpoint_of(folder: &std::path::Path, step: u64) -> PathBuf {
    let newest = newest_checkpoint(folder.parent().unwrap());
    let name = flambeau_formats::checkpoint::file_name(step);
    newest.with_file_name(name)
}

#[test]
fn what_makes_no_fit_is_refused() {
    for (settings, reason) in [
        (json!({"epochs": null}), "set epochs or maxSteps"),
        (json!({"repeat": true}), "an epoch without end"),
        (json!({"epochs": 0}), "at least 1"),
        (json!({"steps_per_epoch": 0}), "at least 1"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let job = Job::new(perceptron(), settings);
        let outcomes = job.run(&partitions(&[10]), directory.path());
        let message = outcomes[0].as_ref().unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}
