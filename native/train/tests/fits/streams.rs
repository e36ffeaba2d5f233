//! A model that is trained on one micro-batch of a stream after the other.

use crate::ranks::{Job, dense, fit, newest_checkpoint, partitions, perceptron, rows};
use arrow_array::RecordBatch;
use flambeau_train::event::FitResult;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Rows `320 n` and up, on two ranks that take 32 of every 64.
fn micro_batch(number: u64) -> Vec<Vec<RecordBatch>> {
    let number = usize::try_from(number).unwrap();
    let of = |rank: usize| {
        let firsts = (0..5).map(|step| number * 320 + step * 64 + rank * 32);
        firsts.map(|first| rows(first, 32)).collect()
    };
    vec![of(0), of(1)]
}

/// A stream's first micro-batches.
struct Stream {
    job: Job,
    checkpoint: Option<PathBuf>,
    folders: Vec<tempfile::TempDir>,
}

impl Stream {
    fn new(layers: Value, settings: Value) -> Self {
        Self {
            job: Job::new(layers, settings),
            checkpoint: None,
            folders: Vec::new(),
        }
    }

    /// Trains on a micro-batch, from what the ranks have kept or else from the checkpoint.
    fn train(&mut self, number: u64, rows: &[Vec<RecordBatch>]) -> FitResult {
        let folder = tempfile::tempdir().unwrap();
        let kept_by_rank_0 = self.job.kept.lock().unwrap().contains_key(&0);
        self.job.micro_batch = Some(number);
        self.job.resume = self.checkpoint.clone().filter(|_| !kept_by_rank_0);
        let result = fit(&self.job, rows, folder.path());
        // What was trained before leaves nothing new.
        if folder.path().join("0/checkpoint").exists() {
            self.checkpoint = Some(newest_checkpoint(folder.path()));
        }
        self.folders.push(folder);
        result
    }

    fn forget(&self, ranks: &[usize]) {
        let mut kept = self.job.kept.lock().unwrap();
        ranks.iter().for_each(|rank| drop(kept.remove(rank)));
    }
}

#[test]
fn micro_batches_train_as_the_same_rows_in_one_fit() {
    let settings = json!({"epochs": 1, "shuffle": false, "optimizer": "adam"});
    let whole: Vec<Vec<RecordBatch>> = (0..2)
        .map(|rank| {
            (0..4)
                .flat_map(|n| micro_batch(n).swap_remove(rank))
                .collect()
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let expected = fit(
        &Job::new(perceptron(), settings.clone()),
        &whole,
        folder.path(),
    );
    let mut stream = Stream::new(perceptron(), settings);
    let results = (0..4).map(|n| stream.train(n, &micro_batch(n)));
    let last = results.last().unwrap();
    assert_eq!((last.digest, last.steps), (expected.digest, expected.steps));
    assert_eq!((last.epochs, last.rows), (1, vec![320]));
}

/// Whoever has kept the state, training goes on from the same one.
#[test]
fn what_is_not_kept_comes_from_the_checkpoint_or_another_rank() {
    let model = json!([
        dense("hidden", 16, "relu"),
        {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.3}},
        dense("logits", 2, "linear")
    ]);
    let settings = json!({"epochs": 2, "optimizer": "adam"});
    let train = |lost: &[usize]| {
        let mut stream = Stream::new(model.clone(), settings.clone());
        let digests = (0..3).map(|n| {
            stream.forget(lost);
            stream.train(n, &micro_batch(n)).digest
        });
        digests.collect::<Vec<_>>()
    };
    let kept = train(&[]);
    for lost in [[0].as_slice(), &[1], &[0, 1]] {
        assert_eq!(train(lost), kept, "lost by {lost:?}");
    }
}

#[test]
fn a_micro_batch_that_spark_repeats_changes_nothing() {
    let mut stream = Stream::new(perceptron(), json!({"epochs": 2}));
    stream.train(0, &micro_batch(0));
    let first = stream.train(1, &micro_batch(1));
    stream.forget(&[0, 1]);
    let again = stream.train(1, &micro_batch(1));
    assert_eq!((again.digest, again.steps), (first.digest, first.steps));
    assert_eq!(again.history, first.history);
}

#[test]
fn a_micro_batch_without_rows_counts() {
    let mut stream = Stream::new(perceptron(), json!({"epochs": 1}));
    let first = stream.train(0, &micro_batch(0));
    let nothing = stream.train(1, &partitions(&[0, 0]));
    assert_eq!((nothing.digest, nothing.steps), (first.digest, first.steps));
    assert!(nothing.history.is_empty());
    assert_eq!(stream.train(2, &micro_batch(2)).steps, 10);
    let mut empty = Stream::new(perceptron(), json!({"epochs": 1}));
    assert_eq!(empty.train(0, &partitions(&[0])).steps, 0);
}

#[test]
fn a_gap_in_a_stream_is_an_error_that_says_what_to_do() {
    let mut stream = Stream::new(perceptron(), json!({"epochs": 1}));
    let refused = |stream: &Stream, number: u64| {
        let mut job = stream.job.clone();
        job.micro_batch = Some(number);
        job.resume = stream.checkpoint.clone();
        let outcomes = job.run(
            &micro_batch(0),
            Path::new(stream.folders.last().unwrap().path()),
        );
        outcomes[0].as_ref().unwrap_err().to_string()
    };
    stream.folders.push(tempfile::tempdir().unwrap());
    let message = refused(&stream, 3);
    assert!(
        message.contains("holds no model of this stream"),
        "{message}"
    );
    stream.train(0, &micro_batch(0));
    stream.forget(&[0, 1]);
    let message = refused(&stream, 2);
    assert!(message.contains("after micro-batch 0"), "{message}");
    assert!(message.contains("checkpointLocation"), "{message}");
}
