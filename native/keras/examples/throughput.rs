//! Rows per second of training and prediction of the MNIST CNN: `throughput [STEPS]`.
//!
//! One step is forward, loss, gradients and Adam on a batch of 64 random images. Pin it to a core
//! (`taskset -c 0`, `OMP_NUM_THREADS=1`) to compare it with TensorFlow.

use std::error::Error;
use std::time::Instant;

use flambeau_keras::losses::Loss;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Model, Pass, Rng, Value as Batch};
use rand_core::SeedableRng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 64;
const PREDICTED: i64 = 10_000;

fn mnist_cnn() -> Value {
    let layer = |class: &str, config: Value| json!({"class_name": class, "config": config});
    let layers = [
        layer(
            "InputLayer",
            json!({"name": "in", "batch_shape": [null, 28, 28, 1]}),
        ),
        layer(
            "Rescaling",
            json!({"name": "rescaling", "scale": 1.0 / 255.0}),
        ),
        layer(
            "Conv2D",
            json!({"name": "conv2d", "filters": 32, "kernel_size": 3, "activation": "relu"}),
        ),
        layer("MaxPooling2D", json!({"name": "pool", "pool_size": 2})),
        layer("Flatten", json!({"name": "flatten"})),
        layer(
            "Dense",
            json!({"name": "hidden", "units": 64, "activation": "relu"}),
        ),
        layer(
            "Dense",
            json!({"name": "out", "units": 10, "activation": "softmax"}),
        ),
    ];
    json!({"class_name": "Sequential", "config": {"name": "mnist", "layers": layers}})
}

fn main() -> Result<(), Box<dyn Error>> {
    let steps: u32 = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("500")
        .parse()?;
    let (mut model, _) = Model::from_config(mnist_cnn())?;
    model.initialize(1)?;
    let loss = Loss::from_config(&json!("sparse_categorical_crossentropy"))?;
    let mut optimizer = Optimizer::from_config(&json!("adam"), model.trainable())?;
    let mut gradients = vec![0.0; model.trainable().len()];
    let x = Tensor::f_randint(256, [BATCH, 784], (Kind::Uint8, Device::Cpu))?;
    let labels = Tensor::f_randint(10, [BATCH], (Kind::Int64, Device::Cpu))?;

    let mut train = |steps: u32| -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        for step in 0..steps {
            let mut pass = Pass::training(Rng::seed_from_u64(step.into()));
            let outputs = model.forward(&[Batch::new(x.shallow_clone())], &mut pass)?;
            let sums = loss.sums(&labels, &outputs[0], None)?;
            let outcome = loss.outcome(&Vec::try_from(sums.f_detach()?)?);
            let minimised = sums.f_mul(&Tensor::f_from_slice(&outcome.slopes)?)?;
            let reached = model.gradients(&minimised.f_sum(Kind::Double)?, &mut gradients)?;
            let params = model.trainable_mut().as_mut_slice();
            optimizer.apply(params, &mut gradients, &reached)?;
        }
        Ok(f64::from(steps) * BATCH as f64 / start.elapsed().as_secs_f64())
    };
    train(steps / 10 + 1)?;
    let trained = train(steps)?;
    let images = Tensor::f_randint(256, [PREDICTED, 784], (Kind::Uint8, Device::Cpu))?;
    let images = [Batch::new(images)];
    let first = model.predict(&images)?;
    let start = Instant::now();
    let second = model.predict(&images)?;
    let elapsed = start.elapsed();
    if !first[0].f_equal(&second[0])? {
        return Err("two predictions of the same images differ".into());
    }
    let predicted = PREDICTED as f64 / elapsed.as_secs_f64();
    let line = format!("trained {trained:.0} rows/s, predicted {predicted:.0} rows/s\n");
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}
