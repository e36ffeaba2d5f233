//! Every row exactly once per epoch, the same result however the rows are spread, the same bits
//! from the same seed, and from a checkpoint as without interruption.

use crate::ranks::{Job, dense, fit, newest_checkpoint, normalized, partitions, perceptron};
use arrow_array::RecordBatch;
use flambeau_train::event::FitResult;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The sizes that the predecessor's MNIST job came out with.
const SIZES: [usize; 10] = [5120, 6144, 6144, 6144, 6144, 6144, 6144, 6144, 6144, 5728];

/// The sizes above dealt to `ranks` ranks, side by side, and one more rank's worth of nothing.
fn uneven(ranks: usize) -> Vec<usize> {
    let per_rank = SIZES.len().div_ceil(ranks);
    SIZES
        .chunks(per_rank)
        .map(|sizes| sizes.iter().sum())
        .collect()
}

fn losses(result: &FitResult) -> Vec<f64> {
    result.history["loss"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| loss.as_f64().unwrap())
        .collect()
}

pub(crate) fn weights(directory: &Path) -> Vec<f32> {
    let path = newest_checkpoint(directory);
    let checkpoint = flambeau_formats::checkpoint::read(&path).unwrap();
    let tensors = checkpoint
        .tensors
        .into_iter()
        .filter(|(name, _)| !name.starts_with("optimizer"));
    tensors
        .flat_map(|(_, array)| array.values::<f32>().unwrap())
        .collect()
}

pub(crate) fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values
            .map(|value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference / norm(&mut b.iter().copied())
}

#[test]
fn uneven_and_empty_partitions_use_every_row_once_in_every_epoch() {
    for mut sizes in [
        uneven(1),
        uneven(2),
        uneven(3),
        vec![0, 700, 0],
        vec![1, 0, 64],
    ] {
        if sizes.len() == 3 {
            sizes.push(0);
        }
        let directory = tempfile::tempdir().unwrap();
        let job = Job::new(perceptron(), json!({"epochs": 2, "batch_size": 64}));
        let result = fit(&job, &partitions(&sizes), directory.path());
        let total = sizes.iter().sum::<usize>() as u64;
        assert_eq!(result.rows, [total, total], "{sizes:?}");
        let loss = losses(&result);
        assert!(loss[1] < loss[0], "{sizes:?}");
    }
}

/// Deals a data set so that each step's global batch holds the same rows as one rank's would.
pub(crate) fn dealt(ranks: usize, rows: usize, batch_size: usize) -> Vec<Vec<RecordBatch>> {
    let step = ranks * batch_size;
    (0..ranks)
        .map(|rank| {
            let firsts = (0..rows).step_by(step).map(|at| at + rank * batch_size);
            firsts
                .filter(|&first| first < rows)
                .map(|first| crate::ranks::rows(first, batch_size.min(rows - first)))
                .collect()
        })
        .collect()
}

#[test]
fn equal_global_batches_give_the_result_of_one_worker() {
    for optimizer in ["SGD", "Adam"] {
        let settings = |ranks: usize| {
            json!({"shuffle": false, "batch_size": 96 / ranks, "epochs": 3,
                   "optimizer": {"class_name": optimizer, "config": {"learning_rate": 0.01}}})
        };
        let train = |ranks: usize| {
            let directory = tempfile::tempdir().unwrap();
            let job = Job::new(perceptron(), settings(ranks));
            let result = fit(&job, &dealt(ranks, 1000, 96 / ranks), directory.path());
            (weights(directory.path()), losses(&result))
        };
        let (one, one_loss) = train(1);
        for ranks in [2, 3] {
            let (many, many_loss) = train(ranks);
            let difference = relative_difference(&many, &one);
            assert!(
                difference < 1e-5,
                "{optimizer}, {ranks} ranks: weights {difference}"
            );
            for (a, b) in many_loss.iter().zip(&one_loss) {
                assert!(
                    (a - b).abs() < 1e-5 * b,
                    "{optimizer}, {ranks} ranks: loss {a}, {b}"
                );
            }
        }
    }
}

/// A model of several buckets, which leave while others are computed; ranks without rows send zeros.
#[test]
fn gradients_that_leave_while_they_are_computed_are_those_of_one_worker() {
    let wide = || {
        json!([
            dense("first", 600, "relu"),
            {"class_name": "BatchNormalization", "config": {"name": "norm", "momentum": 0.9}},
            dense("second", 1900, "relu"),
            dense("third", 700, "relu"),
            dense("logits", 2, "linear")
        ])
    };
    let train = |ranks: usize, idle: usize, more: Value| {
        let mut settings = json!({"shuffle": false, "batch_size": 96 / ranks, "epochs": 2});
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        let directory = tempfile::tempdir().unwrap();
        let mut partitions = dealt(ranks, 400, 96 / ranks);
        partitions.extend((0..idle).map(|_| Vec::new()));
        let job = Job {
            transports: "tcp",
            ..Job::new(wide(), settings)
        };
        let result = fit(&job, &partitions, directory.path());
        (weights(directory.path()), losses(&result), result.digest)
    };
    let (one, one_loss, _) = train(1, 0, json!({}));
    // Normalization is over each rank's rows, so that only one with rows gives the same.
    let (alone, alone_loss, _) = train(1, 2, json!({}));
    let difference = relative_difference(&alone, &one);
    assert!(difference < 1e-6, "weights {difference}");
    assert_eq!(alone_loss, one_loss);
    let (_, _, digest) = train(3, 0, json!({}));
    assert_eq!(train(3, 0, json!({})).2, digest);
    // In 16 bits gradients are rounded, and no more than that.
    let (many, ..) = train(3, 0, json!({}));
    for (wire, limit) in [("bfloat16", 0.05), ("float16", 0.01)] {
        let (rounded, ..) = train(3, 0, json!({"allreduce_dtype": wire}));
        let difference = relative_difference(&rounded, &many);
        assert!(
            0.0 < difference && difference < limit,
            "{wire}: {difference}"
        );
    }
}

