//! Where the time of training steps goes: `step_bench CASE RANKS STEPS BATCH WAY`.
//!
//! The folder CASE holds `model.keras`, `settings.json` with Keras's `loss`, and `data.safetensors`
//! with `x` and `y`. Every rank is a process of its own, pinned to a core of its own where there are
//! enough, and trains on the same rows with Adam. WAY says how gradients meet: through shared `memory`,
//! or over TCP in `buckets` that leave while others are computed, or `whole` once all are there; or not at
//! all, where each trains `alone` beside the others: what the cores allow. With `sharded-` before it each
//! rank keeps the optimizer's state of a part of the weights. Rank 0 prints one line of JSON: seconds per
//! step, and per part of a step; bytes of optimizer state that it keeps, and of its memory at the end.

use flambeau_collective::{AbortHandle, Communicator, Secret};
use flambeau_keras::Model;
use flambeau_keras::optimizers::Optimizer;
use flambeau_train::batch::Batch;
use flambeau_train::objective::{Asked, Objective};
use flambeau_train::step::{Position, Trainer};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tch::Tensor;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The first port that rank 0 tries.
const PORT: u16 = 32_100;

/// Steps that go by before time is taken.
const WARM_UP: u64 = 2;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, rank, case, ranks, steps, batch, way] if role == "rank" => train(
            Path::new(case),
            (rank.parse()?, ranks.parse()?),
            steps.parse()?,
            (batch.parse()?, way),
        ),
        [case, ranks, steps, batch, way] => run(case, ranks, [steps, batch, way]),
        _ => Err("usage: step_bench CASE RANKS STEPS BATCH WAY".into()),
    }
}

fn run(case: &str, ranks: &str, rest: [&str; 3]) -> Outcome {
    let cores = std::thread::available_parallelism()?.get();
    let mut processes = Vec::new();
    for rank in 0..ranks.parse::<usize>()? {
        let core = (rank % cores).to_string();
        let program = std::env::current_exe()?;
        let mut command = Command::new("taskset");
        command.args(["-c", &core]).arg(program);
        command
            .args(["rank", &rank.to_string(), case, ranks])
            .args(rest);
        processes.push(command.env("OMP_NUM_THREADS", "1").spawn()?);
    }
    for mut process in processes {
        if !process.wait()?.success() {
            return Err("a rank failed".into());
        }
    }
    Ok(())
}

fn train(case: &Path, at: (usize, usize), steps: u64, how: (i64, &str)) -> Outcome {
    let ((rank, ranks), (rows, way)) = (at, how);
    let (way, is_sharded) = match way.strip_prefix("sharded-") {
        Some(way) => (way, true),
        None => (way, false),
    };
    flambeau_libtorch::set_up();
    let _memory = flambeau_libtorch::KeptMemory::begin();
    tch::set_num_threads(1);
    let settings: Value = serde_json::from_slice(&std::fs::read(case.join("settings.json"))?)?;
    let (model, _) = Model::from_bytes(&std::fs::read(case.join("model.keras"))?)?;
    let parameters = model.trainable().len();
    let optimizer = Optimizer::from_config(&json!("adam"), model.trainable())?;
    let asked = Asked {
        loss: settings["loss"].clone(),
        ..Asked::default()
    };
    let objective = Objective::new(&model, &asked)?;
    let communicator = connect(rank, ranks, way)?;
    let mut trainer = Trainer::new(model, objective, optimizer, communicator, 0)?;
    if way == "whole" {
        trainer.send_at_once();
    }
    if is_sharded {
        trainer.shard_optimizer_state()?;
    }
    let tensors = Tensor::read_safetensors(case.join("data.safetensors"))?;
    let tensor = |name: &str| {
        let found = tensors.iter().find(|(known, _)| known == name);
        found.map(|(_, tensor)| tensor.f_narrow(0, 0, rows))
    };
    let (Some(x), Some(y)) = (tensor("x"), tensor("y")) else {
        return Err("data.safetensors lacks x or y".into());
    };
    let batch = Batch {
        rows: usize::try_from(rows)?,
        inputs: vec![x?.into()],
        labels: vec![Some(y?)],
        weights: None,
    };
    let mut step = |step| trainer.step(Some(&batch), true, Position { epoch: 1, step }, true);
    for number in 1..=WARM_UP {
        step(number)?;
    }
    let before = trainer.times();
    let started = Instant::now();
    for number in 1..=steps {
        let at = Position {
            epoch: 1,
            step: WARM_UP + number,
        };
        trainer.step(Some(&batch), true, at, true)?;
    }
    let total = started.elapsed();
    let after = trainer.times();
    let each = |time: Duration| time.as_secs_f64() / steps as f64;
    if rank == 0 {
        let line = json!({
            "ranks": ranks, "rows": rows, "parameters": parameters, "step": each(total),
            "forward": each(after.forward - before.forward),
            "agreement": each(after.agreement - before.agreement),
            "backward": each(after.backward - before.backward),
            "exchange": each(after.exchange - before.exchange),
            "update": each(after.update - before.update),
            "state": state_bytes(trainer.optimizer()), "resident": resident_bytes()?});
        writeln!(stdout(), "{line}")?;
    }
    Ok(trainer.close()?)
}

fn state_bytes(optimizer: &Optimizer) -> usize {
    let variables = optimizer.variables().into_iter();
    let held = variables.filter_map(|variable| variable.held);
    held.map(|held| size_of::<f32>() * held.len()).sum()
}

/// What this process has in memory.
fn resident_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(1024 * kilobytes.ok_or("no VmRSS")?.parse::<u64>()?)
}

fn connect(rank: usize, ranks: usize, way: &str) -> Outcome<Communicator> {
    let transports = if way == "memory" { "auto" } else { "tcp" };
    let (rank, ranks) = if way == "alone" {
        (0, 1)
    } else {
        (rank, ranks)
    };
    let config = json!({
        "run_id": "step_bench", "stage_id": 0, "stage_attempt": 0, "rank": rank,
        "world_size": ranks, "hosts": vec!["127.0.0.1"; ranks], "bind_host": "127.0.0.1",
        "port": PORT, "port_retries": 64, "rendezvous_timeout_ms": 60_000,
        "progress_timeout_ms": 60_000, "transports": transports});
    let config = serde_json::from_value(config)?;
    Ok(Communicator::connect(
        &config,
        &Secret::new([0; 32]),
        &AbortHandle::new(),
    )?)
}
