//! A session that measures what the checkpoints of another one hold.

use crate::ranks::{Job, fit, normalized, partition, partitions, rows};
use flambeau_collective::Secret;
use flambeau_formats::checkpoint::file_name;
use flambeau_train::config::{FitSession, ModelFiles};
use flambeau_train::event::{Event, Logs};
use flambeau_train::session::{Fit, Stream};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What came of each checkpoint, in turn, and the TensorBoard files that were told of.
fn measured(
    job: &Job,
    folder: &Path,
    checkpoints: &[PathBuf],
) -> (Vec<(Option<usize>, Logs)>, Vec<String>) {
    let config = FitSession {
        evaluator: true,
        ..job.session(0, 1, folder)
    };
    std::fs::create_dir_all(&config.local_dir).unwrap();
    let model = job.model.to_string();
    let files = ModelFiles {
        model: model.as_bytes(),
        weights: &[],
    };
    let evaluator = Fit::open(
        config,
        &rows(0, 1).schema(),
        files,
        Secret::new([5; 32]),
        None,
    )
    .unwrap();
    let room = || evaluator.room(Duration::from_secs(10)).unwrap().unwrap();
    for batch in &job.validation {
        evaluator.feed(room(), Stream::Validation, batch);
    }
    evaluator.finish(room(), Stream::Validation);
    for checkpoint in checkpoints {
        evaluator.evaluate(checkpoint.clone());
    }
    evaluator.finish(room(), Stream::Training);
    let (mut measured, mut names) = (Vec::new(), Vec::new());
    let started = Instant::now();
    loop {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the evaluator hangs"
        );
        match evaluator.poll(Duration::from_millis(50)).unwrap() {
            Some(Event::Evaluated { epoch, logs, .. }) => measured.push((epoch, logs)),
            Some(Event::File { name, .. }) => names.push(name),
            Some(Event::Done { .. }) => return (measured, names),
            _ => {}
        }
    }
}

#[test]
fn checkpoints_are_measured_as_within_the_fit() {
    let settings = json!({
        "epochs": 3, "checkpoint_every_steps": 5, "keep_checkpoints": 100, "optimizer": "adam"});
    let job = Job {
        validation: partition(5000, 700),
        ..Job::new(normalized(false), settings)
    };
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trained = fit(&job, &partitions(&[300]), folder.path());
    let paths = (1..=trained.steps).map(|step| folder.path().join("0").join(file_name(step)));
    let paths: Vec<_> = paths.filter(|path| path.exists()).collect();
    let (measured, names) = measured(&job, other.path(), &paths);
    assert_eq!(measured.len(), paths.len());
    let ended: Vec<_> = measured
        .iter()
        .filter_map(|(epoch, logs)| Some((epoch.as_ref()?, logs)))
        .collect();
    assert_eq!(
        ended.iter().map(|(epoch, _)| **epoch).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(
        measured.len() > ended.len()
            && measured
                .iter()
                .any(|(epoch, logs)| epoch.is_none() && logs.is_empty())
    );
    for name in ["val_loss", "val_accuracy"] {
        let values: Vec<Value> = ended.iter().map(|(_, logs)| logs[name].clone()).collect();
        assert_eq!(Value::from(values), trained.history[name], "{name}");
    }
    assert_eq!(names.len(), 3);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("validation/events.out.tfevents."))
    );
}
