//! Trains a model on given batches with the training loop's own step: `replay CASE`.
//!
//! The folder CASE holds `model.keras` with its initial weights, `compile.json` with Keras's
//! `optimizer` and `loss`, and `batches.safetensors` with `x_0`, `y_0`, `x_1` and so on. Written
//! are `losses.json`, the loss of every step, and `weights.safetensors`, by the variables' paths.

use flambeau_collective::{AbortHandle, Communicator, Secret};
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Model, VariableStore};
use flambeau_train::batch::Batch;
use flambeau_train::objective::{Asked, Objective};
use flambeau_train::step::{Position, Trainer};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use tch::Tensor;

fn main() -> Result<(), Box<dyn Error>> {
    flambeau_libtorch::set_up();
    let case = std::env::args_os().nth(1).ok_or("usage: replay CASE")?;
    let case = Path::new(&case);
    let compile: Value = serde_json::from_slice(&std::fs::read(case.join("compile.json"))?)?;
    let (model, _) = Model::from_bytes(&std::fs::read(case.join("model.keras"))?)?;
    let optimizer = Optimizer::from_config(&compile["optimizer"], model.trainable())?;
    let asked = Asked {
        loss: compile["loss"].clone(),
        ..Asked::default()
    };
    let objective = Objective::new(&model, &asked)?;
    let mut trainer = Trainer::new(model, objective, optimizer, alone()?, 0)?;

    let mut losses = Vec::new();
    for (step, (x, y)) in (1..).zip(read_batches(&case.join("batches.safetensors"))?) {
        let rows = usize::try_from(x.size()[0])?;
        let batch = Batch {
            rows,
            inputs: vec![x.into()],
            labels: vec![Some(y)],
            weights: None,
        };
        let stepped = trainer.step(Some(&batch), true, Position { epoch: 1, step }, true)?;
        let totals = stepped.ok_or("a step that no rank made")?.totals;
        losses.push(totals.losses[0] / totals.rows);
    }

    std::fs::write(case.join("losses.json"), serde_json::to_vec(&losses)?)?;
    let mut weights = named(trainer.model().trainable());
    weights.extend(named(trainer.model().non_trainable()));
    Tensor::write_safetensors(&weights, case.join("weights.safetensors"))?;
    Ok(())
}

/// One rank, which opens no sockets.
fn alone() -> Result<Communicator, Box<dyn Error>> {
    let config = json!({
        "run_id": "replay", "stage_id": 0, "stage_attempt": 0, "rank": 0, "world_size": 1,
        "hosts": ["127.0.0.1"], "bind_host": "127.0.0.1", "port": 0, "port_retries": 0,
        "rendezvous_timeout_ms": 1000, "progress_timeout_ms": 1000});
    let config = serde_json::from_value(config)?;
    Ok(Communicator::connect(
        &config,
        &Secret::new([0; 32]),
        &AbortHandle::new(),
    )?)
}

fn read_batches(path: &Path) -> Result<Vec<(Tensor, Tensor)>, Box<dyn Error>> {
    let mut tensors = Tensor::read_safetensors(path)?;
    let mut take = |name: String| {
        let at = tensors.iter().position(|(other, _)| *other == name)?;
        Some(tensors.swap_remove(at).1)
    };
    let batches =
        (0..).map_while(|step| Some((take(format!("x_{step}"))?, take(format!("y_{step}"))?)));
    Ok(batches.collect())
}

fn named(store: &VariableStore) -> Vec<(String, Tensor)> {
    let named = store.variables().iter().zip(store.tensors());
    named
        .map(|(variable, tensor)| (variable.path.clone(), tensor.detach()))
        .collect()
}
