//! Ranks that each keep the optimizer's state of some rows of a matrix whose rows are looked up: where no
//! others change, no others travel.

use crate::embeddings::{embedded, embedded_in_a_large_model};
use crate::ranks::{Job, fit, partitions};
use crate::sharded::{compare, job, optimizer};
use flambeau_collective::{AbortHandle, Communicator, Secret};
use flambeau_keras::Model;
use flambeau_keras::optimizers::Optimizer;
use flambeau_train::batch::Batch;
use flambeau_train::objective::{Asked, Objective};
use flambeau_train::step::{Position, Trainer};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// A number of ids whose embedding is exchanged by rows.
const IDS: i64 = 40_000;

#[test]
fn weights_and_state_are_those_of_ranks_that_keep_all() {
    let inner = json!({"class_name": "SGD", "config": {"learning_rate": 0.05}});
    for mut more in [
        optimizer("SGD", json!({"learning_rate": 0.05})),
        optimizer("Adagrad", json!({"learning_rate": 0.05})),
        optimizer("Adagrad", json!({"clipvalue": 0.001})),
        optimizer("Adagrad", json!({"global_clipnorm": 0.01})),
        optimizer("LossScaleOptimizer", json!({"inner_optimizer": inner})),
        optimizer("Adam", json!({})),
    ] {
        more["batch_size"] = json!(24);
        for transports in ["auto", "tcp"] {
            compare(&embedded(IDS), &[150, 0, 100], &more, transports);
            let large = embedded_in_a_large_model(IDS);
            compare(&large, &[90, 70], &more, transports);
        }
    }
}

/// A row that nobody looks up is made another on rank 1, where it is not its own: whether that is still so
/// after a step.
fn stays(described: &Value) -> bool {
    let job = Job::new(embedded(IDS), json!({}));
    let model = job.model.to_string();
    let weights = std::thread::scope(|scope| {
        let ranks = [0, 1].map(|rank| {
            let (job, model, config) = (&job, &model, job.collective(rank, 2));
            scope.spawn(move || {
                let mut model = Model::from_json(model).unwrap();
                model.initialize(1).unwrap();
                let optimizer = Optimizer::from_config(described, model.trainable()).unwrap();
                let asked = Asked {
                    loss: job.fit["loss"].clone(),
                    ..Asked::default()
                };
                let objective = Objective::new(&model, &asked).unwrap();
                let abort = AbortHandle::new();
                let ranks = Communicator::connect(&config, &Secret::new([5; 32]), &abort).unwrap();
                let mut trainer = Trainer::new(model, objective, optimizer, ranks, 3).unwrap();
                trainer.shard_optimizer_state().unwrap();
                if rank == 1 {
                    let weights = trainer.model_mut().trainable_mut();
                    weights.change(|weights| weights[0] = 1.0).unwrap();
                }
                // Around the middle of the matrix.
                let x = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([12, 4]);
                let batch = Batch {
                    rows: 12,
                    inputs: vec![((x * 0.37).sin() * (rank as f64 + 0.5) * 0.2).into()],
                    labels: vec![Some(Tensor::zeros([12], (Kind::Int64, Device::Cpu)))],
                    weights: None,
                };
                let at = Position { epoch: 1, step: 1 };
                trainer.step(Some(&batch), true, at, true).unwrap();
                let weights = trainer.model().trainable().as_slice().unwrap().to_vec();
                trainer.close().unwrap();
                weights
            })
        });
        ranks.map(|rank| rank.join().unwrap())
    });
    let [first, second] = weights;
    assert_eq!(first[1..], second[1..], "{described}");
    second[0] == 1.0
}

#[test]
fn rows_that_nobody_looked_up_travel_where_they_change() {
    assert!(stays(&json!("adagrad")));
    assert!(stays(
        &json!({"class_name": "SGD", "config": {"clipnorm": 0.1}})
    ));
    assert!(!stays(&json!("adam")));
    assert!(!stays(
        &json!({"class_name": "SGD", "config": {"weight_decay": 0.01}})
    ));
}

#[test]
fn embeddings_whose_weights_all_travel_are_told_of() {
    for (ids, sharded, described, told) in [
        (IDS, true, "adam", true),
        (IDS, true, "adagrad", false),
        (IDS, false, "adam", false),
        (300, true, "adam", false),
    ] {
        let more = json!({"epochs": 1, "optimizer": described});
        let job = job(embedded(ids), sharded, &more);
        let folder = tempfile::tempdir().unwrap();
        fit(&job, &partitions(&[40, 40]), folder.path());
        let warnings = job.warnings.lock().unwrap().join("; ");
        let message = "all weights of embedding/embeddings (0.5 MB) travel in each step";
        assert_eq!(warnings.contains(message), told, "{warnings}");
    }
}
