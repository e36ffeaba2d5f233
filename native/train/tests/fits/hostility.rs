//! Every row exactly once in every pass, whatever the partitions, ranks, batches and budgets are, and
//! wherever an attempt was lost; the same bits from the same seed; nothing left on the disk.

use crate::ranks::{Job, dense, fit, newest_checkpoint, rows};
use arrow_array::RecordBatch;
use flambeau_train::event::FitResult;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// What a fit is made of.
#[derive(Debug, Clone)]
struct Case {
    /// Rows of each batch of each rank.
    batches: Vec<Vec<usize>>,
    batch_size: usize,
    epochs: usize,
    shuffle: bool,
    reread: bool,
    shuffle_buffer: usize,
    cache_bytes: u64,
    /// The step after which the attempt before was lost, as percents of all steps.
    lost: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let size = prop_oneof![2 => Just(0_usize), 5 => 1..40_usize, 1 => 100..700_usize];
    let rank = proptest::collection::vec(size, 0..4);
    let budget = prop_oneof![Just(0_u64), 1..20_000_u64, Just(u64::MAX)];
    (
        proptest::collection::vec(rank, 1..9),
        1..70_usize,
        1..4_usize,
        any::<bool>(),
        any::<bool>(),
        1..300_usize,
        budget,
        0..100_u64,
    )
        .prop_map(
            |(batches, batch_size, epochs, shuffle, reread, shuffle_buffer, cache_bytes, lost)| {
                Case {
                    batches,
                    batch_size,
                    epochs,
                    shuffle,
                    reread,
                    shuffle_buffer,
                    cache_bytes,
                    lost,
                }
            },
        )
}

impl Case {
    fn total(&self) -> usize {
        self.batches.iter().flatten().sum()
    }

    /// Steps of a fit: every rank takes part until the last one is dry.
    fn steps(&self) -> u64 {
        let rows = self.batches.iter().map(|sizes| sizes.iter().sum::<usize>());
        let steps = rows.map(|rows| rows.div_ceil(self.batch_size)).max();
        (self.epochs * steps.unwrap_or(0)) as u64
    }

    /// The rows, numbered over all ranks.
    fn partitions(&self) -> Vec<Vec<RecordBatch>> {
        let mut first = 0;
        let mut next = |size: usize| {
            first += size;
            rows(first - size, size)
        };
        let ranks = self.batches.iter();
        ranks
            .map(|sizes| sizes.iter().map(|&size| next(size)).collect())
            .collect()
    }

    fn job(&self, rate: f64) -> Job {
        let mut job = Job::new(
            json!([dense("hidden", 5, "tanh"), dense("logits", 2, "linear")]),
            json!({
                "batch_size": self.batch_size, "epochs": self.epochs, "shuffle": self.shuffle,
                "reread": self.reread, "shuffle_buffer": self.shuffle_buffer,
                "keep_checkpoints": 10_000,
                "optimizer": {"class_name": "SGD", "config": {"learning_rate": rate}}}),
        );
        job.cache_bytes = self.cache_bytes;
        job
    }

    fn train(&self, job: &Job, directory: &Path) -> FitResult {
        let result = fit(job, &self.partitions(), directory);
        for rank in 0..self.batches.len() {
            let left = directory.join(rank.to_string());
            let names = left
                .read_dir()
                .unwrap()
                .map(|file| file.unwrap().file_name());
            let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            assert!(
                rank == 0 || names.is_empty(),
                "rank {rank} leaves {names:?}"
            );
            assert!(
                !names.iter().any(|name| name.contains("spill")),
                "{names:?}"
            );
        }
        result
    }
}

/// Mean loss and accuracy over all rows at once, of weights that stay as they are.
fn measured(case: &Case) -> (Value, Value) {
    let directory = tempfile::tempdir().unwrap();
    let mut job = Case {
        batch_size: case.total(),
        epochs: 1,
        reread: false,
        ..case.clone()
    }
    .job(0.0);
    job.cache_bytes = u64::MAX;
    let result = fit(&job, &[vec![rows(0, case.total())]], directory.path());
    (
        result.history["loss"][0].clone(),
        result.history["accuracy"][0].clone(),
    )
}

fn close(a: &Value, b: &Value) -> bool {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    (a - b).abs() <= 1e-7 * b.abs()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// With weights that stay, an epoch's loss and accuracy are those of all rows, each counted once.
    #[test]
    fn every_row_counts_once_in_every_epoch(case in cases()) {
        prop_assume!(case.total() > 0);
        let directory = tempfile::tempdir().unwrap();
        let result = case.train(&case.job(0.0), directory.path());
        prop_assert_eq!(&result.rows, &vec![case.total() as u64; case.epochs]);
        let (loss, accuracy) = measured(&case);
        for epoch in 0..case.epochs {
            prop_assert!(close(&result.history["loss"][epoch], &loss));
            prop_assert!(close(&result.history["accuracy"][epoch], &accuracy));
        }
    }

    /// An attempt that goes on from any checkpoint of one that was lost comes to the same bits.
    #[test]
    fn an_attempt_goes_on_from_wherever_another_was_lost(case in cases()) {
        prop_assume!(case.total() > 0);
        let directory = tempfile::tempdir().unwrap();
        let mut job = case.job(0.05);
        let lost_after = (case.steps() * case.lost / 100).max(1);
        job.fit["checkpoint_every_steps"] = json!(lost_after);
        let whole = case.train(&job, directory.path());
        prop_assert_eq!(whole.steps, case.steps());
        let newest = newest_checkpoint(directory.path());
        let checkpoint = newest.with_file_name(flambeau_formats::checkpoint::file_name(lost_after));
        job.resume = Some(checkpoint);
        job.fit["checkpoint_every_steps"] = json!(0);
        let second = tempfile::tempdir().unwrap();
        let resumed = case.train(&job, second.path());
        prop_assert_eq!(resumed.digest, whole.digest);
        prop_assert_eq!(resumed.history, whole.history);
        prop_assert_eq!(resumed.rows, whole.rows);
    }
}
