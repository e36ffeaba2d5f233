//! Ranks that update weights of their own and meet every few steps.

use crate::embeddings::embedded;
use crate::exactness::{relative_difference, weights};
use crate::passes::checkpoint_of;
use crate::ranks::{
    Job, fit, newest_checkpoint, normalized, partition, partitions, perceptron, rows,
};
use flambeau_collective::{AbortHandle, Communicator, Secret};
use flambeau_keras::Model;
use flambeau_keras::optimizers::Optimizer;
use flambeau_train::Error;
use flambeau_train::batch::Batch;
use flambeau_train::objective::{Asked, Objective};
use flambeau_train::step::{Position, Trainer};
use serde_json::{Value, json};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

fn job(model: Value, more: Value) -> Job {
    let mut settings = json!({"epochs": 2, "local_steps": 4, "batch_size": 32});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    Job::new(model, settings)
}

/// Two ranks that never meet before the end come to the mean of what each comes to alone.
#[test]
fn the_average_is_that_of_ranks_that_train_alone() {
    for model in [perceptron(), normalized(false)] {
        let more = json!({"epochs": 1, "shuffle": false, "local_steps": 1_000_000});
        let halves = [partition(0, 320), partition(320, 320)];
        let alone = halves.each_ref().map(|half| {
            let folder = tempfile::tempdir().unwrap();
            fit(
                &job(model.clone(), more.clone()),
                std::slice::from_ref(half),
                folder.path(),
            );
            weights(folder.path())
        });
        let mean: Vec<f32> = alone[0]
            .iter()
            .zip(&alone[1])
            .map(|(a, b)| (a + b) / 2.0)
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let met = fit(&job(model.clone(), more), &halves, folder.path());
        assert_eq!((met.rows, met.steps), (vec![640], 10));
        let difference = relative_difference(&weights(folder.path()), &mean);
        assert!(difference < 1e-6, "{difference}");
    }
}

#[test]
fn one_rank_trains_as_if_it_met_others_in_every_step() {
    let partitions = partitions(&[700]);
    let results = [1, 4].map(|local_steps| {
        let folder = tempfile::tempdir().unwrap();
        let more = json!({"local_steps": local_steps, "optimizer": "adam"});
        let result = fit(&job(normalized(false), more), &partitions, folder.path());
        (weights(folder.path()), result.rows)
    });
    assert_eq!(results[0], results[1]);
}

/// Half of what one has and half of what the other has is what both have, to the bit, also where a step
/// changes looked-up rows only.
#[test]
fn ranks_with_the_same_rows_come_to_what_one_comes_to_alone() {
    for optimizer in ["adagrad", "adam"] {
        let more = json!({"shuffle": false, "optimizer": optimizer});
        let (one, both) = ([partition(0, 320)], [partition(0, 320), partition(0, 320)]);
        let digests = [&one[..], &both[..]].map(|partitions| {
            let folder = tempfile::tempdir().unwrap();
            let job = job(embedded(40_000), more.clone());
            fit(&job, partitions, folder.path()).digest
        });
        assert_eq!(digests[0], digests[1], "{optimizer}");
    }
}

/// Ranks that run dry wait for the others; `fit` compares what all ranks end with.
#[test]
fn uneven_and_empty_partitions_use_every_row_once_in_every_epoch() {
    for sizes in [vec![500, 40, 0], vec![0, 0, 333], vec![1, 700]] {
        for more in [
            json!({"optimizer": "adam"}),
            json!({"reread": true}),
            json!({"optimizer": {"class_name": "Nadam", "config": {"use_ema": true}}}),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut job = job(normalized(false), more);
            job.validation = vec![rows(5000, 50)];
            let result = fit(&job, &partitions(&sizes), folder.path());
            let all: usize = sizes.iter().sum();
            assert_eq!(result.rows, [all as u64; 2], "{sizes:?}");
            let losses = result.history["loss"].as_array().unwrap();
            assert!(losses[1].as_f64() < losses[0].as_f64(), "{losses:?}");
            assert_eq!(result.history["val_loss"].as_array().unwrap().len(), 2);
        }
    }
}

