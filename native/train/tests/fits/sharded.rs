//! Ranks that each keep the optimizer's state of a part of the weights: they come to what ranks come to
//! that all keep all of it.

use crate::embeddings::{embedded, embedded_in_a_large_model};
use crate::exactness::{relative_difference, weights};
use crate::passes::checkpoint_of;
use crate::ranks::{
    Job, dense, fit, newest_checkpoint, normalized, partition, partitions, perceptron,
};
use flambeau_collective::{AbortHandle, Communicator, Secret};
use flambeau_keras::Model;
use flambeau_keras::optimizers::{Optimizer, OptimizerValue};
use flambeau_keras::weights::OptimizerArray;
use flambeau_train::Error;
use flambeau_train::batch::Batch;
use flambeau_train::objective::{Asked, Objective};
use flambeau_train::step::{Position, Trainer};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

pub(crate) fn job(model: Value, sharded: bool, more: &Value) -> Job {
    let mut settings = json!({"shard_optimizer_state": sharded});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    Job::new(model, settings)
}

pub(crate) fn optimizer(class: &str, config: Value) -> Value {
    json!({"optimizer": {"class_name": class, "config": config}})
}

fn convolutional() -> Value {
    json!([
        {"class_name": "Reshape", "config": {"name": "image", "target_shape": [2, 2, 1]}},
        {"class_name": "Conv2D", "config": {
            "name": "conv", "filters": 8, "kernel_size": [2, 2], "padding": "same",
            "activation": "relu"}},
        {"class_name": "Flatten", "config": {"name": "flat"}},
        dense("logits", 2, "linear")
    ])
}

/// Its gradients leave in buckets, where ranks share no memory.
fn wide() -> Value {
    json!([
        dense("first", 600, "relu"),
        {"class_name": "BatchNormalization", "config": {"name": "norm", "momentum": 0.9}},
        dense("second", 1900, "relu"),
        dense("third", 700, "relu"),
        dense("logits", 2, "linear")
    ])
}

/// Everything that a checkpoint holds: weights and optimizer state.
fn state(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let checkpoint = flambeau_formats::checkpoint::read(&newest_checkpoint(folder)).unwrap();
    let tensors = checkpoint.tensors.into_iter();
    tensors
        .map(|(name, array)| (name, array.values().unwrap()))
        .collect()
}

/// The numbers of an exported model's optimizer.
fn exported(model: &Path) -> Vec<Vec<f32>> {
    let (_, loaded) = Model::from_bytes(&std::fs::read(model).unwrap()).unwrap();
    let saved = loaded.optimizer.iter().map(OptimizerArray::saved);
    let numbers = saved.filter_map(|(_, value)| match value {
        OptimizerValue::Float32(values) => Some(values.to_vec()),
        _ => None,
    });
    numbers.collect()
}

/// A fit on partitions of differing sizes with and without sharded state: to the same bits, or where
/// norms of gradients are added up in another order, to about the same weights.
pub(crate) fn compare(model: &Value, sizes: &[usize], more: &Value, transports: &'static str) {
    let train = |sharded: bool| {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(model.clone(), sharded, more);
        job.transports = transports;
        let result = fit(&job, &partitions(sizes), folder.path());
        let export = exported(&result.model.unwrap());
        let weights = weights(folder.path());
        (
            result.digest,
            result.history,
            state(folder.path()),
            export,
            weights,
        )
    };
    let (plain, sharded) = (train(false), train(true));
    let what = format!("{more}, {sizes:?}, {transports}");
    if more.to_string().contains("clipnorm") {
        let difference = relative_difference(&sharded.4, &plain.4);
        assert!(difference < 1e-6, "{what}: {difference}");
        return;
    }
    assert_eq!(sharded.0, plain.0, "{what}");
    assert_eq!(sharded.1, plain.1, "{what}");
    assert!(sharded.2 == plain.2, "{what}: checkpoints differ");
    assert!(sharded.3 == plain.3, "{what}: exports differ");
}

