//! Where a fit stands between two steps, in a checkpoint and on every rank.
//!
//! Since the order of rows, Dropout and every other random choice depend only on seed, pass over the
//! data, rank and step, a fit that goes on from a checkpoint ends with the same bits as one that was
//! never interrupted, also in the middle of an epoch.

use crate::config;
use crate::dataset::Cursor;
use crate::error::Error;
use crate::event::{History, Logs};
use crate::servers::Tally;
use crate::step::{Stepped, Totals, Trainer};
use flambeau_formats::array::Array;
use flambeau_formats::checkpoint::Checkpoint;
use flambeau_keras::VariableStore;
use flambeau_keras::optimizers::{Optimizer, OptimizerValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// What besides weights and optimizer state makes up the state of a fit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Epochs done: of a stream, on this micro-batch.
    pub epochs: usize,
    /// Steps done.
    pub step: u64,
    /// Where the ranks stand in their rows.
    #[serde(default)]
    pub cursor: Cursor,
    /// What an epoch has come to that is not over.
    #[serde(default)]
    pub unfinished: Option<Unfinished>,
    /// Whole numbers of the optimizer's state by key, such as its iterations.
    pub counts: BTreeMap<String, i64>,
    /// One value per epoch for each metric.
    pub history: History,
    /// Training rows used in each epoch.
    pub rows: Vec<u64>,
    /// The micro-batch of a stream that all this is of, but for the steps done since its beginning.
    #[serde(default)]
    pub micro_batch: Option<u64>,
    /// What server 0 knows of the workers of an asynchronous fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
    /// What a fit that goes on from here must have in common with this one.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
    /// The first step of this attempt.
    #[serde(skip)]
    pub first_step: u64,
}

/// The steps of an epoch so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// How many.
    pub steps: u64,
    /// Their sums over all ranks.
    pub totals: Totals,
    /// Whether the epoch has no more steps, but may yet have to be validated.
    #[serde(default)]
    pub trained: bool,
}

impl Unfinished {
    /// An epoch that begins, given the sums of nothing.
    pub fn new(nothing: Totals) -> Self {
        Self {
            steps: 0,
            totals: nothing,
            trained: false,
        }
    }
}

impl State {
    /// Goes on to micro-batch `number` of a stream: this state must be of it or of the one before.
    ///
    /// # Errors
    /// [`Error::Config`] otherwise.
    pub fn enter(self, number: u64) -> Result<Self, Error> {
        let next = self.micro_batch.map_or(0, |number| number + 1);
        if self.micro_batch == Some(number) {
            return Ok(self);
        }
        if next == number {
            return Ok(Self {
                step: self.step,
                counts: self.counts,
                micro_batch: Some(number),
                first_step: self.first_step,
                ..Self::default()
            });
        }
        let found = match self.micro_batch {
            Some(found) => format!("holds the model after micro-batch {found}"),
            None => "holds no model of this stream".to_owned(),
        };
        Err(Error::Config(format!(
            "micro-batch {number} of the stream goes on from the one before it, but modelDir {found}: \
             bring back the directory that belongs to the stream's checkpointLocation, or start both \
             anew"
        )))
    }

    /// Takes down steps of the epoch that is not over, and what ends with them.
    pub fn step(&mut self, stepped: &Stepped, settings: &config::Fit) {
        self.step += stepped.steps;
        self.cursor.batches += stepped.steps;
        if !stepped.more {
            self.cursor = Cursor {
                passes: self.cursor.passes + 1,
                batches: 0,
            };
        }
        if let Some(epoch) = &mut self.unfinished {
            epoch.steps += stepped.steps;
            epoch.totals.add(&stepped.totals);
            epoch.trained = settings.ends_epoch(epoch.steps, self.step, stepped.more);
        }
    }

    /// Takes down an epoch.
    pub fn end_epoch(&mut self, logs: &Logs, rows: u64) {
        self.epochs += 1;
        self.unfinished = None;
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

    /// This with the whole numbers of `optimizer`, as a checkpoint has it.
    ///
    /// # Errors
    /// [`Error::Config`] if it cannot be written as JSON, which is a bug.
    pub(crate) fn manifest(&self, optimizer: &Optimizer) -> Result<Value, Error> {
        let state = Self {
            counts: counts(optimizer),
            ..self.clone()
        };
        serde_json::to_value(&state).map_err(unreadable)
    }

    /// Weights, optimizer state and this as a checkpoint. Where the optimizer's state is sharded every
    /// rank must call this or [`Trainer::lend_state`], and rank 0 this. Not on a mesh.
    ///
    /// # Errors
    /// [`Error::Config`] if the state cannot be written as JSON, which is a bug; [`Error::Collective`].
    pub fn checkpoint(&self, trainer: &mut Trainer) -> Result<Checkpoint, Error> {
        let manifest = self.manifest(trainer.optimizer())?;
        let model = trainer.model();
        let mut tensors = arrays(model.trainable())?;
        tensors.extend(arrays(model.non_trainable())?);
        trainer.each_optimizer_variable(|variable, values| {
            let array = Array::new(sizes(variable.shape), values).map_err(unwritable)?;
            tensors.push((format!("{OPTIMIZER}{}", variable.key), array));
            Ok(())
        })?;
        Ok(Checkpoint {
            step: self.step,
            manifest,
            tensors,
        })
    }

    /// What a checkpoint has besides weights and optimizer state.
    ///
    /// # Errors
    /// [`Error::Config`] for a checkpoint of another kind.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, Error> {
        Self::deserialize(&checkpoint.manifest).map_err(unreadable)
    }

