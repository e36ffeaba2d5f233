//! Weights and optimizer state of a mesh, of which each rank has those of its stage: together in a
//! checkpoint that rank 0 writes, and from one to those who have them.
//!
//! They travel stretch by stretch, from memory to file and back: no rank needs room for more than the
//! largest tensor beside its own.

use super::Trainer;
use crate::error::Error;
use crate::mesh::{Mesh, lock};
use crate::resume::{OPTIMIZER, State};
use flambeau_formats::checkpoint::stretches::{Described, Reader, Writer};
use flambeau_keras::Held;
use flambeau_keras::optimizers::{OptimizerValue, OptimizerValueMut};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Elements that travel at once.
const AT_ONCE: usize = 1 << 20;

/// What a rank has of a checkpoint, as the others are told.
#[derive(serde::Serialize, serde::Deserialize)]
struct Own {
    tensors: Vec<Described>,
    /// A tensor from which no fit could go on.
    not_a_number: Option<String>,
}

/// Where a checkpoint is.
#[derive(Debug)]
pub(crate) enum Written {
    /// On this rank, which is rank 0.
    Here(PathBuf),
    /// Not on this rank.
    Elsewhere,
    /// Nowhere, as the tensor of that name holds NaN.
    NotANumber(String),
}

/// A tensor of a checkpoint, or a part of one.
struct Tensor<'a> {
    name: String,
    /// Of what is here.
    sizes: &'a [i64],
    /// Which part that is.
    held: Option<&'a Held>,
    values: &'a [f32],
}

impl<'a> Tensor<'a> {
    /// The shape of the whole.
    fn shape(&self) -> Vec<usize> {
        let sizes = self.held.map_or(self.sizes, |held| &held.shape);
        let sizes = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        sizes.collect()
    }

    /// The elements of the whole. Those who share the weights of a stage call this together.
    fn whole(&self, mesh: &Mesh) -> Result<Cow<'a, [f32]>, Error> {
        let (Some(held), Some(parts)) = (self.held, &mesh.parts) else {
            return Ok(self.values.into());
        };
        let mut whole = vec![0.0; self.shape().iter().product()];
        held.put(self.values, &mut whole);
        lock(parts).0.allreduce(&mut whole)?;
        Ok(whole.into())
    }
}

impl Trainer {
    /// Has rank 0, which gives a folder, write a checkpoint of the whole model, unless some of it is NaN.
    /// Every rank of the first replica must call this.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Storage`].
    pub(crate) fn write_stages(
        &mut self,
        state: &State,
        folder: Option<&Path>,
    ) -> Result<Written, Error> {
        let Some(mut mesh) = self.mesh.take() else {
            return Ok(Written::Elsewhere);
        };
        let written = self.write_over(&mut mesh, state, folder);
        self.mesh = Some(mesh);
        written
    }

    fn write_over(
        &self,
        mesh: &mut Mesh,
        state: &State,
        folder: Option<&Path>,
    ) -> Result<Written, Error> {
        let tensors = self.own_tensors()?;
        let mut own = Own {
            tensors: Vec::new(),
            not_a_number: None,
        };
        for tensor in &tensors {
            let values = tensor.whole(mesh)?;
            if values.iter().any(|value| value.is_nan()) {
                own.not_a_number.get_or_insert_with(|| tensor.name.clone());
            }
            let described = Described::of(tensor.name.clone(), tensor.shape(), &values);
            own.tensors.push(described);
        }
        let own = serde_json::to_vec(&own).map_err(untold)?;
        let all = mesh.replica.allgather(&own)?;
        let all = all.iter().map(|own| serde_json::from_slice(own));
        let all: Vec<Own> = all.collect::<Result<_, _>>().map_err(untold)?;
        if let Some(name) = all.iter().find_map(|own| own.not_a_number.clone()) {
            return Ok(Written::NotANumber(name));
        }
        // Numbers that the optimizer of every stage has, such as its learning rate, are there once.
        let mut known = BTreeSet::new();
        let mut plan = Vec::new();
        for (root, own) in all.iter().enumerate().step_by(mesh.grid.parts) {
            for (at, described) in own.tensors.iter().enumerate() {
                if known.insert(&described.name) {
                    plan.push((root, at, described));
                }
            }
        }
        let unwritten = |error: flambeau_formats::Error| Error::Storage {
            what: "cannot write to",
            path: folder.unwrap_or(Path::new("")).to_owned(),
            source: error.into(),
        };
        let described: Vec<_> = plan.iter().map(|(_, _, one)| (*one).clone()).collect();
        let writer = folder.map(|folder| {
            let manifest = state.manifest(self.optimizer())?;
            Writer::create(folder, state.step, &manifest, &described).map_err(unwritten)
        });
        let mut writer = writer.transpose()?;
        let mut stretch = Vec::new();
        for (root, at, described) in plan {
            // Those who share its weights put it together.
            let is_of_stage = mesh.replica.rank() / mesh.grid.parts == root / mesh.grid.parts;
            let whole = match is_of_stage {
                true => tensors[at].whole(mesh)?,
                false => Cow::Borrowed(&[][..]),
            };
            for start in (0..described.len()).step_by(AT_ONCE) {
                let end = described.len().min(start + AT_ONCE);
                stretch.resize(end - start, 0.0);
                if mesh.replica.rank() == root {
                    stretch.copy_from_slice(&whole[start..end]);
                }
                if root > 0 {
                    mesh.replica.broadcast(root, &mut stretch)?;
                }
                if let Some(writer) = &mut writer {
                    writer.put(&stretch).map_err(unwritten)?;
                }
            }
        }
        match writer {
            Some(writer) => Ok(Written::Here(writer.finish().map_err(unwritten)?)),
            None => Ok(Written::Elsewhere),
        }
    }

