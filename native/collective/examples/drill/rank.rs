//! One rank of a job that trains in earnest as far as failures can tell: every step adds up numbers
//! whose sum is known, every few steps rank 0 leaves a checkpoint, and a retry goes on from it.
//! Says what happens in lines: `joined`, `step N`, `failed RETRYABLE MESSAGE`, `wrong WHAT`, `done DIGEST`.

use std::fs;
use std::io::{Write, stdout};
use std::process::ExitCode;

use flambeau_collective::{AbortHandle, Communicator, Config, Error, Secret};
use sha2::{Digest, Sha256};

pub(crate) const CONFIG: &str = "FLAMBEAU_DRILL_CONFIG";
pub(crate) const CHECKPOINT: &str = "FLAMBEAU_DRILL_CHECKPOINT";
pub(crate) const STEPS: &str = "FLAMBEAU_DRILL_STEPS";
pub(crate) const KEY: &str = "FLAMBEAU_DRILL_KEY";

/// Weights of the model: a frame holds a fraction of them.
const WEIGHTS: usize = 60_000;
const CHECKPOINT_EVERY: usize = 25;

pub(crate) fn play() -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let Ok(config) = serde_json::from_str::<Config>(&variable(CONFIG)) else {
        say(&format!("wrong configuration {}", variable(CONFIG)));
        return ExitCode::FAILURE;
    };
    let steps = variable(STEPS).parse().unwrap_or(100);
    let key = variable(KEY).parse().unwrap_or(1);
    match train(&config, key, steps, &variable(CHECKPOINT)) {
        Ok(digest) => say(&format!("done {digest}")),
        Err(error) => say(&format!("failed {} {error}", error.is_retryable())),
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    // The parent may be gone: then nobody needs to know.
    writeln!(stdout(), "{line}").ok();
}

fn train(config: &Config, key: u8, steps: usize, checkpoint: &str) -> Result<String, Error> {
    let ranks = config.world_size;
    let mut communicator =
        Communicator::connect(config, &Secret::new([key; 32]), &AbortHandle::new())?;
    say("joined");
    // The step done last, then the weights.
    let mut state = vec![0.0_f32; 1 + WEIGHTS];
    if config.rank == 0
        && let Ok(bytes) = fs::read(checkpoint)
    {
        for (value, bytes) in state.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    communicator.broadcast(0, &mut state)?;
    // In turn a vector that travels and one that lies in memory of all, where there is such memory.
    let mut travels = vec![0.0_f32; WEIGHTS];
    let mut lies = communicator.allocate(WEIGHTS)?;
    // A small whole number.
    let done = (0..=steps)
        .find(|step| *step as f32 == state[0])
        .unwrap_or(0);
    for step in done + 1..=steps {
        let gradient = match step % 2 {
            0 => travels.as_mut_slice(),
            _ => lies.as_mut_slice(),
        };
        for (index, value) in gradient.iter_mut().enumerate() {
            *value = part(config.rank, step, index);
        }
        communicator.allreduce(gradient)?;
        for (index, value) in gradient.iter().enumerate() {
            let sum: f32 = (0..ranks).map(|rank| part(rank, step, index)).sum();
            if *value != sum {
                say(&format!(
                    "wrong sum in step {step}: {value} at {index}, not {sum}"
                ));
            }
        }
        for (weight, gradient) in state[1..].iter_mut().zip(&*gradient) {
            *weight = (*weight * 3.0 + gradient) % 1009.0;
        }
        state[0] = step as f32;
        if config.rank == 0 && step.is_multiple_of(CHECKPOINT_EVERY) {
            keep(checkpoint, &state);
        }
        if step.is_multiple_of(CHECKPOINT_EVERY) {
            say(&format!("step {step}"));
        }
    }
    let digest = Sha256::digest(bytes(&state));
    communicator.close()?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What one rank adds: whole and small, so that sums are exact in any order.
fn part(rank: usize, step: usize, index: usize) -> f32 {
    ((rank + 1) * (step + index) % 17) as f32
}

fn bytes(state: &[f32]) -> Vec<u8> {
    state.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn keep(checkpoint: &str, state: &[f32]) {
    let new = format!("{checkpoint}.new");
    if fs::write(&new, bytes(state)).is_ok() {
        fs::rename(&new, checkpoint).ok();
    }
}