    /// Gives `trainer` the checkpoint's weights and optimizer state.
    ///
    /// # Errors
    /// [`Error::Config`] for a checkpoint of another model, [`Error::Keras`] for one of another
    /// optimizer.
    pub fn restore(checkpoint: &Checkpoint, trainer: &mut Trainer) -> Result<Self, Error> {
        let state = Self::of(checkpoint)?;
        let arrays = stored(&checkpoint.tensors)?;
        let model = trainer.model_mut();
        scatter(&arrays, model.trainable_mut())?;
        scatter(&arrays, model.non_trainable_mut())?;
        let optimizer = trainer.optimizer_mut();
        // What the optimizer has says of which type each of its variables is.
        let own: Vec<(String, Vec<i64>, bool)> = optimizer
            .variables()
            .into_iter()
            .map(|own| {
                let short = matches!(own.value, OptimizerValue::Int32(_));
                (own.key, own.shape.to_vec(), short)
            })
            .collect();
        optimizer.restore(|key| {
            let (_, shape, short) = own.iter().find(|(known, ..)| known == key)?;
            let value = match state.counts.get(key) {
                Some(&count) if *short => OptimizerValue::Int32(i32::try_from(count).ok()?),
                Some(&count) => OptimizerValue::Int64(count),
                None => {
                    let array = arrays.get(&format!("{OPTIMIZER}{key}"))?;
                    (array.shape == sizes(shape)).then_some(OptimizerValue::Float32(&array.data))?
                }
            };
            Some((shape.as_slice(), value))
        })?;
        Ok(state)
    }

    /// Brings every rank to the state of rank `root`, which has taken it from its `checkpoint`, if from
    /// any.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Config`].
    pub fn broadcast(
        self,
        root: usize,
        trainer: &mut Trainer,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let counts = counts(trainer.optimizer());
        let json = serde_json::to_vec(&Self { counts, ..self }).map_err(unreadable)?;
        let json = trainer.communicator_mut().broadcast_bytes(root, json)?;
        let state: Self = serde_json::from_slice(&json).map_err(unreadable)?;
        trainer.broadcast_values(root, &state.counts, |key| {
            let name = format!("{OPTIMIZER}{key}");
            let tensors = checkpoint.iter().flat_map(|one| &one.tensors);
            let found = tensors.into_iter().find(|(known, _)| *known == name);
            let values = found.map(|(_, array)| array.values());
            values.transpose().map_err(|error| {
                Error::Config(format!("tensor '{name}' of the checkpoint: {error}"))
            })
        })?;
        Ok(state)
    }
}

/// Before the keys of the optimizer's variables in a checkpoint.
pub(crate) const OPTIMIZER: &str = "optimizer/";

/// The whole numbers of an optimizer's state.
fn counts(optimizer: &Optimizer) -> BTreeMap<String, i64> {
    let variables = optimizer.variables().into_iter();
    let counts = variables.filter_map(|variable| match variable.value {
        OptimizerValue::Int64(count) => Some((variable.key, count)),
        OptimizerValue::Int32(count) => Some((variable.key, count.into())),
        OptimizerValue::Float32(_) => None,
    });
    counts.collect()
}

fn sizes(shape: &[i64]) -> Vec<usize> {
    let axes = shape.iter().map(|&n| usize::try_from(n).unwrap_or(0));
    axes.collect()
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Config(format!(
        "the state in the checkpoint cannot be read: {error}"
    ))
}

fn arrays(store: &VariableStore) -> Result<Vec<(String, Array)>, Error> {
    let values = store.as_slice()?;
    let variables = store.variables().iter();
    variables
        .map(|variable| {
            let data = &values[variable.span()];
            let array = Array::new(variable.sizes(), data).map_err(unwritable)?;
            Ok((variable.path.clone(), array))
        })
        .collect()
}

fn unwritable(error: flambeau_formats::Error) -> Error {
    Error::Config(format!("the state cannot be written: {error}"))
}

/// A tensor of a checkpoint.
struct Stored {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// The tensors of a checkpoint by name.
fn stored(tensors: &[(String, Array)]) -> Result<HashMap<String, Stored>, Error> {
    let tensors = tensors.iter();
    tensors
        .map(|(name, array)| {
            let shape = array.shape().to_vec();
            match array.values() {
                Ok(data) => Ok((name.clone(), Stored { shape, data })),
                Err(error) => Err(Error::Config(format!("tensor '{name}': {error}"))),
            }
        })
        .collect()
}

fn scatter(arrays: &HashMap<String, Stored>, store: &mut VariableStore) -> Result<(), Error> {
    for index in 0..store.variables().len() {
        let variable = &store.variables()[index];
        let name = &variable.path;
        let array = arrays.get(name).ok_or_else(|| {
            Error::Config(format!(
                "the checkpoint has no tensor '{name}': it is of another model"
            ))
        })?;
        if array.shape != variable.sizes() {
            return Err(Error::Config(format!(
                "tensor '{name}' of the checkpoint has shape {:?}, the model's has {:?}",
                array.shape, variable.shape
            )));
        }
        store.set(index, &array.data)?;
    }
    Ok(())
}
