//! Every format gives back what it was given.

use flambeau_formats::legacy_h5::LegacyFile;
use serde_json::json;

use super::*;
use crate::archive::{InitialWeights, ReadOptions};
use crate::export::Export;

/// A Sequential with a nested Sequential, whose batch normalization has variables of both kinds.
fn model() -> Model {
    ending_in(2)
}

fn ending_in(units: usize) -> Model {
    let dense = |name: &str, units: usize| json!({"class_name": "Dense", "config": {"name": name, "units": units}});
    let input =
        json!({"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [null, 3]}});
    let inner = json!({"class_name": "Sequential", "config": {"name": "inner", "layers": [
        {"class_name": "InputLayer", "config": {"name": "j", "batch_shape": [null, 4]}},
        {"class_name": "BatchNormalization", "config": {"name": "norm"}},
        dense("second", 5),
    ]}});
    let config = json!({"class_name": "Sequential", "config": {"name": "outer", "layers": [
        input, dense("first", 4), inner, dense("last", units),
    ]}});
    let mut model = Model::from_json(&config.to_string()).unwrap();
    model.initialize(7).unwrap();
    model
}

fn values(model: &Model) -> Vec<f32> {
    let stores = [
        model.trainable().as_slice().unwrap(),
        model.non_trainable().as_slice().unwrap(),
    ];
    stores.concat()
}

#[test]
fn weights_come_back_from_every_format() {
    let model = model();
    let weights = Export::of(&model)
        .weights_file()
        .unwrap()
        .to_bytes()
        .unwrap();
    let legacy = Export::of(&model).legacy_file().unwrap();
    let legacy = legacy.to_bytes().unwrap();
    let mut data = Vec::new();
    let index = Export::of(&model).write_checkpoint(&mut data).unwrap();
    let archive = model.to_archive(None, None).unwrap();
    for files in [
        vec![weights],
        vec![legacy],
        vec![index, data],
        vec![archive],
    ] {
        let options = ReadOptions {
            initial: Some(InitialWeights {
                weights: Weights::from_files(&files).unwrap(),
                skip_mismatch: false,
            }),
            // The order of a legacy file is that of the model as it was saved.
            frozen_layers: vec!["inner".to_owned()],
            ..ReadOptions::default()
        };
        let (again, loaded) = Model::read(model.to_json().as_bytes(), &options).unwrap();
        assert!(loaded.weights);
        for variable in model.trainable().variables() {
            let find = |model: &Model| -> Vec<f32> {
                let stores = [model.trainable(), model.non_trainable()];
                let mut found = stores.iter().flat_map(|store| {
                    let at = store
                        .variables()
                        .iter()
                        .position(|own| own.path == variable.path);
                    at.map(|at| store.values(at).unwrap().to_vec())
                });
                found.next().unwrap()
            };
            assert_eq!(find(&again), find(&model), "{}", variable.path);
        }
    }
}

#[test]
fn a_legacy_file_is_a_model() {
    let model = model();
    let legacy = Export::of(&model).legacy_file().unwrap();
    let bytes = legacy.to_bytes().unwrap();
    let (again, loaded) = Model::from_bytes(&bytes).unwrap();
    assert!(loaded.weights);
    assert_eq!(values(&again), values(&model));
    let only_weights = LegacyFile {
        model_config: None,
        ..legacy
    };
    let error = Model::from_bytes(&only_weights.to_bytes().unwrap()).unwrap_err();
    assert!(error.to_string().contains("weights only"), "{error}");
}

#[test]
fn layers_that_differ_are_named_or_skipped() {
    let model = model();
    let weights = Export::of(&model)
        .weights_file()
        .unwrap()
        .to_bytes()
        .unwrap();
    let wider = ending_in(3).to_json();
    let read = |skip_mismatch| {
        let options = ReadOptions {
            initial: Some(InitialWeights {
                weights: Weights::from_files(&[&weights]).unwrap(),
                skip_mismatch,
            }),
            seed: Some(1),
            ..ReadOptions::default()
        };
        Model::read(wider.as_bytes(), &options)
    };
    let error = read(false).unwrap_err().to_string();
    assert!(
        error.contains("last/kernel") && error.contains("[5, 2]"),
        "{error}"
    );
    let (again, loaded) = read(true).unwrap();
    assert!(!loaded.weights);
    let first = model.trainable().values(0).unwrap();
    assert_eq!(again.trainable().values(0).unwrap(), first);
    let last = again.trainable().variables().len() - 2;
    assert!(
        again
            .trainable()
            .values(last)
            .unwrap()
            .iter()
            .any(|&value| value != 0.0)
    );
}

#[test]
fn checkpoints_name_what_they_lack() {
    let small = json!({"class_name": "Sequential", "config": {"name": "other", "layers": [
        {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [null, 3]}},
        {"class_name": "Dense", "config": {"name": "only", "units": 4}},
    ]}});
    let small = Model::from_json(&small.to_string()).unwrap();
    let mut data = Vec::new();
    let index = Export::of(&small).write_checkpoint(&mut data).unwrap();
    let weights = Weights::from_files(&[index, data]).unwrap();
    let error = weights
        .find(model().targets(), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("inner/norm/gamma") && error.contains("save_counter"),
        "{error}"
    );
}
