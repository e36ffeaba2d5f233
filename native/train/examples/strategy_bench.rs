//! A rank of a fit on rows of bytes: `strategy_bench GIVEN`, which is JSON.
//!
//! `session` is what the rank's session is opened with, `model` a Keras model of one input. `rows` and
//! `validation` say what the rank has of two files, of which one has `width` bytes for each row and the
//! other a label. It prints what it is told as lines of JSON, and last how the fit ended, with the most that
//! it has had in memory.

use arrow_array::{ArrayRef, BinaryArray, Int32Array, RecordBatch};
use flambeau_collective::Secret;
use flambeau_train::config::{FitSession, ModelFiles};
use flambeau_train::event::Event;
use flambeau_train::session::{Fit, Room, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::error::Error;
use std::fs::File;
use std::io::{Write, stdout};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Rows that are fed at once.
const BATCH: usize = 1024;

const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Given {
    session: FitSession,
    model: Value,
    rows: Rows,
    validation: Rows,
}

/// Rows `first..first + count` of two files.
#[derive(Deserialize)]
struct Rows {
    values: PathBuf,
    labels: PathBuf,
    width: usize,
    first: usize,
    count: usize,
}

impl Rows {
    fn batches(&self) -> Outcome<Vec<RecordBatch>> {
        let starts = (0..self.count).step_by(BATCH);
        let batch = |start: usize| self.batch(self.first + start, BATCH.min(self.count - start));
        starts.map(batch).collect()
    }

    fn batch(&self, first: usize, count: usize) -> Outcome<RecordBatch> {
        let read = |path: &PathBuf, width: usize| -> Outcome<Vec<u8>> {
            let mut bytes = vec![0; count * width];
            File::open(path)?.read_exact_at(&mut bytes, (first * width) as u64)?;
            Ok(bytes)
        };
        let values = read(&self.values, self.width)?;
        let labels = read(&self.labels, 1)?.into_iter().map(i32::from);
        let columns: [(&str, ArrayRef); 2] = [
            (
                "values",
                Arc::new(BinaryArray::from_iter_values(values.chunks(self.width))),
            ),
            ("label", Arc::new(Int32Array::from_iter_values(labels))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

fn main() -> Outcome {
    let given = std::env::args().nth(1);
    let given: Given = serde_json::from_str(&given.ok_or("usage: strategy_bench GIVEN")?)?;
    flambeau_libtorch::set_up();
    let end = run(&given).unwrap_or_else(|error| {
        let message = error.to_string();
        json!({"event": "failed", "message": message})
    });
    let memory = most_resident()?;
    say(&json!({"event": "memory", "memory": memory}))?;
    say(&end)
}

/// Trains; the last event.
fn run(given: &Given) -> Outcome<Value> {
    let model = given.model.to_string();
    let files = ModelFiles {
        model: model.as_bytes(),
        weights: &[],
    };
    let schema = given.rows.batch(0, 1)?.schema();
    let session = given.session.clone();
    let fit = Fit::open(session, &schema, files, Secret::new([5; 32]), None)?;
    let mut done = None;
    for (stream, rows) in [
        (Stream::Validation, &given.validation),
        (Stream::Training, &given.rows),
    ] {
        for batch in rows.batches()? {
            fit.feed(room(&fit)?, stream, &batch);
            done = done.or(follow(&fit, Duration::ZERO)?);
        }
        fit.finish(room(&fit)?, stream);
    }
    while done.is_none() {
        done = follow(&fit, PATIENCE)?;
    }
    fit.close();
    done.ok_or_else(|| "the fit has no end".into())
}

fn room(fit: &Fit) -> Outcome<Room> {
    loop {
        if let Some(room) = fit.room(PATIENCE).map_err(|error| error.to_string())? {
            return Ok(room);
        }
    }
}

/// Tells what has happened; the end, if that has.
fn follow(fit: &Fit, patience: Duration) -> Outcome<Option<Value>> {
    while let Some(event) = fit.poll(patience).map_err(|error| error.to_string())? {
        let is_end = matches!(event, Event::Done { .. });
        let event = serde_json::to_value(event)?;
        if is_end {
            return Ok(Some(event));
        }
        say(&event)?;
    }
    Ok(None)
}

fn say(line: &Value) -> Outcome {
    Ok(writeln!(stdout(), "{line}")?)
}

/// The most that this process has had in memory, in bytes.
fn most_resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(1024 * kilobytes.ok_or("no VmHWM")?.parse::<u64>()?)
}
