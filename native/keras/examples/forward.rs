//! Runs recorded cases for the parity tests: `forward FOLDER [--initialize SEED]`.
//!
//! Every folder CASE below FOLDER holds `model.keras`, or `model.json` with `weights.safetensors`
//! (by variable path), and `inputs.safetensors`: `x/0`, `x/1`, .. for the model's inputs and
//! `g/0`, .. for its outputs; an input of strings lies in `strings.json` as `{"0": {"shape",
//! "items"}}`. Written is CASE's `outputs.safetensors`: the inference outputs `y/0`, .., the
//! training outputs `training/0`, .. with `mask/0`, .. where they have masks, the added losses
//! `losses`, the gradients of `sum(y * g) + losses` as `gradient/PATH` and, for floating-point
//! inputs, `input/0`, .., the variables after the updates as `updated/PATH`; and `exported.keras`,
//! `exported.json`. A case that fails leaves its message in `error.txt` instead. Models run on the
//! device that FLAMBEAU_DEVICE names, `cpu` or `cuda`.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use flambeau_keras::{Inference, Model, Pass, Rng, Strings, Value};
use rand_core::SeedableRng;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

type Failure = Box<dyn Error>;
type Named = Vec<(String, Tensor)>;

#[derive(Deserialize)]
struct StringInput {
    shape: Vec<i64>,
    items: Vec<String>,
}

fn main() -> Result<(), Failure> {
    flambeau_libtorch::set_up();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments
        .first()
        .ok_or("usage: forward FOLDER [--initialize SEED]")?;
    let seed = match arguments.as_slice() {
        [_, _, seed] => Some(seed.parse()?),
        _ => None,
    };
    tch::set_num_threads(1);
    for entry in std::fs::read_dir(folder)? {
        let case = entry?.path();
        if !case.join("inputs.safetensors").exists() {
            continue;
        }
        if let Err(error) = run(&case, seed) {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            std::fs::write(case.join("error.txt"), message)?;
        }
    }
    Ok(())
}

fn run(case: &Path, seed: Option<u64>) -> Result<(), Failure> {
    let archive = case.join("model.keras");
    let source = if archive.exists() {
        archive
    } else {
        case.join("model.json")
    };
    let source = std::fs::read(source)?;
    let weights = case.join("weights.safetensors");
    let read = || -> Result<Model, Failure> {
        let (mut model, _) = Model::from_bytes(&source)?;
        if let Some(seed) = seed {
            model.initialize(seed)?;
        }
        if weights.exists() {
            load(&mut model, &Tensor::read_safetensors(&weights)?)?;
        }
        model.set_device(device()?)?;
        Ok(model)
    };
    let mut model = read()?;
    let given = Tensor::read_safetensors(case.join("inputs.safetensors"))?;
    let strings = read_strings(&case.join("strings.json"))?;
    let inputs = (0..model.inputs().len()).map(|at| input(&given, &strings, at));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;

    let mut outputs: Named = Vec::new();
    let predicted = Inference::new(read()?)?.predict(&inputs)?;
    for (at, y) in predicted.into_iter().enumerate() {
        outputs.push((format!("y/{at}"), y));
    }
    train(&mut model, &given, &inputs, &mut outputs)?;
    let outputs: Vec<_> = outputs
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.f_to_device(Device::Cpu)?.f_contiguous()?)))
        .collect::<Result<_, Failure>>()?;
    Tensor::write_safetensors(&outputs, case.join("outputs.safetensors"))?;
    std::fs::write(case.join("exported.keras"), model.to_archive(None, None)?)?;
    std::fs::write(case.join("exported.json"), model.to_json())?;
    Ok(())
}

