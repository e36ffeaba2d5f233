//! Runs one recorded case for the parity tests: `forward FOLDER`.
//!
//! Reads `model.keras` or `model.json` with `weights.safetensors` (by variable path), and
//! `inputs.safetensors` (`x`, `g`). Writes `outputs.safetensors`: the inference output `y`, the
//! training output `training/y`, the gradients of `sum(y * g)` as `gradient/PATH`, the variables
//! after the updates as `updated/PATH`; and `exported.keras`, `exported.json`. `--initialize SEED`
//! starts the variables first.

use std::error::Error;
use std::path::Path;

use flambeau_keras::{Model, Pass, Rng, VariableStore};
use rand_core::SeedableRng;
use tch::Tensor;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(
        arguments
            .first()
            .ok_or("usage: forward FOLDER [--initialize SEED]")?,
    );
    let archive = folder.join("model.keras");
    let source = if archive.exists() {
        archive
    } else {
        folder.join("model.json")
    };
    let (mut model, _) = Model::from_bytes(&std::fs::read(source)?)?;
    if let [_, _, seed] = arguments.as_slice() {
        model.initialize(seed.parse()?)?;
    }
    let weights = folder.join("weights.safetensors");
    if weights.exists() {
        let weights = Tensor::read_safetensors(weights)?;
        load(model.trainable_mut(), &weights)?;
        load(model.non_trainable_mut(), &weights)?;
    }
    let inputs = Tensor::read_safetensors(folder.join("inputs.safetensors"))?;
    let input = |name: &str| {
        inputs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, tensor)| tensor)
            .ok_or("no such input")
    };

    let mut outputs = vec![("y".to_owned(), model.predict(input("x")?)?)];
    let mut pass = Pass::training(Rng::seed_from_u64(0));
    let output = model.forward(input("x")?, &mut pass)?;
    let y = output.y()?;
    outputs.push(("training/y".to_owned(), output.values()?.shallow_clone()));
    let loss = y.f_mul(input("g")?)?.f_sum(tch::Kind::Float)?;
    let mut gradients = vec![0.0; model.trainable().len()];
    model.gradients(&loss, &mut gradients)?;
    for variable in model.trainable().variables() {
        let gradient = Tensor::f_from_slice(&gradients[variable.span()])?;
        let name = format!("gradient/{}", variable.path);
        outputs.push((name, gradient.f_reshape(variable.shape.as_slice())?));
    }
    model.apply_updates(&pass.updates)?;
    for store in [model.trainable(), model.non_trainable()] {
        for (index, variable) in store.variables().iter().enumerate() {
            outputs.push((
                format!("updated/{}", variable.path),
                store.tensor(index).f_detach()?,
            ));
        }
    }
    let outputs: Vec<_> = outputs
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.f_contiguous()?)))
        .collect::<Result<_, Failure>>()?;
    Tensor::write_safetensors(&outputs, folder.join("outputs.safetensors"))?;
    std::fs::write(folder.join("exported.keras"), model.to_archive(None, None)?)?;
    std::fs::write(folder.join("exported.json"), model.to_json())?;
    Ok(())
}

fn load(store: &mut VariableStore, weights: &[(String, Tensor)]) -> Result<(), Failure> {
    for index in 0..store.variables().len() {
        let variable = &store.variables()[index];
        let (_, tensor) = weights
            .iter()
            .find(|(path, _)| *path == variable.path)
            .ok_or_else(|| format!("no weight {}", variable.path))?;
        if tensor.size() != variable.shape {
            return Err(format!("{} has shape {:?}", variable.path, tensor.size()).into());
        }
        let values: Vec<f32> = Vec::try_from(tensor.f_contiguous()?.f_view([-1])?)?;
        store.set(index, &values)?;
    }
    Ok(())
}
