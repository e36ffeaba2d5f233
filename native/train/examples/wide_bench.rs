//! A rank of a fit on made-up clicks: `wide_bench GIVEN`, which is JSON.
//!
//! `session` is what the rank's session is opened with, `model` a Keras model of `fields` numbers below
//! `ids` and a label, `rows` how many of them the rank has. It prints a line of JSON for each step that it
//! is told of and for the end, with the most that it has had in memory.

use arrow_array::{ArrayRef, Int32Array, RecordBatch};
use flambeau_collective::Secret;
use flambeau_train::config::{FitSession, ModelFiles};
use flambeau_train::event::Event;
use flambeau_train::session::{Fit, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::Duration;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Rows that are fed at once.
const BATCH: u64 = 4096;

const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Given {
    session: FitSession,
    model: Value,
    fields: u64,
    ids: u64,
    rows: u64,
}

fn main() -> Outcome {
    let given = std::env::args().nth(1).ok_or("usage: wide_bench GIVEN")?;
    let given: Given = serde_json::from_str(&given)?;
    flambeau_libtorch::set_up();
    let model = given.model.to_string();
    let files = ModelFiles {
        model: model.as_bytes(),
        weights: &[],
    };
    let rank = given.session.rank as u64;
    let schema = clicks(&given, 0, 1)?.schema();
    let session = given.session.clone();
    let fit = Fit::open(session, &schema, files, Secret::new([5; 32]), None)?;
    feed_validation(&fit)?;
    let mut done = None;
    for start in (0..given.rows).step_by(usize::try_from(BATCH)?) {
        let count = BATCH.min(given.rows - start);
        let first = rank * given.rows + start;
        fit.feed(
            room(&fit)?,
            Stream::Training,
            &clicks(&given, first, count)?,
        );
        done = done.or(follow(&fit, Duration::ZERO)?);
    }
    fit.finish(room(&fit)?, Stream::Training);
    while done.is_none() {
        done = follow(&fit, PATIENCE)?;
    }
    fit.close();
    Ok(())
}

fn feed_validation(fit: &Fit) -> Outcome {
    fit.finish(room(fit)?, Stream::Validation);
    Ok(())
}

fn room(fit: &Fit) -> Outcome<flambeau_train::session::Room> {
    loop {
        if let Some(room) = fit.room(PATIENCE).map_err(|error| error.to_string())? {
            return Ok(room);
        }
    }
}

/// Tells what has happened; something at the end.
fn follow(fit: &Fit, patience: Duration) -> Outcome<Option<()>> {
    while let Some(event) = fit.poll(patience).map_err(|error| error.to_string())? {
        match event {
            Event::Step {
                step,
                rows_per_second,
                ..
            } => say(&json!({"event": "step", "step": step, "rate": rows_per_second}))?,
            Event::Done { result } => {
                let losses = result.history.get("loss");
                let memory = most_resident()?;
                say(
                    &json!({"event": "done", "steps": result.steps, "loss": losses, "memory": memory}),
                )?;
                return Ok(Some(()));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn say(line: &Value) -> Outcome {
    Ok(writeln!(stdout(), "{line}")?)
}

/// Clicks `first..first + count` of an endless data set: small ids are more frequent, and each id is for or
/// against a click.
fn clicks(given: &Given, first: u64, count: u64) -> Outcome<RecordBatch> {
    let hash = |row: u64, field: u64| {
        let mut bits = (row * given.fields + field).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let id = |row: u64, field: u64| {
        // The square of a number from 0 to below 1, in units of 2^-32.
        let share = hash(row, field) >> 32;
        (((share * share) >> 32) * given.ids) >> 32
    };
    let rows = first..first + count;
    let column = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
    let ids = (0..given.fields).map(|field| {
        let values = rows.clone().map(|row| i32::try_from(id(row, field)));
        Ok((
            format!("f{field}"),
            column(values.collect::<Result<_, _>>()?),
        ))
    });
    let mut columns = ids.collect::<Outcome<Vec<_>>>()?;
    let label = rows.clone().map(|row| {
        let votes = (0..given.fields).map(|field| hash(id(row, field), 77) % 2);
        i32::from(2 * votes.sum::<u64>() > given.fields)
    });
    columns.push(("label".to_owned(), column(label.collect())));
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// The most that this process has had in memory, in bytes.
fn most_resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(1024 * kilobytes.ok_or("no VmHWM")?.parse::<u64>()?)
}
