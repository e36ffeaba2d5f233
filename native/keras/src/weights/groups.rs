//! Keras 3's weights file: a layer's variables are in the group of its path.

use std::collections::BTreeMap;

use flambeau_formats::weights_h5::{Variables, WeightsFile};

use super::{OptimizerArray, Part, Targets, zipped};
use crate::error::{Error, Result};
use crate::export::{Export, Stored};

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

impl<'a> Export<'a> {
    /// The variables of the model, and of the optimizer if it goes along, as Keras groups them.
    ///
    /// # Errors
    /// The model holds parts of variables only; a weight is nowhere.
    pub fn weights_file(&self) -> Result<WeightsFile<Stored<'a>>> {
        if let Some(path) = self.model.split() {
            return Err(Error::Unsupported {
                place: format!("variable {path}"),
                what: "writing the part that one rank of a tensor group has".to_owned(),
                supported: "a whole model that was given the parts of all ranks".to_owned(),
            });
        }
        let mut groups = BTreeMap::new();
        for group in self.model.weight_groups() {
            let vars = group.handles.iter().map(|&handle| self.variable(handle));
            let vars = vars.collect::<Result<_>>()?;
            groups.insert(group.group.clone(), Variables::new(&group.name, vars));
        }
        if self.optimizer.is_some() {
            let vars = self.optimizer_variables().into_iter();
            let vars = vars.map(|(_, variable)| variable).collect();
            groups.insert(OPTIMIZER.into(), Variables::new("", vars));
        }
        let mut file = WeightsFile { groups };
        self.model.assets().add_to(&mut file);
        Ok(file)
    }
}