/// One training pass with its gradients and updates.
fn train(
    model: &mut Model,
    given: &Named,
    inputs: &[Value],
    outputs: &mut Named,
) -> Result<(), Failure> {
    let device = model.device();
    let leaves = inputs.iter().map(|value| match value.y() {
        Ok(x) if x.is_floating_point() => {
            let leaf = x.f_detach()?.f_to_device(device)?;
            let leaf = leaf.f_set_requires_grad(true)?;
            Ok((Value::new(leaf.shallow_clone()), Some(leaf)))
        }
        _ => Ok((value.clone(), None)),
    });
    let leaves = leaves.collect::<Result<Vec<_>, Failure>>()?;
    let values: Vec<Value> = leaves.iter().map(|(value, _)| value.clone()).collect();
    let mut pass = Pass::training(Rng::seed_from_u64(0));
    let results = model.forward(&values, &mut pass)?;
    let mut loss = Tensor::f_zeros([], (Kind::Float, device))?;
    for (at, result) in results.iter().enumerate() {
        let y = result.y()?;
        outputs.push((format!("training/{at}"), y.f_detach()?));
        if let Some(mask) = result.mask() {
            outputs.push((format!("mask/{at}"), mask.shallow_clone()));
        }
        if y.is_floating_point() {
            let g = find(given, &format!("g/{at}"))?.f_to_device(device)?;
            loss = loss.f_add(&y.f_to_kind(Kind::Float)?.f_mul(&g)?.f_sum(Kind::Float)?)?;
        }
    }
    let mut losses = Tensor::f_zeros([], (Kind::Float, device))?;
    for added in &pass.losses {
        losses = losses.f_add(added)?;
    }
    outputs.push(("losses".to_owned(), losses.f_detach()?));
    loss = loss.f_add(&losses)?;
    let mut gradients = vec![0.0; model.trainable().len()];
    let mut reached = vec![false; model.trainable().variables().len()];
    if loss.requires_grad() {
        let wanted: Vec<&Tensor> = leaves
            .iter()
            .filter_map(|(_, leaf)| leaf.as_ref())
            .collect();
        if !wanted.is_empty() {
            let found = Tensor::f_run_backward(&[&loss], &wanted, true, false)?;
            let floats = leaves.iter().enumerate();
            let floats = floats.filter(|(_, (_, leaf))| leaf.is_some());
            for ((at, _), gradient) in floats.zip(found) {
                if gradient.defined() {
                    outputs.push((format!("input/{at}"), gradient));
                }
            }
        }
        reached = model.gradients(&pass, &loss, &mut gradients, &mut [])?;
    }
    let variables = model.trainable().variables().iter().zip(reached);
    for (variable, _) in variables.filter(|(_, reached)| *reached) {
        let gradient = Tensor::f_from_slice(&gradients[variable.span()])?;
        let name = format!("gradient/{}", variable.path);
        outputs.push((name, gradient.f_reshape(variable.shape.as_slice())?));
    }
    model.apply_updates(&pass.updates)?;
    for group in model.weight_groups() {
        for &handle in &group.handles {
            let path = &model.variables().variable(handle).path;
            let name = format!("updated/{path}");
            // A variable may be in two groups.
            if outputs.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let value = model
                .variables()
                .tensor(handle)
                .f_detach()?
                .f_add_scalar(0.0)?;
            outputs.push((name, value));
        }
    }
    Ok(())
}

/// Where models run.
fn device() -> Result<Device, Failure> {
    match std::env::var("FLAMBEAU_DEVICE").as_deref() {
        Ok("cuda") => {
            flambeau_libtorch::gpus()?;
            Ok(Device::Cuda(0))
        }
        _ => Ok(Device::Cpu),
    }
}

fn find<'a>(tensors: &'a Named, name: &str) -> Result<&'a Tensor, Failure> {
    let found = tensors.iter().find(|(key, _)| key == name);
    found
        .map(|(_, tensor)| tensor)
        .ok_or_else(|| format!("there is no tensor {name}").into())
}

fn read_strings(path: &Path) -> Result<HashMap<String, StringInput>, Failure> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn input(
    given: &Named,
    strings: &HashMap<String, StringInput>,
    at: usize,
) -> Result<Value, Failure> {
    if let Some(StringInput { shape, items }) = strings.get(&at.to_string()) {
        let items = items.iter().map(|item| item.as_bytes().into());
        let strings = Strings::new(shape.clone(), items.collect())?;
        return Ok(Value::from_strings(strings));
    }
    Ok(Value::new(find(given, &format!("x/{at}"))?.shallow_clone()))
}

fn load(model: &mut Model, weights: &Named) -> Result<(), Failure> {
    for group in model.weight_groups().to_vec() {
        for handle in group.handles {
            let variable = model.variables().variable(handle).clone();
            let value = find(weights, &variable.path)?;
            if value.size() != variable.shape {
                return Err(format!("{} has shape {:?}", variable.path, value.size()).into());
            }
            model.variables_mut().set(handle, value)?;
        }
    }
    Ok(())
}
