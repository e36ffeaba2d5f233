//! Optimizer steps with given gradients: `optimize CASE`.
//!
//! The folder CASE holds `cases.json`, see [`Cases`], and `tensors.safetensors` with the first
//! values of the variables, `0`, `1` and so on, their gradients in step s, `gradient/s/0` and so
//! on, and, for a case i that goes on from Keras, `start/i/0` and so on, the variables, and
//! `saved/i/0` and so on, the optimizer's.
//!
//! Written are `results.safetensors` with, for case i and each step s to be recorded, `i/s/0` and
//! so on, the optimizer's variables `i/s/optimizer/0` and so on, and the variables after the end of
//! `fit`, `i/final/0` and so on, or the learning rates, `i/rates`; and `configs.json` with the
//! optimizers' configs.

use std::error::Error;
use std::path::Path;

use flambeau_keras::optimizers::{Optimizer, OptimizerValue};
use flambeau_keras::{Variable, VariableStore};
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

#[derive(Deserialize)]
struct Cases {
    /// Paths of the variables.
    variables: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Case {
    optimizer: Value,
    /// The steps to take, by the number of their gradients.
    steps: Vec<usize>,
    /// Steps after which to record everything.
    record: Vec<usize>,
    /// For each step, which variables have a gradient; all if it is empty.
    reached: Vec<Vec<bool>>,
    /// By how much gradients are too small.
    factor: f32,
    threads: usize,
    /// How many of Keras's variables to go on from.
    saved: Option<usize>,
    /// Iterations to give the learning rates of, instead of steps.
    rates: Vec<i64>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            optimizer: Value::Null,
            steps: Vec::new(),
            record: Vec::new(),
            reached: Vec::new(),
            factor: 1.0,
            threads: 1,
            saved: None,
            rates: Vec::new(),
        }
    }
}

type Named = Vec<(String, Tensor)>;

fn main() -> Result<(), Box<dyn Error>> {
    flambeau_libtorch::set_up();
    let folder = std::env::args_os().nth(1).ok_or("usage: optimize CASE")?;
    let folder = Path::new(&folder);
    let cases: Cases = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    let tensors = Tensor::read_safetensors(folder.join("tensors.safetensors"))?;
    let tensors = tensors.into_iter().collect();
    let (mut results, mut configs) = (Vec::new(), Vec::new());
    for (index, case) in cases.cases.iter().enumerate() {
        let inputs = Inputs {
            tensors: &tensors,
            paths: &cases.variables,
        };
        let (named, config) = inputs
            .optimize(index, case)
            .map_err(|error| format!("case {index}: {error}"))?;
        results.extend(named);
        configs.push(config);
    }
    Tensor::write_safetensors(&results, folder.join("results.safetensors"))?;
    std::fs::write(folder.join("configs.json"), serde_json::to_vec(&configs)?)?;
    Ok(())
}

struct Inputs<'a> {
    tensors: &'a std::collections::HashMap<String, Tensor>,
    paths: &'a [String],
}

impl Inputs<'_> {
    fn tensor(&self, name: &str) -> Result<&Tensor, String> {
        self.tensors
            .get(name)
            .ok_or(format!("tensor {name} is missing"))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(Vec::try_from(self.tensor(name)?.f_flatten(0, -1)?)?)
    }

    fn store(&self, start: &str) -> Result<VariableStore, Box<dyn Error>> {
        let mut variables = Vec::new();
        for (index, path) in self.paths.iter().enumerate() {
            variables.push(Variable {
                path: path.clone(),
                layer: 0,
                name: path.rsplit('/').next().unwrap_or_default().to_owned(),
                shape: self.tensor(&index.to_string())?.size(),
                offset: 0,
                held: None,
            });
        }
        let mut store = VariableStore::zeros(variables, true)?;
        for index in 0..self.paths.len() {
            store.set(index, &self.values(&format!("{start}{index}"))?)?;
        }
        Ok(store)
    }

    fn optimize(&self, index: usize, case: &Case) -> Result<(Named, Value), Box<dyn Error>> {
        let start = case
            .saved
            .map(|_| format!("start/{index}/"))
            .unwrap_or_default();
        let mut store = self.store(&start)?;
        let mut optimizer = Optimizer::from_config(&case.optimizer, &store)?;
        optimizer.set_threads(case.threads);
        if !case.rates.is_empty() {
            let mut rates = Vec::new();
            for &iterations in &case.rates {
                optimizer.set_keras_variables(&[(&[], OptimizerValue::Int64(iterations))])?;
                rates.push(optimizer.learning_rate());
            }
            let rates = Tensor::from_slice(&rates).to_kind(Kind::Float);
            return Ok((vec![(format!("{index}/rates"), rates)], optimizer.config()));
        }
        if let Some(count) = case.saved {
            self.restore(&mut optimizer, index, count)?;
        }
        let all = vec![true; self.paths.len()];
        let mut results = Vec::new();
        for (at, step) in case.steps.iter().enumerate() {
            let mut gradients = Vec::new();
            for variable in 0..self.paths.len() {
                gradients.extend(self.values(&format!("gradient/{step}/{variable}"))?);
            }
            let reached = case.reached.get(at).unwrap_or(&all);
            store.change(|params| {
                optimizer.apply_scaled(params, &mut gradients, &mut [], reached, case.factor)
            })??;
            if case.record.contains(step) {
                results.extend(tensors(&store, &format!("{index}/{step}")));
                results.extend(state(&optimizer, &format!("{index}/{step}"))?);
            }
        }
        store.change(|params| optimizer.finalize(params))??;
        results.extend(tensors(&store, &format!("{index}/final")));
        Ok((results, optimizer.config()))
    }

    fn restore(
        &self,
        optimizer: &mut Optimizer,
        index: usize,
        count: usize,
    ) -> Result<(), Box<dyn Error>> {
        let mut saved = Vec::new();
        for at in 0..count {
            let name = format!("saved/{index}/{at}");
            let tensor = self.tensor(&name)?;
            saved.push((tensor.size(), tensor.kind(), self.values(&name)?, tensor));
        }
        let mut variables = Vec::new();
        for (shape, kind, values, tensor) in &saved {
            variables.push((
                shape.as_slice(),
                match kind {
                    Kind::Int64 => OptimizerValue::Int64(tensor.f_int64_value(&[])?),
                    Kind::Int => OptimizerValue::Int32(i32::try_from(tensor.f_int64_value(&[])?)?),
                    _ => OptimizerValue::Float32(values),
                },
            ));
        }
        if !optimizer.set_keras_variables(&variables)? {
            return Err("the variables were not taken over".into());
        }
        Ok(())
    }
}

fn tensors(store: &VariableStore, prefix: &str) -> Named {
    let named = store.tensors().iter().enumerate();
    named
        .map(|(index, tensor)| (format!("{prefix}/{index}"), tensor.detach().copy()))
        .collect()
}

fn state(optimizer: &Optimizer, prefix: &str) -> Result<Named, Box<dyn Error>> {
    let mut named = Vec::new();
    for (index, variable) in optimizer.keras_variables().into_iter().enumerate() {
        let value = match variable.value {
            OptimizerValue::Int64(value) => Tensor::from(value),
            OptimizerValue::Int32(value) => Tensor::from(value),
            OptimizerValue::Float32(values) => {
                Tensor::from_slice(values).f_reshape(variable.shape)?
            }
        };
        named.push((format!("{prefix}/optimizer/{index}"), value));
    }
    Ok(named)
}
