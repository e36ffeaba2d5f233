//! Servers and workers in processes of their own, of which a chosen one is killed for real. The test binary
//! runs itself again for each rank, with what it is given in an environment variable.

use crate::ranks::{Job, newest_checkpoint, partition, perceptron, rows};
use flambeau_collective::Secret;
use flambeau_train::config::ModelFiles;
use flambeau_train::event::Event;
use flambeau_train::session::{Fit, Stream};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const GIVEN: &str = "FLAMBEAU_TRAIN_TEST_RANK";

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Between two batches of a worker: what it takes to compute one is much less, so that each has its share
/// of all steps, whatever else runs on this host.
const PACE: Duration = Duration::from_millis(20);

/// Rows of a worker: 120 batches of eight.
const ROWS: usize = 960;
const BATCH: usize = 8;

/// Does nothing in a usual run: it is what the other tests start as a process.
#[test]
fn a_rank_of_its_own_process() {
    let Ok(given) = std::env::var(GIVEN) else {
        return;
    };
    let given: Value = serde_json::from_str(&given).unwrap();
    let config = serde_json::from_value(given["session"].clone()).unwrap();
    let model = given["model"].to_string();
    let files = ModelFiles {
        model: model.as_bytes(),
        weights: &[],
    };
    let schema = rows(0, 1).schema();
    let fit = Fit::open(config, &schema, files, Secret::new([5; 32]), None).unwrap();
    let first = given["first_row"].as_u64();
    let first = first.map(|row| usize::try_from(row).unwrap());
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| feed(&fit, first));
        loop {
            match fit.poll(Duration::from_millis(50)) {
                Ok(Some(Event::Step { epoch, step, .. })) => {
                    say(&json!({"event": "step", "epoch": epoch, "step": step}));
                }
                Ok(Some(Event::Feed { .. })) => say(&json!({"event": "feed"})),
                Ok(Some(Event::Done { result })) => {
                    break json!({"event": "done", "result": result});
                }
                Ok(_) => {}
                Err(error) => {
                    let (again, message) = (!error.is_deterministic(), error.to_string());
                    break json!({"event": "failed", "again": again, "message": message});
                }
            }
        }
    });
    fit.close();
    say(&outcome);
}

/// Feeds a worker its rows in each pass, a batch at a time; a server none.
fn feed(fit: &Fit, first: Option<usize>) {
    let room = || {
        while let Ok(room) = fit.room(Duration::from_millis(50)) {
            if let Some(room) = room {
                return Some(room);
            }
        }
        None
    };
    let feed = || -> Option<()> {
        fit.finish(room()?, Stream::Validation);
        loop {
            if let Some(first) = first {
                for batch in 0..ROWS / BATCH {
                    let batch = partition(first + batch * BATCH, BATCH);
                    std::thread::sleep(PACE);
                    fit.feed(room()?, Stream::Training, &batch[0]);
                }
            }
            fit.finish(room()?, Stream::Training);
            if first.is_none() || !fit.is_busy() {
                return Some(());
            }
        }
    };
    feed();
}

fn say(line: &Value) {
    // The newline before keeps the line apart from what the test harness prints.
    let line = format!("\n{line}\n");
    stdout().write_all(line.as_bytes()).unwrap();
}

/// Which rank a process is, and which of its processes.
struct Seat {
    rank: usize,
    servers: usize,
    ranks: usize,
    incarnation: u64,
}

