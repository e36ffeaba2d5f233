//! Fits several ranks in one process, each with its own session, as Spark tasks would.

use arrow_array::{ArrayRef, Float32Array, Int32Array, RecordBatch};
use flambeau_collective::{Config, Secret};
use flambeau_formats::checkpoint::Checkpoint;
use flambeau_formats::pointer::Pointer;
use flambeau_train::Error;
use flambeau_train::config::{FitSession, ModelFiles};
use flambeau_train::event::{Event, FitResult};
use flambeau_train::session::{Fit, Stream};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nothing here takes longer, so a hang is a failure with a message.
const DEADLINE: Duration = Duration::from_secs(120);

/// Four features, two classes.
pub(crate) const WIDTH: usize = 4;

/// What a test varies.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) model: Value,
    pub(crate) fit: Value,
    pub(crate) resume: Option<PathBuf>,
    pub(crate) cache_bytes: u64,
    pub(crate) progress_timeout_ms: u64,
    /// Rows that every rank validates with, fed before the others.
    pub(crate) validation: Vec<RecordBatch>,
    /// Rows that a rank validates with instead of those.
    pub(crate) validation_of: Vec<Vec<RecordBatch>>,
    /// A rank whose caller cancels it once all its rows are used, before it has validated.
    pub(crate) cancel_in_evaluation: Option<usize>,
    /// The micro-batch of a stream that the rows are.
    pub(crate) micro_batch: Option<u64>,
    /// What the processes of the ranks have kept of the stream, or of the attempt before.
    pub(crate) kept: Arc<Mutex<HashMap<usize, Arc<Checkpoint>>>>,
    /// What the user was warned of.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
    /// What may carry data between ranks.
    pub(crate) transports: &'static str,
    /// What a null does.
    pub(crate) null_policy: &'static str,
    /// Which attempt it is.
    pub(crate) attempt: u64,
    /// A rank whose task is killed, and when.
    pub(crate) killed: Option<(usize, Duration)>,
    /// Whether that rank's task is started again.
    pub(crate) started_again: bool,
    /// How long a rank takes to make each of its batches.
    pub(crate) pauses: Vec<Duration>,
    pub(crate) run_id: String,
}

impl Job {
    pub(crate) fn new(layers: Value, fit: Value) -> Self {
        let mut all = vec![json!({"class_name": "InputLayer", "config": {
            "batch_shape": [null, WIDTH], "dtype": "float32", "name": "input"}})];
        all.extend(layers.as_array().unwrap().clone());
        let model = json!({"class_name": "Sequential", "config": {
            "name": "net", "trainable": true, "layers": all}});
        let mut settings = json!({
            "optimizer": {"class_name": "SGD", "config": {"learning_rate": 0.05, "momentum": 0.9}},
            "loss": {"class_name": "SparseCategoricalCrossentropy",
                     "config": {"from_logits": true}},
            "metrics": ["accuracy"], "batch_size": 32, "epochs": 2, "shuffle": true, "seed": 7});
        for (key, value) in fit.as_object().unwrap() {
            settings[key] = value.clone();
        }
        static JOBS: AtomicU16 = AtomicU16::new(0);
        let run_id = format!(
            "{}-{}",
            std::process::id(),
            JOBS.fetch_add(1, Ordering::Relaxed)
        );
        Self {
            model,
            fit: settings,
            resume: None,
            cache_bytes: u64::MAX,
            progress_timeout_ms: 60_000,
            validation: Vec::new(),
            validation_of: Vec::new(),
            cancel_in_evaluation: None,
            micro_batch: None,
            kept: Arc::default(),
            warnings: Arc::default(),
            transports: "auto",
            null_policy: "error",
            attempt: 0,
            killed: None,
            started_again: false,
            pauses: Vec::new(),
            run_id,
        }
    }

    fn how_to_meet(&self, rank: usize, world_size: usize) -> Value {
        // Spark would end the others where one is killed before they have met.
        let rendezvous_timeout_ms = if self.killed.is_some() { 3000 } else { 60_000 };
        json!({
            "run_id": self.run_id, "stage_id": 1, "stage_attempt": self.attempt, "rank": rank,
            "world_size": world_size, "hosts": vec!["127.0.0.1"; world_size],
            "bind_host": "127.0.0.1", "port": 32000, "port_retries": 64, "transports": self.transports,
            "rendezvous_timeout_ms": rendezvous_timeout_ms, "progress_timeout_ms": self.progress_timeout_ms})
    }

