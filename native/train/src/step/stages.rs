//! Weights and optimizer state of a mesh, of which each rank has those of its stage: together in a
//! checkpoint that rank 0 writes, and from one to those who have them.
//!
//! They travel tensor by tensor, so that nobody but rank 0 needs room for more than the largest beside its
//! own.

use super::Trainer;
use crate::error::Error;
use crate::mesh::Mesh;
use flambeau_formats::array::Array;
use std::collections::BTreeSet;

/// Names and shapes of tensors, as they are told.
type Shapes = Vec<(String, Vec<usize>)>;

impl Trainer {
    /// Adds to rank 0's `tensors` those of the other stages. On a mesh every rank of the first replica must
    /// call this with its own.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn gather_stages(
        &mut self,
        tensors: Vec<(String, Array)>,
    ) -> Result<Vec<(String, Array)>, Error> {
        let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.grid.stages > 1) else {
            return Ok(tensors);
        };
        let Mesh { replica, grid, .. } = mesh;
        let (mut all, own) = match replica.rank() {
            0 => (tensors, Vec::new()),
            _ => (Vec::new(), tensors),
        };
        // What counts is that of the first of those which share a stage's weights.
        for root in (grid.parts..replica.world_size()).step_by(grid.parts) {
            let shapes: Shapes = own
                .iter()
                .map(|(name, array)| (name.clone(), array.shape().to_vec()))
                .collect();
            let shapes = serde_json::to_vec(&shapes).map_err(untold)?;
            let shapes = replica.broadcast_bytes(root, shapes)?;
            let shapes: Shapes = serde_json::from_slice(&shapes).map_err(untold)?;
            let is_root = replica.rank() == root;
            for (at, (name, shape)) in shapes.into_iter().enumerate() {
                let mut values = match own.get(at).filter(|_| is_root) {
                    Some((_, array)) => array.values().map_err(|error| wrong(&name, &error))?,
                    None => vec![0.0; shape.iter().product()],
                };
                replica.broadcast(root, &mut values)?;
                // Numbers that the optimizer of every stage has, such as its learning rate, are there.
                let is_new = all.iter().all(|(known, _)| *known != name);
                if replica.rank() == 0 && is_new {
                    let array = Array::new(shape, values).map_err(|error| wrong(&name, &error))?;
                    all.push((name, array));
                }
            }
        }
        Ok(all)
    }

    /// This rank's of the `tensors` that rank 0 has: of its stage's variables, and what the optimizer keeps
    /// of them, under names that begin with `optimizer`. All ranks of a mesh call this.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn deal_to_stages(
        &mut self,
        tensors: &[(String, Array)],
        optimizer: &str,
    ) -> Result<Vec<(String, Array)>, Error> {
        let stores = [self.model.trainable(), self.model.non_trainable()];
        let variables = stores.iter().flat_map(|store| store.variables());
        let mut wanted: BTreeSet<String> = variables.map(|one| one.path.clone()).collect();
        for variable in self.optimizer.variables() {
            wanted.insert(format!("{optimizer}{}", variable.key));
        }
        let shapes: Shapes = tensors
            .iter()
            .map(|(name, array)| (name.clone(), array.shape().to_vec()))
            .collect();
        let shapes = serde_json::to_vec(&shapes).map_err(untold)?;
        let shapes = self.communicator.broadcast_bytes(0, shapes)?;
        let shapes: Shapes = serde_json::from_slice(&shapes).map_err(untold)?;
        let mut own = Vec::new();
        for (at, (name, shape)) in shapes.into_iter().enumerate() {
            let mut values = match tensors.get(at) {
                Some((_, array)) => array.values().map_err(|error| wrong(&name, &error))?,
                None => vec![0.0; shape.iter().product()],
            };
            self.communicator.broadcast(0, &mut values)?;
            if wanted.contains(&name) {
                let array = Array::new(shape, values).map_err(|error| wrong(&name, &error))?;
                own.push((name, array));
            }
        }
        Ok(own)
    }

    /// Whether this rank has a part of what goes into a checkpoint, which it must lend rank 0.
    pub(super) fn lends_its_stage(&self) -> bool {
        let mesh = self.mesh.as_ref();
        mesh.is_some_and(Mesh::is_of_the_first_replica)
    }
}

fn untold(error: serde_json::Error) -> Error {
    Error::Config(format!(
        "another rank does not say which part of the model it has: {error}"
    ))
}

fn wrong(name: &str, error: &flambeau_formats::Error) -> Error {
    Error::Config(format!("tensor '{name}' of the state: {error}"))
}
