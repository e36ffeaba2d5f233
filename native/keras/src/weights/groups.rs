//! Keras 3's weights file: a layer's variables are in the group of its path.

use std::collections::BTreeMap;

use flambeau_formats::Array;
use flambeau_formats::weights_h5::{Variables, WeightsFile};

use super::{OptimizerArray, Part, Targets, written, zipped};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::optimizers::{Optimizer, OptimizerValue};

/// The optimizer's group. A LossScaleOptimizer has the variables of the one it wraps here too.
const OPTIMIZER: &str = "optimizer";

pub(super) fn parts<'f>(file: &'f WeightsFile, targets: Targets<'_>) -> Vec<Part<'f>> {
    let groups = targets.groups.iter();
    groups
        .map(|group| {
            let layer = file.group(&group.group);
            let vars = layer.map(|layer| layer.vars.as_slice()).unwrap_or_default();
            zipped(&group.name, &group.handles, vars.iter()).map_err(|error| match error {
                Error::WeightsMismatch { place, reason } => Error::WeightsMismatch {
                    place: format!("{place} (group {})", group.group),
                    reason,
                },
                error => error,
            })
        })
        .collect()
}

pub(super) fn optimizer(file: &WeightsFile) -> Result<Vec<OptimizerArray>> {
    let vars = file.groups.get(OPTIMIZER).map(|group| &group.vars);
    vars.into_iter()
        .flatten()
        .map(OptimizerArray::read)
        .collect()
}

impl Model {
    /// The variables of the model, and of the optimizer if it is given, as Keras groups them.
    ///
    /// # Errors
    /// The model holds parts of variables only, or libtorch fails.
    pub fn to_weights_file(&self, optimizer: Option<&Optimizer>) -> Result<WeightsFile> {
        if let Some(path) = self.split() {
            return Err(Error::Unsupported {
                place: format!("variable {path}"),
                what: "writing the part that one rank of a tensor group has".to_owned(),
                supported: "a whole model that was given the parts of all ranks".to_owned(),
            });
        }
        let mut groups = BTreeMap::new();
        for group in self.weight_groups() {
            let vars = group.handles.iter().map(|&handle| self.array(handle));
            let vars = vars.collect::<Result<_>>()?;
            groups.insert(group.group.clone(), Variables::new(&group.name, vars));
        }
        if let Some(optimizer) = optimizer {
            let vars = optimizer_arrays(optimizer).map_err(written)?;
            groups.insert(OPTIMIZER.into(), Variables::new("", vars));
        }
        let mut file = WeightsFile { groups };
        self.assets().add_to(&mut file);
        Ok(file)
    }
}

/// Keras's order: iteration, learning rate unless a schedule computes it, then everything else.
pub(super) fn optimizer_arrays(optimizer: &Optimizer) -> flambeau_formats::Result<Vec<Array>> {
    let variables = optimizer.keras_variables().into_iter();
    variables
        .map(|variable| match variable.value {
            OptimizerValue::Int64(value) => Ok(Array::from(value)),
            OptimizerValue::Int32(value) => Ok(Array::from(value)),
            OptimizerValue::Float32(values) => {
                let sizes = variable.shape.iter();
                let sizes = sizes.map(|&size| usize::try_from(size).unwrap_or(0));
                Array::new(sizes.collect(), values)
            }
        })
        .collect()
}
