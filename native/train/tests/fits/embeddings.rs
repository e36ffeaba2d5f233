//! Matrices whose rows are looked up: ranks exchange the rows that any of them looked up, beside the
//! gradients of layers or behind them.

use crate::exactness::{dealt, relative_difference, weights};
use crate::ranks::{Job, dense, fit};
use flambeau_collective::{AbortHandle, Communicator, Secret};
use flambeau_keras::Model;
use flambeau_keras::optimizers::Optimizer;
use flambeau_train::batch::Batch;
use flambeau_train::objective::{Asked, Objective};
use flambeau_train::step::{Position, Trainer};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// An embedding of numbers up to `ids`, many of them several times in a batch.
pub(crate) fn embedded(ids: i64) -> Value {
    let half = ids / 2;
    json!([
        {"class_name": "Rescaling", "config": {"name": "ids", "scale": half, "offset": half}},
        {"class_name": "Embedding", "config": {
            "name": "embedding", "input_dim": ids + 1, "output_dim": 3,
            "embeddings_initializer": "uniform"}},
        {"class_name": "Flatten", "config": {"name": "flat"}},
        dense("logits", 2, "linear")
    ])
}

/// An embedding before layers whose gradients leave in buckets.
pub(crate) fn embedded_in_a_large_model(ids: i64) -> Value {
    let mut layers = embedded(ids);
    let layers = layers.as_array_mut().unwrap();
    let deep = [dense("first", 700, "relu"), dense("second", 1700, "relu")];
    layers.splice(3..3, deep);
    json!(layers)
}

/// Two ranks, one of which has no rows in every other step: the weights of both, and whether all of the
/// share left at once.
#[test]
fn rows_behind_buckets_are_those_that_leave_at_once() {
    let train = |optimizer: &Value, ids: i64, at_once: bool| {
        let job = Job {
            transports: "tcp",
            ..Job::new(embedded_in_a_large_model(ids), json!({}))
        };
        let model = job.model.to_string();
        std::thread::scope(|scope| {
            let ranks = [0, 1].map(|rank| {
                let (job, model, config) = (&job, &model, job.collective(rank, 2));
                scope.spawn(move || {
                    let mut model = Model::from_json(model).unwrap();
                    model.initialize(1).unwrap();
                    let optimizer = Optimizer::from_config(optimizer, model.trainable()).unwrap();
                    let loss = Asked {
                        loss: job.fit["loss"].clone(),
                        ..Asked::default()
                    };
                    let objective = Objective::new(&model, &loss).unwrap();
                    let abort = AbortHandle::new();
                    let communicator =
                        Communicator::connect(&config, &Secret::new([5; 32]), &abort);
                    let mut trainer =
                        Trainer::new(model, objective, optimizer, communicator.unwrap(), 3)
                            .unwrap();
                    if at_once {
                        trainer.send_at_once();
                    }
                    for step in 1..=4 {
                        let x = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([12, 4]);
                        let x = ((x + step as f64) * 0.37).sin() * (rank as f64 + 0.5) / 1.5;
                        let y = Tensor::arange(12, (Kind::Int64, Device::Cpu)).remainder(2);
                        let batch = Batch {
                            rows: 12,
                            inputs: vec![x.into()],
                            labels: vec![Some(y)],
                            weights: None,
                        };
                        let batch = (rank == 0 || step % 2 == 0).then_some(&batch);
                        let at = Position { epoch: 1, step };
                        trainer.step(batch, true, at, true).unwrap();
                    }
                    let weights = trainer.model().trainable().as_slice().unwrap().to_vec();
                    trainer.close().unwrap();
                    weights
                })
            });
            ranks.map(|rank| rank.join().unwrap())
        })
    };
    for optimizer in [
        json!("adam"),
        json!("adagrad"),
        json!({"class_name": "SGD", "config": {"global_clipnorm": 0.01}}),
    ] {
        for ids in [40_000, 300] {
            let [first, second] = train(&optimizer, ids, false);
            assert!(first == second, "{optimizer}, {ids} ids: ranks differ");
            let [at_once, _] = train(&optimizer, ids, true);
            assert!(first == at_once, "{optimizer}, {ids} ids");
        }
    }
}

/// Several ranks, some of them idle, come to what one does on `rows` rows with each optimizer, and to
/// the same bits each time; with so many ids that ranks exchange rows, and so few that they exchange
/// whole matrices.
fn several_ranks_train_as_one(model: fn(i64) -> Value, rows: usize, optimizers: &[Value]) {
    for (optimizer, ids) in optimizers
        .iter()
        .flat_map(|optimizer| [(optimizer, 40_000), (optimizer, 300)])
    {
        let train = |ranks: usize, idle: usize| {
            let directory = tempfile::tempdir().unwrap();
            let settings = json!({"shuffle": false, "batch_size": 96 / ranks, "epochs": 2,
                                  "optimizer": optimizer});
            let mut partitions = dealt(ranks, rows, 96 / ranks);
            partitions.extend((0..idle).map(|_| Vec::new()));
            let job = Job {
                transports: "tcp",
                ..Job::new(model(ids), settings)
            };
            let result = fit(&job, &partitions, directory.path());
            (weights(directory.path()), result.digest)
        };
        let (one, _) = train(1, 0);
        for (ranks, idle) in [(2, 0), (3, 0), (1, 1), (2, 1)] {
            let (many, digest) = train(ranks, idle);
            let difference = relative_difference(&many, &one);
            let what = format!("{optimizer}, {ids} ids, {ranks} ranks, {idle} idle");
            assert!(difference < 1e-5, "{what}: {difference}");
            assert_eq!(train(ranks, idle).1, digest, "{what}");
        }
    }
}

/// Of a large model the gradients of layers leave in buckets, and rows behind them.
#[test]
fn an_embedding_in_a_large_model_of_several_ranks_is_that_of_one() {
    let optimizers = [
        json!({"class_name": "SGD", "config": {"learning_rate": 0.1, "global_clipnorm": 0.01}}),
        json!({"class_name": "Adam", "config": {"learning_rate": 0.001}}),
        json!({"class_name": "Adagrad", "config": {"learning_rate": 0.01}}),
        json!({"class_name": "RMSprop", "config": {"learning_rate": 0.001, "clipvalue": 1e-4}}),
    ];
    several_ranks_train_as_one(embedded_in_a_large_model, 500, &optimizers);
}

#[test]
fn an_embedding_of_several_ranks_is_that_of_one() {
    let optimizers = [
        json!({"class_name": "SGD", "config": {"learning_rate": 0.1, "global_clipnorm": 0.01}}),
        json!({"class_name": "Adam", "config": {"learning_rate": 0.01}}),
        json!({"class_name": "Adamax", "config": {"learning_rate": 0.01, "clipnorm": 0.01}}),
        json!({"class_name": "Adagrad", "config": {"gradient_accumulation_steps": 2}}),
        json!({"class_name": "Adagrad", "config": {"learning_rate": 0.05, "clipvalue": 1e-3}}),
        json!({"class_name": "RMSprop", "config": {"learning_rate": 0.01, "clipvalue": 1e-4}}),
    ];
    several_ranks_train_as_one(embedded, 1000, &optimizers);
}
