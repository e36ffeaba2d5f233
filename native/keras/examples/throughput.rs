//! Rows per second of training or prediction: `throughput FOLDER fit|predict`.
//!
//! The folder is one that `tests/bench/keras/prepare.py` wrote: `model.keras`, `data.safetensors`
//! with `x` and `y`, `settings.json` with the loss, the rows of a step and what is timed. A step is
//! gathering a batch, forward, loss, gradients and Adam. The last line is JSON: rows a second and
//! the peak memory in MB. Pin it to a core (`taskset -c 0`, `OMP_NUM_THREADS=1`) to compare it. It runs
//! on the device that FLAMBEAU_DEVICE names, `cpu` or `cuda`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use flambeau_keras::losses::Loss;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{IndexedSlices, Inference, Model, Pass, Rng, Value as Input};
use rand_core::SeedableRng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

type Failure = Box<dyn Error>;

struct Case {
    model: Model,
    x: Tensor,
    y: Tensor,
    settings: Value,
}

impl Case {
    fn read(folder: &Path) -> Result<Self, Failure> {
        let (mut model, _) = Model::from_bytes(&std::fs::read(folder.join("model.keras"))?)?;
        if std::env::var("FLAMBEAU_DEVICE").as_deref() == Ok("cuda") {
            flambeau_libtorch::gpus()?;
            model.set_device(Device::Cuda(0))?;
        }
        let tensors = Tensor::read_safetensors(folder.join("data.safetensors"))?;
        let tensor = |name: &str| {
            let found = tensors.iter().find(|(key, _)| key == name);
            found.map(|(_, tensor)| tensor.shallow_clone())
        };
        Ok(Self {
            model,
            x: tensor("x").ok_or("there is no x")?,
            y: tensor("y").ok_or("there is no y")?,
            settings: serde_json::from_slice(&std::fs::read(folder.join("settings.json"))?)?,
        })
    }

    fn number(&self, key: &str) -> i64 {
        self.settings[key].as_i64().unwrap_or(1)
    }

    /// Trains `steps` steps; gives the rows trained.
    fn fit(&mut self, trainer: &mut Trainer, steps: i64) -> Result<i64, Failure> {
        let (batch, device) = (self.number("batch"), self.model.device());
        let order = Tensor::f_randperm(steps * batch, (Kind::Int64, Device::Cpu))?;
        for step in 0..steps {
            let rows = order.f_narrow(0, step * batch, batch)?;
            let (x, y) = (
                self.x.f_index_select(0, &rows)?,
                self.y.f_index_select(0, &rows)?.f_to_device(device)?,
            );
            let mut pass = Pass::training(Rng::seed_from_u64(step.unsigned_abs()));
            let outputs = self.model.forward(&[Input::new(x)], &mut pass)?;
            let sums = trainer.loss.sums(&y, &outputs[0], None)?;
            let outcome = trainer.loss.outcome(&Vec::try_from(sums.f_detach()?)?);
            let slopes = Tensor::f_from_slice(&outcome.slopes)?.f_to_device(device)?;
            let minimised = sums.f_mul(&slopes)?;
            let scale = f64::from(trainer.optimizer.loss_scale());
            let minimised = minimised.f_sum(Kind::Double)?.f_mul_scalar(scale)?;
            let (gradients, slices) = (&mut trainer.gradients, &mut trainer.slices);
            let reached = self.model.gradients(&pass, &minimised, gradients, slices)?;
            let optimizer = &mut trainer.optimizer;
            self.model
                .trainable_mut()
                .change(|params| optimizer.apply(params, gradients, slices, &reached))??;
            self.model.apply_updates(&pass.updates)?;
        }
        Ok(steps * batch)
    }
}

/// Predicts the first `rows` of `x`.
fn predict(model: &Inference, x: &Tensor, rows: i64) -> Result<i64, Failure> {
    model.predict(&[Input::new(x.f_narrow(0, 0, rows)?)])?;
    Ok(rows)
}

struct Trainer {
    loss: Loss,
    optimizer: Optimizer,
    gradients: Vec<f32>,
    slices: Vec<IndexedSlices>,
}

/// Runs in a thread of its own, as a session does: memory comes from another arena there.
fn main() -> Result<(), Failure> {
    let timed = std::thread::spawn(|| run().map_err(|failure| failure.to_string()));
    let line = timed.join().map_err(|_| "the run panicked")??;
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}

fn run() -> Result<String, Failure> {
    let _memory = flambeau_libtorch::KeptMemory::begin();
    tch::set_num_threads(1);
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, mode] = arguments.as_slice() else {
        return Err("usage: throughput FOLDER fit|predict".into());
    };
    let mut case = Case::read(Path::new(folder))?;
    let (rows, elapsed) = if mode == "fit" {
        let mut optimizer = Optimizer::from_config(&json!("adam"), case.model.trainable())?;
        if case.model.trains_in_float16() {
            optimizer = optimizer.scaling_loss();
        }
        let mut trainer = Trainer {
            loss: Loss::from_config(&case.settings["loss"])?,
            gradients: vec![0.0; case.model.trainable().len()],
            slices: case.model.indexed_slices(optimizer.needs()),
            optimizer,
        };
        case.fit(&mut trainer, 1)?;
        let start = Instant::now();
        let steps = case.number("steps");
        (case.fit(&mut trainer, steps)?, start.elapsed())
    } else {
        let (warm_up, rows) = (case.number("predict_batch"), case.number("predicted"));
        let model = Inference::new(case.model)?;
        predict(&model, &case.x, warm_up)?;
        let start = Instant::now();
        (predict(&model, &case.x, rows)?, start.elapsed())
    };
    #[expect(clippy::cast_precision_loss, reason = "rows are few")]
    let rate = rows as f64 / elapsed.as_secs_f64();
    Ok(json!({"rate": rate, "memory": peak_memory()?}).to_string() + "\n")
}

/// The most memory that the process had resident, in MB.
fn peak_memory() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.ok_or("there is no VmHWM")?.parse()?;
    Ok(kilobytes / 1024.0)
}