#[test]
fn it_learns_about_as_well_as_with_gradients_exchanged_in_each_step() {
    let accuracy = |local_steps: u64| {
        let folder = tempfile::tempdir().unwrap();
        let more = json!({"epochs": 6, "local_steps": local_steps, "optimizer": "adam"});
        let result = fit(
            &job(perceptron(), more),
            &partitions(&[1000, 1000]),
            folder.path(),
        );
        result.history["accuracy"].as_array().unwrap()[5]
            .as_f64()
            .unwrap()
    };
    let (often, seldom) = (accuracy(1), accuracy(8));
    assert!(seldom > often - 0.05, "{often} and {seldom}");
}

/// What a checkpoint holds is what every rank had.
#[test]
fn a_fit_that_goes_on_from_a_checkpoint_ends_with_the_same_bits() {
    let partitions = partitions(&[500, 330]);
    for more in [
        json!({"checkpoint_every_steps": 5, "optimizer": "adam"}),
        json!({"checkpoint_every_steps": 5, "steps_per_epoch": 7, "repeat": true}),
    ] {
        let mut job = job(normalized(false), more);
        job.fit["keep_checkpoints"] = json!(1000);
        let whole = tempfile::tempdir().unwrap();
        let undisturbed = fit(&job, &partitions, whole.path());
        for step in [5, 10] {
            job.resume = Some(checkpoint_of(&whole.path().join("0"), step));
            let folder = tempfile::tempdir().unwrap();
            let again = fit(&job, &partitions, folder.path());
            assert_eq!(again.digest, undisturbed.digest, "after step {step}");
            assert_eq!(again.history, undisturbed.history);
            assert_eq!(again.steps, undisturbed.steps);
        }
    }
}

/// Weights that differ between ranks are never what another attempt goes on from.
#[test]
fn a_killed_attempt_leaves_only_what_all_ranks_have() {
    let partitions = partitions(&[700, 500, 300]);
    let epochs = json!({"epochs": 12});
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = fit(
        &job(perceptron(), epochs.clone()),
        &partitions,
        folder.path(),
    );
    for turn in 0..6_u64 {
        let mut job = job(perceptron(), epochs.clone());
        job.killed = Some((1, Duration::from_millis(20 + 15 * turn)));
        let folder = tempfile::tempdir().unwrap();
        job.run(&partitions, folder.path());
        job.killed = None;
        job.attempt += 1;
        job.kept.lock().unwrap().remove(&1);
        let folder = tempfile::tempdir().unwrap();
        let again = fit(&job, &partitions, folder.path());
        assert_eq!(again.digest, undisturbed.digest, "turn {turn}");
        assert_eq!(again.history, undisturbed.history);
    }
}

/// A rank is killed where it waits for another in a meeting: what each has by itself is nobody's, and the
/// next attempt goes on from the state of the meeting before.
#[test]
fn a_fit_goes_on_from_the_meeting_before_the_one_that_failed() {
    let partitions = partitions(&[1000, 1000]);
    let settings = json!({"checkpoint_every_steps": 4, "optimizer": "adam", "shuffle": false});
    let mut job = job(perceptron(), settings);
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = fit(&job, &partitions, folder.path());
    // Rank 0 has 500 rows after two seconds, which are not enough for the fourth meeting, and the others
    // after four.
    job.pauses = vec![Duration::from_secs(2), Duration::ZERO];
    job.killed = Some((1, Duration::from_millis(3500)));
    let folder = tempfile::tempdir().unwrap();
    for outcome in job.run(&partitions, folder.path()) {
        assert!(!outcome.unwrap_err().is_deterministic());
    }
    assert!(job.kept.lock().unwrap().is_empty());
    let checkpoint = newest_checkpoint(folder.path());
    assert!(
        checkpoint.ends_with("ckpt-12.safetensors"),
        "{checkpoint:?}"
    );
    (job.pauses, job.killed, job.attempt) = (Vec::new(), None, 1);
    job.resume = Some(checkpoint);
    let folder = tempfile::tempdir().unwrap();
    let again = fit(&job, &partitions, folder.path());
    assert_eq!(again.digest, undisturbed.digest);
    assert_eq!(again.history, undisturbed.history);
}