#[test]
fn synchronized_normalization_is_over_the_rows_of_all_ranks() {
    let train = |synchronized: bool, ranks: usize, idle: usize| {
        let directory = tempfile::tempdir().unwrap();
        let settings = json!({"shuffle": false, "batch_size": 96 / ranks, "epochs": 3});
        let job = Job::new(normalized(synchronized), settings);
        // The last batch of an epoch is spread unevenly, and some ranks have nothing at all.
        let mut partitions = dealt(ranks, 1000, 96 / ranks);
        partitions.extend((0..idle).map(|_| Vec::new()));
        let result = fit(&job, &partitions, directory.path());
        (weights(directory.path()), losses(&result))
    };
    let (one, one_loss) = train(true, 1, 0);
    for (ranks, idle) in [(2, 0), (3, 0), (1, 1), (2, 1), (3, 2)] {
        let (many, many_loss) = train(true, ranks, idle);
        let difference = relative_difference(&many, &one);
        assert!(
            difference < 1e-5,
            "{ranks} ranks, {idle} idle: weights {difference}"
        );
        for (a, b) in many_loss.iter().zip(&one_loss) {
            assert!(
                (a - b).abs() < 1e-5 * b,
                "{ranks} ranks, {idle} idle: loss {a}, {b}"
            );
        }
    }
    let (apart, _) = train(false, 2, 0);
    assert!(relative_difference(&apart, &one) > 1e-3);
}

fn with_randomness() -> Value {
    json!([
        dense("hidden", 16, "relu"),
        {"class_name": "BatchNormalization", "config": {"name": "norm", "momentum": 0.9}},
        {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.3}},
        dense("logits", 2, "linear")
    ])
}

#[test]
fn the_same_seed_and_world_size_give_the_same_bits() {
    for sizes in [vec![900], vec![500, 400], vec![300, 600, 10]] {
        let train = |seed: u64| {
            let directory = tempfile::tempdir().unwrap();
            let job = Job::new(with_randomness(), json!({"epochs": 2, "seed": seed}));
            fit(&job, &partitions(&sizes), directory.path()).digest
        };
        assert_eq!(train(7), train(7), "{sizes:?}");
        assert_ne!(train(7), train(8), "{sizes:?}");
    }
}

#[test]
fn a_fit_that_goes_on_from_a_checkpoint_ends_with_the_same_bits() {
    let partitions = partitions(&[700, 500]);
    let whole = tempfile::tempdir().unwrap();
    let mut job = Job::new(with_randomness(), json!({"epochs": 4, "optimizer": "adam"}));
    let uninterrupted = fit(&job, &partitions, whole.path());
    let first = tempfile::tempdir().unwrap();
    let mut half = job.clone();
    half.fit["epochs"] = json!(2);
    fit(&half, &partitions, first.path());
    job.resume = Some(newest_checkpoint(first.path()));
    let second = tempfile::tempdir().unwrap();
    let resumed = fit(&job, &partitions, second.path());
    assert_eq!(resumed.digest, uninterrupted.digest);
    assert_eq!(resumed.history, uninterrupted.history);
    assert_eq!(resumed.steps, uninterrupted.steps);
}

/// Nobody waits for the whole partition of another rank, however long it takes to arrive.
#[test]
fn a_fit_goes_on_although_a_rank_takes_longer_than_the_progress_timeout() {
    let partitions = partitions(&[40, 4000]);
    let whole = tempfile::tempdir().unwrap();
    let mut job = Job::new(perceptron(), json!({"epochs": 3}));
    let uninterrupted = fit(&job, &partitions, whole.path());
    let first = tempfile::tempdir().unwrap();
    let mut start = job.clone();
    start.fit["epochs"] = json!(1);
    fit(&start, &partitions, first.path());
    job.resume = Some(newest_checkpoint(first.path()));
    job.progress_timeout_ms = 2500;
    job.pauses = vec![Duration::ZERO, Duration::from_millis(800)];
    let second = tempfile::tempdir().unwrap();
    let resumed = fit(&job, &partitions, second.path());
    assert_eq!(resumed.digest, uninterrupted.digest);
    assert_eq!(resumed.history, uninterrupted.history);
}

#[test]
fn rows_on_the_disk_train_the_same_bits_as_rows_in_memory() {
    let partitions = partitions(&[2300, 900]);
    for shuffle in [true, false] {
        let train = |cache_bytes: u64| {
            let directory = tempfile::tempdir().unwrap();
            let mut job = Job::new(
                with_randomness(),
                json!({"epochs": 3, "shuffle": shuffle, "batch_size": 48}),
            );
            job.cache_bytes = cache_bytes;
            let result = fit(&job, &partitions, directory.path());
            (result.digest, result.history)
        };
        let memory = train(u64::MAX);
        for cache_bytes in [0, 15_000, 40_000] {
            assert_eq!(train(cache_bytes), memory, "{cache_bytes} bytes");
        }
    }
}

#[test]
fn a_fit_that_was_lost_after_its_last_epoch_still_exports() {
    let partitions = partitions(&[9000]);
    let first = tempfile::tempdir().unwrap();
    let mut job = Job::new(perceptron(), json!({"epochs": 1}));
    let trained = fit(&job, &partitions, first.path());
    job.resume = Some(newest_checkpoint(first.path()));
    let second = tempfile::tempdir().unwrap();
    let resumed = fit(&job, &partitions, second.path());
    assert_eq!(resumed.digest, trained.digest);
    assert!(resumed.model.unwrap().is_file());
}
