//! Losses and metrics of given outputs: `score CASE`.
//!
//! The folder CASE holds `cases.json`, a list of `{"activation", "loss", "metrics"}`, and
//! `tensors.safetensors` with, for case i, `i/x`, the values before the activation, and `i/y_true`.
//! Written is `scores.safetensors` with `i/losses` by rows, `i/gradient` of their mean for x, and
//! `i/metrics`.

use std::error::Error;
use std::path::Path;

use flambeau_keras::activations::Activation;
use flambeau_keras::{Loss, Value as Output, metrics};
use serde::Deserialize;
use serde_json::Value as Json;
use tch::{Kind, Tensor};

#[derive(Deserialize)]
struct Case {
    activation: Option<String>,
    loss: Json,
    metrics: Vec<Json>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: score CASE")?;
    let folder = Path::new(&folder);
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    let tensors = Tensor::read_safetensors(folder.join("tensors.safetensors"))?;
    let tensor = |name: String| {
        let found = tensors.iter().find(|(other, _)| *other == name);
        found
            .map(|(_, tensor)| tensor)
            .ok_or(format!("tensor {name} is missing"))
    };
    let mut scores = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let (x, y_true) = (
            tensor(format!("{index}/x"))?,
            tensor(format!("{index}/y_true"))?,
        );
        let [losses, gradient, metrics] =
            score(case, x, y_true).map_err(|error| format!("case {index}: {error}"))?;
        scores.push((format!("{index}/losses"), losses));
        scores.push((format!("{index}/gradient"), gradient));
        scores.push((format!("{index}/metrics"), metrics));
    }
    Tensor::write_safetensors(&scores, folder.join("scores.safetensors"))?;
    Ok(())
}

fn score(case: &Case, x: &Tensor, y_true: &Tensor) -> Result<[Tensor; 3], Box<dyn Error>> {
    let x = x.detach().set_requires_grad(true);
    let output = || {
        let x = x.shallow_clone();
        match case.activation.as_deref() {
            Some("softmax") => Output::from_logits(x, Activation::Softmax(-1)),
            Some("sigmoid") => Output::from_logits(x, Activation::Sigmoid),
            _ => Output::new(x),
        }
    };
    let loss = Loss::from_config(&case.loss)?;
    let losses = loss.per_row(y_true, &output())?;
    let gradient = Tensor::f_run_backward(&[losses.f_mean(Kind::Float)?], &[&x], false, false)?;

    let mut results = Vec::new();
    for config in &case.metrics {
        let metric = metrics::from_config(config, &loss, &x.size()[1..])?;
        let state = metric.update(y_true, &output())?.f_to_kind(Kind::Double)?;
        results.push(metric.result(&Vec::try_from(state)?));
    }
    Ok([
        losses.detach(),
        gradient[0].shallow_clone(),
        Tensor::from_slice(&results),
    ])
}