    /// Takes from the checkpoint that rank 0 reads what this rank has of the model. All ranks of a mesh
    /// call this; gives the state that the checkpoint is of, or none if rank 0 has none.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Storage`], [`Error::Config`] for a checkpoint of another model.
    pub(crate) fn read_stages(
        &mut self,
        mut reader: Option<Reader>,
    ) -> Result<Option<State>, Error> {
        let told = reader.as_ref().map(|reader| {
            let described: Vec<_> = reader.described().cloned().collect();
            (reader.manifest.clone(), described)
        });
        let told = serde_json::to_vec(&told).map_err(untold)?;
        let told = self.communicator.broadcast_bytes(0, told)?;
        let told: Option<(serde_json::Value, Vec<Described>)> =
            serde_json::from_slice(&told).map_err(untold)?;
        let Some((manifest, described)) = told else {
            return Ok(None);
        };
        let state: State = serde_json::from_value(manifest).map_err(untold)?;
        let mut missing: BTreeMap<String, Vec<usize>> = self
            .own_tensors()?
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor.shape()))
            .collect();
        for described in described {
            let mut values = match &mut reader {
                Some(reader) => {
                    let next = reader.read_next().map_err(|source| Error::Storage {
                        what: "cannot resume from",
                        path: PathBuf::from(&described.name),
                        source: source.into(),
                    })?;
                    next.map_or(Vec::new(), |(_, values)| values)
                }
                None => vec![0.0; described.len()],
            };
            for values in values.chunks_mut(AT_ONCE) {
                self.communicator.broadcast(0, values)?;
            }
            let Some(shape) = missing.remove(&described.name) else {
                continue;
            };
            if shape != described.shape {
                return Err(Error::Config(format!(
                    "tensor '{}' of the checkpoint has shape {:?}, the model's has {shape:?}",
                    described.name, described.shape
                )));
            }
            self.take_tensor(&described.name, &values)?;
        }
        if let Some(name) = missing.keys().next() {
            return Err(Error::Config(format!(
                "the checkpoint has no tensor '{name}': it is of another model"
            )));
        }
        let keys = self.optimizer.variables().into_iter();
        let keys: Vec<_> = keys.map(|variable| variable.key).collect();
        for (key, value) in keys.iter().zip(self.optimizer.values_mut()) {
            if let (OptimizerValueMut::Int64(count), Some(known)) = (value, state.counts.get(key)) {
                *count = *known;
            }
        }
        Ok(Some(state))
    }

    /// What a checkpoint has of this rank's.
    fn own_tensors(&self) -> Result<Vec<Tensor<'_>>, Error> {
        let stores = [self.model.trainable(), self.model.non_trainable()];
        let mut tensors = Vec::new();
        for store in stores {
            let values = store.as_slice()?;
            tensors.extend(store.variables().iter().map(|variable| Tensor {
                name: variable.path.clone(),
                sizes: &variable.shape,
                held: variable.held.as_ref(),
                values: &values[variable.span()],
            }));
        }
        for variable in self.optimizer.variables() {
            if let OptimizerValue::Float32(values) = variable.value {
                tensors.push(Tensor {
                    name: format!("{OPTIMIZER}{}", variable.key),
                    sizes: variable.shape,
                    held: variable.part,
                    values,
                });
            }
        }
        Ok(tensors)
    }

    /// Gives a variable or one of the optimizer's its elements, or what this rank has of them.
    fn take_tensor(&mut self, name: &str, whole: &[f32]) -> Result<(), Error> {
        let own = self.own_tensors()?.into_iter().find(|one| one.name == name);
        let held = own.and_then(|own| own.held.cloned());
        let values = held.map_or(Cow::Borrowed(whole), |held| held.take(whole).into());
        let Some(key) = name.strip_prefix(OPTIMIZER) else {
            return Ok(self.model.set_by_path(name, &values)?);
        };
        let variables = self.optimizer.variables();
        let at = variables.iter().position(|variable| variable.key == key);
        let mut all = self.optimizer.values_mut();
        if let Some(OptimizerValueMut::Float32(own)) = at.and_then(|at| all.get_mut(at)) {
            own.copy_from_slice(&values);
        }
        Ok(())
    }

    /// Whether this rank has a part of what goes into a checkpoint, which it must lend rank 0.
    pub(super) fn lends_its_stage(&self) -> bool {
        let mesh = self.mesh.as_ref();
        mesh.is_some_and(Mesh::is_of_the_first_replica)
    }

    /// Whether this rank has a stage of the model, and not all of it.
    pub(crate) fn has_a_stage(&self) -> bool {
        self.mesh.is_some()
    }
}

fn untold(error: serde_json::Error) -> Error {
    Error::Config(format!(
        "another rank does not say which part of the model it has: {error}"
    ))
}