/// A rank is lost in the middle of a meeting, when all know how many rows each brings and have begun to
/// average: the other one has then nothing that an attempt could go on from.
#[test]
fn a_meeting_that_fails_half_way_leaves_no_state() {
    let job = job(perceptron(), json!({}));
    let model = job.model.to_string();
    let trainer = |rank| {
        let mut model = Model::from_json(&model).unwrap();
        model.initialize(1).unwrap();
        let optimizer = Optimizer::from_config(&json!("adam"), model.trainable()).unwrap();
        let asked = Asked {
            loss: job.fit["loss"].clone(),
            ..Asked::default()
        };
        let objective = Objective::new(&model, &asked).unwrap();
        let (config, secret) = (job.collective(rank, 2), Secret::new([5; 32]));
        let ranks = Communicator::connect(&config, &secret, &AbortHandle::new()).unwrap();
        let mut trainer = Trainer::new(model, objective, optimizer, ranks, 3).unwrap();
        trainer.train_apart().unwrap();
        trainer
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut trainer = trainer(1);
            // Of each rank its steps; rows, ranks that have more, the loss.
            let mut sums = [0.0, 1.0, 12.0, 1.0, 6.0];
            let ranks = trainer.communicator_mut();
            ranks.allreduce_f64(&mut sums).unwrap();
            assert_eq!(sums[..4], [1.0, 1.0, 24.0, 2.0]);
        });
        let mut trainer = trainer(0);
        let batch = Batch {
            rows: 12,
            inputs: vec![Tensor::ones([12, 4], (Kind::Float, Device::Cpu)).into()],
            labels: vec![Some(Tensor::zeros([12], (Kind::Int64, Device::Cpu)))],
            weights: None,
        };
        assert!(trainer.is_in_step() && trainer.has_all());
        let at = Position { epoch: 1, step: 1 };
        let error = trainer.step(Some(&batch), true, at, true).unwrap_err();
        assert!(matches!(error, Error::Collective(_)), "{error}");
        assert!(!trainer.is_in_step() && !trainer.has_all());
    });
}

#[test]
fn a_stream_of_which_some_rows_never_come_counts_only_those_that_do() {
    let mut job = job(perceptron(), json!({"epochs": 1}));
    let mut steps = Vec::new();
    for (number, sizes) in [[100, 60], [0, 0], [33, 0]].iter().enumerate() {
        job.micro_batch = Some(number as u64);
        let folder = tempfile::tempdir().unwrap();
        steps.push(fit(&job, &partitions(sizes), folder.path()).steps);
    }
    assert_eq!(steps, [4, 4, 6]);
}

#[test]
fn what_cannot_train_apart_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let synchronized = job(normalized(true), json!({}));
    for outcome in synchronized.run(&partitions(&[40, 40]), folder.path()) {
        let error = outcome.unwrap_err();
        assert!(matches!(*error, Error::Config(_)), "{error}");
        assert!(
            error.to_string().contains("localSteps is above 1"),
            "{error}"
        );
    }
    let none = job(perceptron(), json!({"local_steps": 0}));
    for outcome in none.run(&partitions(&[40]), folder.path()) {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("localSteps must be at least 1"), "{error}");
    }
}

#[test]
fn a_loss_that_is_no_number_ends_all_ranks_where_they_meet() {
    let optimizer = json!({"class_name": "SGD", "config": {"learning_rate": 1e38}});
    let job = job(perceptron(), json!({"optimizer": optimizer}));
    let folder = tempfile::tempdir().unwrap();
    for outcome in job.run(&partitions(&[300, 300]), folder.path()) {
        let error = outcome.unwrap_err();
        assert!(matches!(*error, Error::Numeric { step: 4, .. }), "{error}");
    }
}
