//! Optimizer steps with given gradients: `optimize CASE`.
//!
//! The folder CASE holds `cases.json`, a list of Keras's optimizer configs, and
//! `tensors.safetensors` with the variables `kernel` and `bias` and their gradients `kernel_0`,
//! `bias_0`, `kernel_1` and so on. Written is `results.safetensors` with, for case i, `i/kernel`,
//! `i/bias` and Keras's optimizer variables in their order, `i/0`, `i/1` and so on.

use std::error::Error;
use std::path::Path;

use flambeau_keras::optimizers::{Optimizer, OptimizerValue};
use flambeau_keras::{Variable, VariableStore};
use serde_json::Value;
use tch::Tensor;

const NAMES: [&str; 2] = ["kernel", "bias"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: optimize CASE")?;
    let folder = Path::new(&folder);
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    let tensors = Tensor::read_safetensors(folder.join("tensors.safetensors"))?;
    let mut results = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let named = optimize(case, &tensors).map_err(|error| format!("case {index}: {error}"))?;
        results.extend(
            named
                .into_iter()
                .map(|(name, tensor)| (format!("{index}/{name}"), tensor)),
        );
    }
    Tensor::write_safetensors(&results, folder.join("results.safetensors"))?;
    Ok(())
}

fn optimize(
    config: &Value,
    tensors: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, Box<dyn Error>> {
    let tensor = |name: &str| {
        let found = tensors.iter().find(|(other, _)| other == name);
        found
            .map(|(_, tensor)| tensor)
            .ok_or(format!("tensor {name} is missing"))
    };
    let mut variables = Vec::new();
    for name in NAMES {
        variables.push(Variable {
            path: format!("dense/{name}"),
            layer: 0,
            name: name.to_owned(),
            shape: tensor(name)?.size(),
            offset: 0,
        });
    }
    let mut store = VariableStore::zeros(variables, true)?;
    for (index, name) in NAMES.into_iter().enumerate() {
        store.set(index, &Vec::try_from(tensor(name)?.flatten(0, -1))?)?;
    }

    let mut optimizer = Optimizer::from_config(config, &store)?;
    for step in 0.. {
        let Ok(kernel) = tensor(&format!("kernel_{step}")) else {
            break;
        };
        let gradients = [
            kernel.flatten(0, -1),
            tensor(&format!("bias_{step}"))?.shallow_clone(),
        ];
        let mut gradients: Vec<f32> = Vec::try_from(Tensor::f_cat(&gradients, 0)?)?;
        optimizer.apply(store.as_mut_slice(), &mut gradients)?;
    }

    let mut results: Vec<_> = NAMES
        .into_iter()
        .zip(store.tensors())
        .map(|(name, tensor)| (name.to_owned(), tensor.detach()))
        .collect();
    for (index, variable) in optimizer.keras_variables().into_iter().enumerate() {
        let value = match variable.value {
            OptimizerValue::Integer(value) => Tensor::from(value),
            OptimizerValue::Floats(values) => Tensor::from_slice(values).reshape(variable.shape),
        };
        results.push((index.to_string(), value));
    }
    Ok(results)
}
