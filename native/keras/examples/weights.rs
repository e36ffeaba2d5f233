//! What layers ask of their weights, in many cases: `weights CASE`.
//!
//! The folder CASE holds `cases.json`, a list of `{"constraint": .., "regularizer": ..,
//! "initializer": .., "shape": ..}`, and `tensors.safetensors` with the value of case i under `i`.
//! Each case has one of the first three. Written is `results.safetensors` with, for case i, the
//! projected value `i`; or the penalty `i` and its gradient `i/gradient`; or the first value `i`.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use flambeau_keras::initializers::Initializer;
use flambeau_keras::{Constraint, Regularizer};
use serde::Deserialize;
use serde_json::Value;
use tch::Tensor;

#[derive(Deserialize)]
struct Case {
    constraint: Option<Value>,
    regularizer: Option<Value>,
    initializer: Option<Value>,
    #[serde(default)]
    shape: Vec<i64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    flambeau_libtorch::set_up();
    let folder = std::env::args_os().nth(1).ok_or("usage: weights CASE")?;
    let folder = Path::new(&folder);
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    let tensors = Tensor::read_safetensors(folder.join("tensors.safetensors"))?;
    let tensors: HashMap<_, _> = tensors.into_iter().collect();
    let mut results = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let found = run(case, tensors.get(&index.to_string()));
        let found = found.map_err(|error| format!("case {index}: {error}"))?;
        let names = ["", "/gradient"].map(|suffix| format!("{index}{suffix}"));
        results.extend(names.into_iter().zip(found));
    }
    Tensor::write_safetensors(&results, folder.join("results.safetensors"))?;
    Ok(())
}

fn run(case: &Case, value: Option<&Tensor>) -> Result<Vec<Tensor>, Box<dyn Error>> {
    if let Some(config) = &case.initializer {
        let initializer = Initializer::from_config(config, "initializer")?;
        let count = usize::try_from(case.shape.iter().product::<i64>())?;
        let mut values = vec![f32::NAN; count];
        initializer.fill(&case.shape, "kernel", 0, &mut values)?;
        return Ok(vec![Tensor::from_slice(&values).f_reshape(&case.shape)?]);
    }
    let value = value.ok_or("its value is missing")?;
    if let Some(config) = &case.constraint {
        let constraint = Constraint::from_config(config, "constraint")?.ok_or("no constraint")?;
        return Ok(vec![constraint.apply(value)?]);
    }
    let config = case.regularizer.as_ref().ok_or("a case of nothing")?;
    let regularizer = Regularizer::from_config(config, "regularizer")?.ok_or("no regularizer")?;
    let value = value.f_detach()?.f_set_requires_grad(true)?;
    let loss = regularizer.loss(&value)?;
    let gradient = if loss.requires_grad() {
        loss.f_backward()?;
        value.f_grad()?
    } else {
        value.f_zeros_like()?
    };
    Ok(vec![loss.f_detach()?, gradient])
}