#[test]
fn every_optimizer_comes_to_the_same_weights_and_state() {
    let scaled = json!({"inner_optimizer": {"class_name": "Adam", "config": {}}});
    for more in [
        optimizer("SGD", json!({"learning_rate": 0.05, "momentum": 0.9})),
        optimizer("SGD", json!({"learning_rate": 0.05})),
        optimizer("Adam", json!({"amsgrad": true})),
        optimizer("AdamW", json!({"clipnorm": 0.1})),
        optimizer("AdamW", json!({"global_clipnorm": 0.1})),
        optimizer("Adagrad", json!({"learning_rate": 0.05, "clipvalue": 0.01})),
        optimizer(
            "Nadam",
            json!({"use_ema": true, "ema_overwrite_frequency": 3}),
        ),
        optimizer(
            "RMSprop",
            json!({"gradient_accumulation_steps": 3, "centered": true}),
        ),
        optimizer("ScheduleFreeAdamW", json!({})),
        optimizer("LossScaleOptimizer", scaled),
        optimizer("Lamb", json!({})),
        optimizer("Lamb", json!({"global_clipnorm": 0.1})),
        optimizer("Adafactor", json!({"use_ema": true})),
        optimizer("Muon", json!({})),
    ] {
        compare(&convolutional(), &[300, 40, 0, 200], &more, "auto");
        compare(&perceptron(), &[300, 200], &more, "auto");
    }
}

#[test]
fn any_number_of_ranks_over_either_transport_comes_to_the_same_weights() {
    for transports in ["auto", "tcp"] {
        for sizes in [
            vec![300],
            vec![200, 100],
            vec![90, 80, 70],
            vec![70, 0, 0, 90],
        ] {
            let more = json!({"optimizer": "adam", "batch_size": 16});
            compare(&normalized(false), &sizes, &more, transports);
            compare(&normalized(true), &sizes, &more, transports);
        }
    }
}

/// Each rank gets its part of the sums and no more, of all of them or of each bucket; or all sums, where
/// numbers travel in 16 bits.
#[test]
fn a_large_model_comes_to_the_same_weights() {
    let short = json!({"epochs": 1, "batch_size": 48});
    for (class, config, wire) in [
        ("Adam", json!({}), "float32"),
        ("Adam", json!({}), "bfloat16"),
        ("AdamW", json!({"global_clipnorm": 0.1}), "float32"),
        ("Lamb", json!({}), "float32"),
    ] {
        let mut more = optimizer(class, config);
        more["allreduce_dtype"] = json!(wire);
        more["epochs"] = short["epochs"].clone();
        more["batch_size"] = short["batch_size"].clone();
        for transports in ["auto", "tcp"] {
            compare(&wide(), &[150, 90, 100], &more, transports);
            let embedded = embedded_in_a_large_model(40_000);
            compare(&embedded, &[150, 0, 100], &more, transports);
        }
    }
}

