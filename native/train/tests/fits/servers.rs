//! Fits through servers that hold the weights: what one worker trains is what it would train alone,
//! several train every row once, and any of them may be lost.

use crate::embeddings::embedded;
use crate::passes::checkpoint_of;
use crate::ranks::{Job, Outcome, fit, normalized, partitions, perceptron, rows};
use arrow_array::RecordBatch;
use flambeau_train::Error;
use flambeau_train::event::FitResult;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// A job of `servers` servers.
fn job(model: Value, servers: usize, more: Value) -> Job {
    let mut settings = json!({"strategy": "async", "num_ps": servers});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    Job::new(model, settings)
}

/// What all ranks come to, those of the servers first.
fn run(job: &Job, workers: &[Vec<RecordBatch>], folder: &Path) -> Vec<Outcome> {
    let servers = usize::try_from(job.fit["num_ps"].as_u64().unwrap()).unwrap();
    let mut all = vec![Vec::new(); servers];
    all.extend(workers.iter().cloned());
    job.run(&all, folder)
}

/// Where all ranks must succeed; server 0's result.
fn train(job: &Job, workers: &[Vec<RecordBatch>], folder: &Path) -> FitResult {
    let results = run(job, workers, folder).into_iter().map(Result::unwrap);
    results.collect::<Vec<_>>().swap_remove(0)
}

fn last(result: &FitResult, name: &str) -> f64 {
    let values = result.history[name].as_array().unwrap();
    values.last().unwrap().as_f64().unwrap()
}