    /// How a rank meets the others without a session.
    pub(crate) fn collective(&self, rank: usize, world_size: usize) -> Config {
        serde_json::from_value(self.how_to_meet(rank, world_size)).unwrap()
    }

    pub(crate) fn session(&self, rank: usize, world_size: usize, directory: &Path) -> FitSession {
        serde_json::from_value(self.session_json(rank, world_size, directory)).unwrap()
    }

    /// What a rank's session is opened with; it computes where FLAMBEAU_DEVICE says.
    pub(crate) fn session_json(&self, rank: usize, world_size: usize, directory: &Path) -> Value {
        json!({
            "rank": rank, "threads": 1, "device": {"kind": device()}, "local_dir": directory.join(rank.to_string()),
            "cache_bytes": self.cache_bytes,
            "collective": self.how_to_meet(rank, world_size),
            "columns": {"features": ["a", "b", "c", "d"], "labels": ["label"], "weight": null,
                        "null_policy": self.null_policy},
            "fit": self.fit, "server_hosts": ["127.0.0.1"], "resume": if rank == 0 { json!(self.resume) } else { Value::Null },
            "micro_batch": self.micro_batch.map(|number| json!({"stream": "s", "number": number}))})
    }

    /// Trains on the given partitions, one rank each; what every rank came to.
    pub(crate) fn run(&self, partitions: &[Vec<RecordBatch>], directory: &Path) -> Vec<Outcome> {
        std::thread::scope(|scope| {
            let ranks: Vec<_> = (partitions.iter().enumerate())
                .map(|(rank, batches)| {
                    let config = self.session(rank, partitions.len(), directory);
                    let again = FitSession {
                        incarnation: 1,
                        ..self.session(rank, partitions.len(), directory)
                    };
                    scope.spawn(move || match self.run_rank(config, batches) {
                        Err(_) if self.started_again => self.run_rank(again, batches),
                        outcome => outcome,
                    })
                })
                .collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    fn run_rank(&self, config: FitSession, batches: &[RecordBatch]) -> Outcome {
        let started = Instant::now();
        let (rank, incarnation) = (config.rank, config.incarnation);
        let kept = self.kept.lock().unwrap().get(&rank).cloned();
        std::fs::create_dir_all(&config.local_dir).unwrap();
        let model = self.model.to_string();
        let schema = rows(0, 1).schema();
        let fit = {
            let files = ModelFiles {
                model: model.as_bytes(),
                weights: &[],
            };
            Fit::open(config, &schema, files, Secret::new([5; 32]), kept)
        };
        let fit = fit.map_err(Arc::new)?;
        let outcome = std::thread::scope(|scope| {
            let killed = self.killed.filter(|(killed, _)| *killed == rank);
            if let Some((_, after)) = killed.filter(|_| incarnation == 0) {
                let fit = &fit;
                scope.spawn(move || {
                    std::thread::sleep(after);
                    fit.cancel();
                });
            }
            self.follow(&fit, rank, started, batches)
        });
        fit.close();
        if let Some(reached) = fit.reached() {
            self.kept.lock().unwrap().insert(rank, reached);
        }
        outcome
    }

    fn follow(&self, fit: &Fit, rank: usize, started: Instant, batches: &[RecordBatch]) -> Outcome {
        let pause = self.pauses.get(rank).copied().unwrap_or_default();
        let alive = || assert!(started.elapsed() < DEADLINE, "the fit hangs");
        let room = || loop {
            alive();
            if let Some(room) = fit.room(Duration::from_millis(50))? {
                return Ok::<_, Arc<Error>>(room);
            }
        };
        // As a task does: rows that come anew in each pass come until the fit is done.
        let mut done = None;
        for batch in self.validation_of.get(rank).unwrap_or(&self.validation) {
            fit.feed(room()?, Stream::Validation, batch);
        }
        fit.finish(room()?, Stream::Validation);
        loop {
            for batch in batches {
                std::thread::sleep(pause);
                fit.feed(room()?, Stream::Training, batch);
            }
            fit.finish(room()?, Stream::Training);
            while let Some(event) = fit.poll(Duration::ZERO)? {
                match event {
                    Event::Done { result } => done = Some(result),
                    Event::Warning { message } => self.warnings.lock().unwrap().push(message),
                    _ => {}
                }
            }
            if done.is_some() || self.fit["reread"] != true {
                break;
            }
        }
        if self.cancel_in_evaluation == Some(rank) {
            std::thread::sleep(Duration::from_secs(2));
            fit.cancel();
        }
        loop {
            alive();
            if let Some(result) = done {
                return Ok(result);
            }
            match fit.poll(Duration::from_millis(50))? {
                Some(Event::Done { result }) => done = Some(result),
                Some(Event::Warning { message }) => self.warnings.lock().unwrap().push(message),
                _ => {}
            }
        }
    }
}

pub(crate) type Outcome = Result<FitResult, Arc<Error>>;

/// Rows `first..first + count` of an endless made-up data set with a rule to learn.
pub(crate) fn rows(first: usize, count: usize) -> RecordBatch {
    let value = |row: usize, column: usize| {
        let hash = (row * WIDTH + column).wrapping_mul(2_654_435_761) % 2003;
        hash as f32 / 1001.5 - 1.0
    };
    let column = |column: usize| -> ArrayRef {
        Arc::new(
            (first..first + count)
                .map(|row| value(row, column))
                .collect::<Float32Array>(),
        )
    };
    let label = (first..first + count).map(|row| {
        let sum: f32 = (0..WIDTH).map(|column| value(row, column)).sum();
        Some(i32::from(sum > 0.0))
    });
    let label: ArrayRef = Arc::new(label.collect::<Int32Array>());
    RecordBatch::try_from_iter_with_nullable([
        ("a", column(0), true),
        ("b", column(1), true),
        ("c", column(2), true),
        ("d", column(3), true),
        ("label", label, true),
    ])
    .unwrap()
}

/// A partition of `count` rows from `first` on, in batches as a task would feed them.
pub(crate) fn partition(first: usize, count: usize) -> Vec<RecordBatch> {
    (0..count)
        .step_by(500)
        .map(|at| rows(first + at, 500.min(count - at)))
        .collect()
}

pub(crate) fn dense(name: &str, units: i64, activation: &str) -> Value {
    json!({"class_name": "Dense", "config": {
        "name": name, "units": units, "activation": activation, "use_bias": true,
        "kernel_initializer": "glorot_uniform", "bias_initializer": "zeros"}})
}

pub(crate) fn perceptron() -> Value {
    json!([dense("hidden", 16, "relu"), dense("logits", 2, "linear")])
}

/// BatchNormalization before, behind and between layers that learn.
pub(crate) fn normalized(synchronized: bool) -> Value {
    let batch_normalization = |name: &str| {
        json!({"class_name": "BatchNormalization", "config": {
            "name": name, "momentum": 0.9, "synchronized": synchronized}})
    };
    json!([
        batch_normalization("inputs"),
        dense("hidden", 16, "linear"),
        batch_normalization("norm"),
        dense("deep", 8, "relu"),
        batch_normalization("deep_norm"),
        dense("logits", 2, "linear")
    ])
}

/// Partitions of consecutive rows, `sizes` of them.
pub(crate) fn partitions(sizes: &[usize]) -> Vec<Vec<RecordBatch>> {
    let mut first = 0;
    let dealt = sizes.iter().map(|&size| {
        first += size;
        partition(first - size, size)
    });
    dealt.collect()
}

/// Trains where every rank must succeed; rank 0's result.
pub(crate) fn fit(job: &Job, partitions: &[Vec<RecordBatch>], directory: &Path) -> FitResult {
    let mut results: Vec<_> = job
        .run(partitions, directory)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for other in &results[1..] {
        assert_eq!(other.digest, results[0].digest, "ranks differ");
    }
    results.swap_remove(0)
}

/// Rank 0's newest checkpoint.
pub(crate) fn newest_checkpoint(directory: &Path) -> PathBuf {
    let rank_0 = directory.join("0");
    Pointer::read(&rank_0)
        .unwrap()
        .unwrap()
        .newest_path(&rank_0)
}

/// Where ranks compute.
fn device() -> String {
    std::env::var("FLAMBEAU_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}