/// Steps of `ranks` ranks that shard an optimizer's state: of each how many numbers it keeps, and what
/// its weights and those of the others end with.
fn kept(ranks: usize, class: &str, transports: &'static str) -> Vec<(usize, Vec<f32>)> {
    let job = Job {
        transports,
        ..Job::new(wide(), json!({}))
    };
    let model = job.model.to_string();
    std::thread::scope(|scope| {
        let ranks = (0..ranks).map(|rank| {
            let (job, model, config) = (&job, &model, job.collective(rank, ranks));
            scope.spawn(move || {
                let mut model = Model::from_json(model).unwrap();
                model.initialize(1).unwrap();
                let optimizer = Optimizer::from_config(&json!(class), model.trainable()).unwrap();
                let asked = Asked {
                    loss: job.fit["loss"].clone(),
                    ..Asked::default()
                };
                let objective = Objective::new(&model, &asked).unwrap();
                let abort = AbortHandle::new();
                let ranks = Communicator::connect(&config, &Secret::new([5; 32]), &abort).unwrap();
                let mut trainer = Trainer::new(model, objective, optimizer, ranks, 3).unwrap();
                trainer.shard_optimizer_state().unwrap();
                for step in 1..=2 {
                    let x = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([12, 4]);
                    let batch = Batch {
                        rows: 12,
                        inputs: vec![((x * 0.37).sin() * (rank as f64 + 0.5)).into()],
                        labels: vec![Some(Tensor::zeros([12], (Kind::Int64, Device::Cpu)))],
                        weights: None,
                    };
                    let at = Position { epoch: 1, step };
                    trainer.step(Some(&batch), true, at, true).unwrap();
                }
                let variables = trainer.optimizer().variables().into_iter();
                let kept = variables.filter(|variable| variable.held.is_some());
                let kept = kept.map(|variable| match variable.value {
                    OptimizerValue::Float32(values) => values.len(),
                    _ => 0,
                });
                let kept = kept.sum();
                let weights = trainer.model().trainable().as_slice().unwrap().to_vec();
                trainer.close().unwrap();
                (kept, weights)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn a_rank_keeps_its_part_and_all_have_all_weights() {
    for (ranks, transports) in [(2, "tcp"), (3, "auto"), (4, "tcp")] {
        let all = kept(ranks, "adam", transports);
        let weights = &all[0].1;
        assert!(all.iter().all(|(_, others)| others == weights));
        let sum: usize = all.iter().map(|(kept, _)| kept).sum();
        assert_eq!(sum, 2 * weights.len());
        // Parts of each of a few buckets differ by an element.
        let even = 2 * weights.len() / ranks;
        assert!(
            all.iter()
                .all(|(kept, _)| kept.abs_diff(even) <= even / 100)
        );
        // Whole variables are dealt as evenly as they go.
        let whole = kept(ranks, "lamb", transports);
        let sum: usize = whole.iter().map(|(kept, _)| kept).sum();
        assert_eq!(sum, 2 * weights.len());
        let most = whole.iter().map(|(kept, _)| *kept).max().unwrap();
        assert!(most < 2 * weights.len() * 6 / 10, "{most}");
    }
}

/// Whoever wrote a checkpoint, whoever goes on from it.
#[test]
fn a_fit_that_goes_on_from_a_checkpoint_ends_with_the_same_bits() {
    let partitions = partitions(&[300, 330]);
    for (model, optimizer) in [
        (normalized(false), "adam"),
        (normalized(false), "lamb"),
        (embedded(40_000), "adagrad"),
    ] {
        let more = json!({"checkpoint_every_steps": 5, "keep_checkpoints": 1000,
                          "optimizer": optimizer});
        let folders = [false, true].map(|sharded| {
            let folder = tempfile::tempdir().unwrap();
            let done = fit(
                &job(model.clone(), sharded, &more),
                &partitions,
                folder.path(),
            );
            (folder, done)
        });
        let undisturbed = &folders[0].1;
        for (from, to) in [(false, true), (true, false), (true, true)] {
            for step in [5, 10] {
                let mut job = job(model.clone(), to, &more);
                let folder = &folders[usize::from(from)].0;
                job.resume = Some(checkpoint_of(&folder.path().join("0"), step));
                let folder = tempfile::tempdir().unwrap();
                let again = fit(&job, &partitions, folder.path());
                let what = format!("{optimizer}, {from} to {to} after step {step}");
                assert_eq!(again.digest, undisturbed.digest, "{what}");
                assert_eq!(again.history, undisturbed.history, "{what}");
            }
        }
    }
}

/// No process has all of the state: the next attempt goes on from the checkpoint, or anew.
#[test]
fn a_killed_attempt_leaves_no_state_with_processes() {
    let partitions = partitions(&[700, 500, 300]);
    let epochs = json!({"epochs": 12, "optimizer": "adam"});
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = fit(
        &job(perceptron(), true, &epochs),
        &partitions,
        folder.path(),
    );
    for turn in 0..5_u64 {
        let mut job = job(perceptron(), true, &epochs);
        job.killed = Some((1, Duration::from_millis(20 + 15 * turn)));
        let folder = tempfile::tempdir().unwrap();
        job.run(&partitions, folder.path());
        assert!(job.kept.lock().unwrap().is_empty());
        job.killed = None;
        job.attempt += 1;
        if folder.path().join("0/checkpoint").exists() {
            job.resume = Some(newest_checkpoint(folder.path()));
        }
        let folder = tempfile::tempdir().unwrap();
        let again = fit(&job, &partitions, folder.path());
        assert_eq!(again.digest, undisturbed.digest, "turn {turn}");
        assert_eq!(again.history, undisturbed.history);
    }
}

/// Of a stream's state rank 0 keeps all, and the others get their parts of it from there.
#[test]
fn micro_batches_go_on_from_what_rank_0_has_kept() {
    let digests = [false, true].map(|sharded| {
        let more = json!({"epochs": 1, "optimizer": "adam"});
        let mut job = job(perceptron(), sharded, &more);
        let digests = (0..3).map(|number| {
            job.micro_batch = Some(number as u64);
            let folder = tempfile::tempdir().unwrap();
            let rows = [0, 1].map(|rank| partition(number * 320 + rank * 160, 160));
            let digest = fit(&job, &rows, folder.path()).digest;
            let mut kept: Vec<_> = job.kept.lock().unwrap().keys().copied().collect();
            kept.sort_unstable();
            assert_eq!(kept, if sharded { vec![0] } else { vec![0, 1] });
            digest
        });
        digests.collect::<Vec<_>>()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let apart = job(perceptron(), true, &json!({"local_steps": 4}));
    for outcome in apart.run(&partitions(&[40, 40]), folder.path()) {
        let error = outcome.unwrap_err();
        assert!(matches!(*error, Error::Config(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("shardOptimizerState and localSteps above 1 exclude each other"),
            "{message}"
        );
    }
}
