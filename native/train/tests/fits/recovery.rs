//! Attempts that go on from what the ranks of the one before have kept.

use crate::embeddings::embedded;
use crate::ranks::{Job, fit, normalized, partitions, perceptron};
use flambeau_formats::array::Array;
use flambeau_formats::checkpoint::Checkpoint;
use flambeau_train::Error;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SIZES: [usize; 3] = [700, 500, 300];

/// Epochs enough for a kill to come in the middle of one, or of its validation.
fn job(model: Value, more: Value) -> Job {
    let mut settings = json!({"epochs": 12, "optimizer": "adam"});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    let mut job = Job::new(model, settings);
    job.validation = partitions(&[200]).swap_remove(0);
    job
}

/// What the ranks have kept of an attempt whose rank `killed` was ended `after` its beginning; none
/// if it was done by then.
fn killed_attempt(
    job: &mut Job,
    killed: usize,
    after: Duration,
) -> Option<HashMap<usize, Arc<Checkpoint>>> {
    job.killed = Some((killed, after));
    let folder = tempfile::tempdir().unwrap();
    let outcomes = job.run(&partitions(&SIZES), folder.path());
    job.killed = None;
    job.attempt += 1;
    let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(failures == 0 || failures == SIZES.len(), "{outcomes:?}");
    (failures > 0).then(|| std::mem::take(&mut *job.kept.lock().unwrap()))
}

/// The checkpoint with its first tensor changed.
fn altered(checkpoint: &Checkpoint) -> Arc<Checkpoint> {
    let mut tensors = checkpoint.tensors.clone();
    let (_, array) = &mut tensors[0];
    let mut values: Vec<f32> = array.values().unwrap();
    values[0] += 1.0;
    *array = Array::new(array.shape().to_vec(), values).unwrap();
    Arc::new(Checkpoint {
        step: checkpoint.step,
        manifest: checkpoint.manifest.clone(),
        tensors,
    })
}

#[test]
fn the_next_attempt_goes_on_from_the_newest_state_whoever_has_it() {
    for (model, more) in [
        (perceptron(), json!({})),
        (normalized(false), json!({"reread": true})),
        (
            normalized(true),
            json!({"steps_per_epoch": 7, "repeat": true}),
        ),
        (embedded(40_000), json!({"optimizer": "adagrad"})),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let undisturbed = fit(
            &job(model.clone(), more.clone()),
            &partitions(&SIZES),
            folder.path(),
        );
        let mut recovered = 0;
        for turn in 0..8_u64 {
            let mut job = job(model.clone(), more.clone());
            let killed = usize::try_from(turn % 3).unwrap();
            let after = Duration::from_millis(15 + 8 * turn);
            let Some(mut kept) = killed_attempt(&mut job, killed, after) else {
                continue;
            };
            // The process of the rank that was killed is gone, and so may be another.
            kept.remove(&killed);
            if turn % 2 == 0 {
                kept.remove(&((killed + 1) % 3));
            }
            let newest = kept.values().map(|state| state.step).max();
            recovered += u64::from(newest.is_some_and(|step| step > 0));
            // Whichever ranks run in the processes that are left.
            let kept = kept
                .into_iter()
                .map(|(rank, state)| ((rank + 1) % 3, state));
            *job.kept.lock().unwrap() = kept.collect();
            let folder = tempfile::tempdir().unwrap();
            let again = fit(&job, &partitions(&SIZES), folder.path());
            assert_eq!(
                again.digest, undisturbed.digest,
                "killed after {after:?}, {newest:?}"
            );
            assert_eq!(again.steps, undisturbed.steps);
            assert_eq!(again.history, undisturbed.history);
        }
        assert!(recovered >= 2, "{recovered} of 8 attempts left a state");
    }
}

#[test]
fn a_state_that_is_kept_is_the_one_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = fit(
        &job(perceptron(), json!({})),
        &partitions(&SIZES),
        folder.path(),
    );
    for after in (10..).step_by(5).map(Duration::from_millis).take(20) {
        let mut job = job(perceptron(), json!({}));
        let kept = killed_attempt(&mut job, 2, after).unwrap_or_default();
        let Some(state) = kept.get(&1).filter(|state| state.step > 0) else {
            continue;
        };
        job.kept.lock().unwrap().insert(0, altered(state));
        let folder = tempfile::tempdir().unwrap();
        let again = fit(&job, &partitions(&SIZES), folder.path());
        assert_ne!(again.digest, undisturbed.digest);
        assert_eq!(again.steps, undisturbed.steps);
        return;
    }
    panic!("no attempt left a state");
}

/// States after as many steps are taken to be the same, and found out if they are not.
#[test]
fn ranks_that_have_drifted_apart_are_told_so() {
    for after in (10..).step_by(5).map(Duration::from_millis).take(20) {
        let mut job = job(perceptron(), json!({}));
        let kept = killed_attempt(&mut job, 2, after).unwrap_or_default();
        let Some(state) = kept.get(&1).filter(|state| state.step > 0) else {
            continue;
        };
        let states = [state.clone(), state.clone(), altered(state)];
        *job.kept.lock().unwrap() = states.into_iter().enumerate().collect();
        let folder = tempfile::tempdir().unwrap();
        for outcome in job.run(&partitions(&SIZES), folder.path()) {
            let error = outcome.unwrap_err();
            assert!(matches!(*error, Error::Diverged { rank: 2, .. }), "{error}");
        }
        assert!(job.kept.lock().unwrap().len() <= 3, "none is kept of it");
        return;
    }
    panic!("no attempt left a state");
}

#[test]
fn weights_that_are_no_numbers_after_the_last_step_are_never_exported() {
    let optimizer = json!({"class_name": "SGD", "config": {"learning_rate": 1e39}});
    let job = Job::new(
        perceptron(),
        json!({"optimizer": optimizer, "max_steps": 1}),
    );
    let folder = tempfile::tempdir().unwrap();
    for outcome in job.run(&partitions(&SIZES), folder.path()) {
        let error = outcome.unwrap_err();
        assert!(
            matches!(*error, Error::NotFinite { step: 1, .. }),
            "{error}"
        );
        assert!(error.is_deterministic());
    }
    assert!(!folder.path().join("0/export").exists());
    assert!(!folder.path().join("0/checkpoint").exists());
}