/// A rank's process, ended with the test.
struct Process {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Process {
    fn start(job: &Job, seat: Seat, folder: &Path) -> Self {
        let Seat {
            rank,
            servers,
            ranks,
            incarnation,
        } = seat;
        let own = folder.join(rank.to_string());
        std::fs::create_dir_all(&own).unwrap();
        let mut session = job.session_json(rank, ranks, folder);
        session["incarnation"] = json!(incarnation);
        let first_row = (rank >= servers).then(|| ROWS * (rank - servers));
        let given = json!({"session": session, "model": job.model, "first_row": first_row});
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::a_rank_of_its_own_process",
                "--nocapture",
            ])
            .env(GIVEN, given.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = output.map_while(Result::ok);
            let mut events = lines.filter_map(|line| serde_json::from_str(&line).ok());
            events.try_for_each(|event| sender.send(event))
        });
        Self { child, lines }
    }

    /// Its next event of this kind, within the deadline.
    fn wait_for(&self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.lines.recv_timeout(left).unwrap();
            if event["event"] == kind {
                return event;
            }
            assert!(
                event["event"] != "failed",
                "it should come to {kind}: {event}"
            );
        }
    }

    /// Steps per second that it tells of for so long.
    fn rate(&self, time: Duration) -> f64 {
        let step = || {
            let event = self.wait_for("step");
            let epoch = event["epoch"].as_f64().unwrap() - 1.0;
            assert!(epoch == 0.0, "the rates are of one epoch: {event}");
            (Instant::now(), event["step"].as_f64().unwrap())
        };
        let (begun, before) = step();
        let mut last = (begun, before);
        while last.0 < begun + time {
            last = step();
        }
        (last.1 - before) / (last.0 - begun).as_secs_f64()
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn start(job: &Job, servers: usize, workers: usize, folder: &Path) -> Vec<Process> {
    let ranks = servers + workers;
    let seats = (0..ranks).map(|rank| Seat {
        rank,
        servers,
        ranks,
        incarnation: 0,
    });
    seats
        .map(|seat| Process::start(job, seat, folder))
        .collect()
}

fn job(servers: usize, more: &Value) -> Job {
    let mut settings = json!({
        "strategy": "async", "num_ps": servers, "batch_size": BATCH, "shuffle": false, "reread": true});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    Job::new(perceptron(), settings)
}

/// Of three workers each has a third of all steps.
#[test]
fn where_a_worker_is_killed_the_others_train_on_and_the_rate_drops_by_its_share() {
    let folder = tempfile::tempdir().unwrap();
    // An epoch in which all of this happens.
    let job = job(1, &json!({"epochs": 1}));
    let mut ranks = start(&job, 1, 3, folder.path());
    for worker in &ranks[1..] {
        worker.wait_for("feed");
    }
    let before = ranks[0].rate(Duration::from_millis(500));
    ranks[2].kill();
    let after = ranks[0].rate(Duration::from_millis(500));
    let share = after / before;
    println!("steps per second: {before:.1}, then {after:.1}");
    assert!((0.5..0.85).contains(&share), "{before} and then {after}");
    // Its task is started again, and goes on behind its last batch.
    let seat = Seat {
        rank: 2,
        servers: 1,
        ranks: 4,
        incarnation: 1,
    };
    ranks[2] = Process::start(&job, seat, folder.path());
    let result = &ranks[0].wait_for("done")["result"];
    assert_eq!(result["rows"], json!([3 * ROWS]));
    for rank in &ranks[1..] {
        rank.wait_for("done");
    }
}

#[test]
fn where_a_server_is_killed_all_go_on_from_the_checkpoint() {
    // Server 0, another one, and a task that is a server and a worker.
    for (servers, workers, victim) in [(2, 2, 0), (2, 2, 1), (0, 2, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let more = json!({"epochs": 2, "checkpoint_every_steps": 10, "keep_checkpoints": 100});
        let job = job(servers, &more);
        let mut ranks = start(&job, servers, workers, folder.path());
        while ranks[0].wait_for("step")["step"].as_u64() < Some(30) {}
        ranks[victim].kill();
        for (rank, process) in ranks.iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let failed = process.wait_for("failed");
            assert_eq!(failed["again"], true, "rank {rank}: {failed}");
        }
        drop(ranks);
        let resume = newest_checkpoint(folder.path());
        let again = Job {
            attempt: 1,
            resume: Some(resume),
            ..job
        };
        let ranks = start(&again, servers, workers, folder.path());
        let first = &ranks[0].wait_for("step");
        assert!(first["step"].as_u64() > Some(10), "it begins anew: {first}");
        let result = &ranks[0].wait_for("done")["result"];
        let all = workers * ROWS;
        assert_eq!(result["rows"], json!([all, all]));
        assert_eq!(result["steps"], json!(2 * all / BATCH));
        for rank in &ranks[1..] {
            rank.wait_for("done");
        }
    }
}
