//! Where a fit stands between two epochs, in a checkpoint and on every rank.
//!
//! A checkpoint is written at the end of an epoch. Since the order of rows, Dropout and every
//! other random choice depend only on seed, epoch, rank and step, a fit that goes on from it ends
//! with the same bits as one that was never interrupted.

use crate::error::Error;
use crate::event::{History, Logs};
use crate::step::Trainer;
use flambeau_formats::array::Array;
use flambeau_formats::checkpoint::Checkpoint;
use flambeau_keras::VariableStore;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// What besides weights and optimizer state makes up the state of a fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Epochs done.
    pub epochs: usize,
    /// Steps done.
    pub step: u64,
    /// Optimizer updates done, which differ from steps in a model trained before.
    pub iterations: u64,
    /// One value per epoch for each metric.
    pub history: History,
    /// Training rows used in each epoch.
    pub rows: Vec<u64>,
    /// The first step of this attempt.
    #[serde(skip)]
    pub first_step: u64,
}

impl State {
    /// Takes down an epoch.
    pub fn end_epoch(&mut self, logs: &Logs, rows: u64) {
        self.epochs += 1;
        self.rows.push(rows);
        for (name, value) in logs {
            let values = self
                .history
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = values {
                values.push(value.clone());
            }
        }
    }

    /// Weights, optimizer state and this as a checkpoint.
    ///
    /// # Errors
    /// [`Error::Config`] if the state cannot be written as JSON, which is a bug.
    pub fn checkpoint(&self, trainer: &Trainer) -> Result<Checkpoint, Error> {
        let state = Self {
            iterations: trainer.optimizer().iterations(),
            ..self.clone()
        };
        let manifest = serde_json::to_value(&state).map_err(unreadable)?;
        let model = trainer.model();
        let mut tensors = arrays("", model.trainable(), model.trainable().as_slice());
        tensors.extend(arrays(
            "",
            model.non_trainable(),
            model.non_trainable().as_slice(),
        ));
        for (slot, values) in trainer.optimizer().slots() {
            tensors.extend(arrays(
                &format!("optimizer/{slot}/"),
                model.trainable(),
                values,
            ));
        }
        Ok(Checkpoint {
            step: self.step,
            manifest,
            tensors,
        })
    }

    /// Gives `trainer` the checkpoint's weights and optimizer state.
    ///
    /// # Errors
    /// [`Error::Config`] for a checkpoint of another model.
    pub fn restore(checkpoint: Checkpoint, trainer: &mut Trainer) -> Result<Self, Error> {
        let state: Self = serde_json::from_value(checkpoint.manifest).map_err(unreadable)?;
        let mut arrays: HashMap<String, Array> = checkpoint.tensors.into_iter().collect();
        let names: Vec<_> = trainer.model().trainable().variables().to_vec();
        let model = trainer.model_mut();
        scatter(
            "",
            &names,
            &mut arrays,
            model.trainable_mut().as_mut_slice(),
        )?;
        let fixed = model.non_trainable().variables().to_vec();
        scatter(
            "",
            &fixed,
            &mut arrays,
            model.non_trainable_mut().as_mut_slice(),
        )?;
        for (slot, values) in trainer.optimizer_mut().slots_mut() {
            scatter(&format!("optimizer/{slot}/"), &names, &mut arrays, values)?;
        }
        trainer.optimizer_mut().set_iterations(state.iterations);
        Ok(state)
    }

    /// Brings every rank to the state of rank 0, whose `state` is the one that counts.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn broadcast(self, trainer: &mut Trainer) -> Result<Self, Error> {
        let iterations = trainer.optimizer().iterations();
        let json = serde_json::to_vec(&Self { iterations, ..self }).map_err(unreadable)?;
        let json = trainer.communicator_mut().broadcast_bytes(json)?;
        let mut state: Self = serde_json::from_slice(&json).map_err(unreadable)?;
        trainer.broadcast_values()?;
        trainer.optimizer_mut().set_iterations(state.iterations);
        state.first_step = state.step + 1;
        Ok(state)
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Config(format!(
        "the state in the checkpoint cannot be read: {error}"
    ))
}

fn arrays(prefix: &str, store: &VariableStore, values: &[f32]) -> Vec<(String, Array)> {
    let variables = store.variables().iter();
    variables
        .map(|variable| {
            let shape = variable
                .shape
                .iter()
                .map(|&n| usize::try_from(n).unwrap_or(0))
                .collect();
            let data = values[variable.span()].to_vec();
            (format!("{prefix}{}", variable.path), Array { shape, data })
        })
        .collect()
}

fn scatter(
    prefix: &str,
    variables: &[flambeau_keras::Variable],
    arrays: &mut HashMap<String, Array>,
    values: &mut [f32],
) -> Result<(), Error> {
    for variable in variables {
        let name = format!("{prefix}{}", variable.path);
        let array = arrays.remove(&name).ok_or_else(|| {
            Error::Config(format!(
                "the checkpoint has no tensor '{name}': it is of another model"
            ))
        })?;
        let target = &mut values[variable.span()];
        if array.data.len() != target.len() {
            return Err(Error::Config(format!(
                "tensor '{name}' of the checkpoint has shape {:?}, the model's has {:?}",
                array.shape, variable.shape
            )));
        }
        target.copy_from_slice(&array.data);
    }
    Ok(())
}