#[test]
fn one_worker_trains_as_it_would_alone() {
    let partitions = partitions(&[700]);
    let noisy = json!([
        {"class_name": "Dropout", "config": {"name": "drop", "rate": 0.3}},
        {"class_name": "Dense", "config": {"name": "logits", "units": 2}}
    ]);
    let optimizers = [
        json!("adam"),
        json!({"class_name": "SGD", "config": {"momentum": 0.9, "clipnorm": 0.1}}),
        json!({"class_name": "Adagrad", "config": {"learning_rate": {
            "class_name": "ExponentialDecay", "config": {
                "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}}}}),
        json!({"class_name": "Nadam", "config": {"use_ema": true}}),
        json!({"class_name": "RMSprop", "config": {"gradient_accumulation_steps": 3}}),
        json!({"class_name": "Lamb", "config": {}}),
    ];
    for (at, optimizer) in optimizers.iter().enumerate() {
        let models = [
            perceptron(),
            normalized(false),
            noisy.clone(),
            embedded(300),
        ];
        for model in [&models[at % 4], &models[(at + 1) % 4]] {
            let mut alone = Job::new(model.clone(), json!({"optimizer": optimizer}));
            alone.validation = vec![rows(5000, 50)];
            let folder = tempfile::tempdir().unwrap();
            let expected = fit(&alone, &partitions, folder.path());
            for servers in [1, 2, 0] {
                let mut job = job(model.clone(), servers, json!({"optimizer": optimizer}));
                job.validation = alone.validation.clone();
                let folder = tempfile::tempdir().unwrap();
                let result = train(&job, &partitions, folder.path());
                assert_eq!(
                    result.digest, expected.digest,
                    "{servers} servers, {optimizer}"
                );
                assert_eq!(result.history, expected.history);
                assert_eq!(
                    (result.steps, &result.rows),
                    (expected.steps, &expected.rows)
                );
                assert_eq!(result.staleness.keys().collect::<Vec<_>>(), [&0]);
            }
        }
    }
}

#[test]
fn matrices_that_are_cut_by_rows_train_as_whole_ones() {
    let partitions = partitions(&[300]);
    for optimizer in [json!("adagrad"), json!("adam"), json!("sgd")] {
        let settings = json!({"optimizer": optimizer});
        let folder = tempfile::tempdir().unwrap();
        let alone = Job::new(embedded(40_000), settings.clone());
        let expected = fit(&alone, &partitions, folder.path());
        for servers in [1, 3, 0] {
            let folder = tempfile::tempdir().unwrap();
            let job = job(embedded(40_000), servers, settings.clone());
            let result = train(&job, &partitions, folder.path());
            assert_eq!(
                result.digest, expected.digest,
                "{servers} servers, {optimizer}"
            );
        }
    }
}

#[test]
fn several_workers_use_every_row_once_in_every_epoch_and_learn() {
    for (servers, sizes, more) in [
        (1, vec![600, 600], json!({})),
        (
            2,
            vec![500, 40, 0],
            json!({"optimizer": "adam", "max_staleness": 0}),
        ),
        (1, vec![0, 0, 333], json!({"reread": true})),
        (
            3,
            vec![300, 300, 300],
            json!({"optimizer": "adagrad", "max_staleness": 2}),
        ),
        (0, vec![300, 0, 250], json!({"max_staleness": 1})),
        (0, vec![500, 100], json!({"reread": true})),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(normalized(false), servers, json!({"epochs": 4}));
        for (key, value) in more.as_object().unwrap() {
            job.fit[key] = value.clone();
        }
        job.validation_of = vec![vec![rows(5000, 50)]; servers + sizes.len()];
        let result = train(&job, &partitions(&sizes), folder.path());
        let all = sizes.iter().sum::<usize>() as u64;
        assert_eq!(result.rows, [all; 4], "{sizes:?}");
        let steps: usize = sizes.iter().map(|rows| rows.div_ceil(32)).sum();
        assert_eq!(result.steps, 4 * steps as u64);
        assert_eq!(result.staleness.values().sum::<u64>(), result.steps);
        let losses = result.history["loss"].as_array().unwrap();
        assert!(losses[3].as_f64() < losses[0].as_f64(), "{losses:?}");
        assert_eq!(result.history["val_loss"].as_array().unwrap().len(), 4);
    }
}

/// The MLP of TensorFlowOnSpark's 1.4 line, on made-up rows.
#[test]
fn it_learns_about_as_well_as_ranks_that_step_together() {
    let settings = json!({"epochs": 6, "batch_size": 20, "optimizer": {
        "class_name": "Adagrad", "config": {"learning_rate": 0.05}}});
    let sizes = partitions(&[1000, 1000]);
    let folder = tempfile::tempdir().unwrap();
    let together = fit(
        &Job::new(perceptron(), settings.clone()),
        &sizes,
        folder.path(),
    );
    for servers in [1, 2, 0] {
        let folder = tempfile::tempdir().unwrap();
        let apart = train(
            &job(perceptron(), servers, settings.clone()),
            &sizes,
            folder.path(),
        );
        let (together, apart) = (last(&together, "accuracy"), last(&apart, "accuracy"));
        assert!(
            apart > together - 0.03,
            "{servers} servers: {apart} and {together}"
        );
    }
}

#[test]
fn steps_are_those_of_all_workers_and_none_too_many() {
    for servers in [1, 2, 0] {
        for more in [
            json!({"epochs": null, "max_steps": 37}),
            json!({"max_steps": 11}),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let job = job(perceptron(), servers, more);
            let result = train(&job, &partitions(&[200, 150, 0]), folder.path());
            assert_eq!(result.steps, job.fit["max_steps"].as_u64().unwrap());
            let sum: u64 = result.staleness.values().sum();
            assert_eq!(sum, result.steps);
        }
    }
}

#[test]
fn a_fit_goes_on_from_a_checkpoint() {
    let partitions = partitions(&[500]);
    for (servers, model, optimizer) in [
        (1, perceptron(), "sgd"),
        (1, perceptron(), "adam"),
        (1, normalized(false), "sgd"),
        (2, normalized(false), "adam"),
        (0, normalized(false), "adam"),
        (2, embedded(40_000), "adagrad"),
    ] {
        let more = json!({
            "checkpoint_every_steps": 5, "optimizer": optimizer, "keep_checkpoints": 1000});
        let mut job = job(model, servers, more);
        job.validation = vec![rows(5000, 50)];
        let whole = tempfile::tempdir().unwrap();
        let undisturbed = train(&job, &partitions, whole.path());
        for step in [5, 20] {
            job.resume = Some(checkpoint_of(&whole.path().join("0"), step));
            let folder = tempfile::tempdir().unwrap();
            let again = train(&job, &partitions, folder.path());
            assert_eq!(again.digest, undisturbed.digest, "{optimizer} {step}");
            assert_eq!(again.history, undisturbed.history);
            assert_eq!(
                (again.steps, &again.rows),
                (undisturbed.steps, &undisturbed.rows)
            );
        }
    }
}

#[test]
fn a_checkpoint_may_be_gone_on_from_with_other_servers_but_not_otherwise() {
    let more = json!({"checkpoint_every_steps": 5, "keep_checkpoints": 1000});
    let whole = tempfile::tempdir().unwrap();
    let sizes = partitions(&[200, 200]);
    train(&job(perceptron(), 2, more.clone()), &sizes, whole.path());
    let checkpoint = checkpoint_of(&whole.path().join("0"), 5);
    let mut again = job(perceptron(), 1, more.clone());
    again.resume = Some(checkpoint.clone());
    let folder = tempfile::tempdir().unwrap();
    let result = train(&again, &sizes, folder.path());
    assert_eq!(result.rows, [400, 400]);
    let mut together = Job::new(perceptron(), more);
    together.resume = Some(checkpoint);
    for outcome in together.run(&sizes, folder.path()) {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("strategy was"), "{error}");
    }
}

/// Its task is started again, with the same rows: every row is still trained once.
#[test]
fn a_worker_that_is_lost_goes_on_behind_its_last_batch() {
    let sizes = [partitions(&[600]), partitions(&[900])].concat();
    for turn in 0..4_u64 {
        let mut job = job(perceptron(), 1, json!({"epochs": 30, "max_staleness": 3}));
        job.killed = Some((1, Duration::from_millis(30 + 40 * turn)));
        job.started_again = true;
        let folder = tempfile::tempdir().unwrap();
        let outcomes = run(&job, &sizes, folder.path());
        let result = outcomes[0].as_ref().unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(result.rows, [1500; 30], "turn {turn}");
        assert_eq!(result.steps, 30 * (19 + 29));
    }
}

#[test]
fn a_server_that_is_lost_ends_all_with_an_error_worth_a_retry() {
    for lost in [0, 1] {
        let mut job = job(perceptron(), 2, json!({"epochs": 100_000}));
        job.killed = Some((lost, Duration::from_millis(700)));
        let folder = tempfile::tempdir().unwrap();
        for (rank, outcome) in run(&job, &partitions(&[600, 600]), folder.path())
            .into_iter()
            .enumerate()
        {
            let error = outcome.unwrap_err();
            assert!(!error.is_deterministic(), "{error}");
            let message = error.to_string();
            assert!(
                rank == lost || message.contains(&format!("rank {lost} (127.0.0.1)")),
                "{message}"
            );
        }
    }
}

/// What a worker that is a server has of the weights is gone with it.
#[test]
fn a_task_that_is_both_ends_all_when_it_is_lost() {
    for lost in [0, 2] {
        let mut job = job(perceptron(), 0, json!({"epochs": 100_000}));
        job.killed = Some((lost, Duration::from_millis(700)));
        let folder = tempfile::tempdir().unwrap();
        let outcomes = run(&job, &partitions(&[300, 300, 300]), folder.path());
        for error in outcomes.into_iter().map(Result::unwrap_err) {
            assert!(!error.is_deterministic(), "{error}");
        }
        assert!(job.warnings.lock().unwrap().is_empty());
    }
}

#[test]
fn an_error_of_one_worker_ends_all_and_names_it() {
    let mut sizes = partitions(&[300, 300]);
    let fine = rows(0, 5);
    let bad = RecordBatch::try_new(
        fine.schema(),
        fine.columns()
            .iter()
            .enumerate()
            .map(|(at, column)| match at {
                4 => std::sync::Arc::new(arrow_array::Int32Array::from(vec![0, 1, 9, 0, 1])),
                _ => column.clone(),
            })
            .collect(),
    );
    sizes[1].push(bad.unwrap());
    // A task that is both ends as rank 1, its server, and rank 3, its worker.
    for (servers, task, names) in [(1, 2, vec!["rank 2"]), (0, 1, vec!["rank 1", "rank 3"])] {
        let job = job(perceptron(), servers, json!({"epochs": 100_000}));
        let folder = tempfile::tempdir().unwrap();
        for (rank, outcome) in run(&job, &sizes, folder.path()).into_iter().enumerate() {
            let error = outcome.unwrap_err();
            assert!(error.is_deterministic(), "{error}");
            let message = error.to_string();
            assert!(message.contains("label 9 of column 'label'"), "{message}");
            let is_named = names.iter().any(|name| message.contains(name));
            assert!(rank == task || is_named, "{message}");
        }
    }
}

#[test]
fn a_loss_that_is_no_number_ends_all() {
    let optimizer = json!({"class_name": "SGD", "config": {"learning_rate": 1e38}});
    let job = job(perceptron(), 1, json!({"optimizer": optimizer}));
    let folder = tempfile::tempdir().unwrap();
    for outcome in run(&job, &partitions(&[300, 300]), folder.path()) {
        let error = outcome.unwrap_err();
        assert!(error.is_deterministic(), "{error}");
    }
}

#[test]
fn no_rows_at_all_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(perceptron(), 2, json!({}));
    let outcomes = run(&job, &partitions(&[0, 0]), folder.path());
    let error = outcomes[0].as_ref().unwrap_err();
    let words = "no rows in any of the 2 partitions";
    assert!(error.to_string().contains(words), "{error}");
    // Workers without rows are done before anybody knows of the others.
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(
            error.is_deterministic() && error.to_string().contains(words),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_trained_asynchronously_is_refused() {
    let constrained = json!([{"class_name": "Dense", "config": {
        "name": "logits", "units": 2, "kernel_constraint": {
            "class_name": "NonNeg", "config": {}}}}]);
    for (model, servers, more, words) in [
        (
            perceptron(),
            1,
            json!({"steps_per_epoch": 3}),
            "stepsPerEpoch",
        ),
        (perceptron(), 1, json!({"local_steps": 3}), "localSteps"),
        (
            perceptron(),
            1,
            json!({"allreduce_dtype": "bfloat16"}),
            "allreduceDtype",
        ),
        (normalized(true), 1, json!({}), "synchronized"),
        (constrained, 1, json!({}), "logits/kernel has a constraint"),
        (
            perceptron(),
            2,
            json!({"optimizer": {"class_name": "SGD", "config": {"global_clipnorm": 1.0}}}),
            "global_clipnorm",
        ),
        (
            perceptron(),
            1,
            json!({"optimizer": {"class_name": "LossScaleOptimizer", "config": {
                "inner_optimizer": {"class_name": "SGD", "config": {}}}}}),
            "LossScaleOptimizer",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for outcome in run(
            &job(model.clone(), servers, more.clone()),
            &partitions(&[40]),
            folder.path(),
        ) {
            let error = outcome.unwrap_err();
            assert!(matches!(*error, Error::Config(_)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
