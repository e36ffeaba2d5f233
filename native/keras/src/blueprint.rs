//! A model before it has any memory: its graph and what its variables will be, so that a file's
//! weights can be compared with them first.

use serde_json::Value as Json;
use tch::Kind;

use crate::assets::Assets;
use crate::config::Options;
use crate::error::{Error, Result};
use crate::graph::{Graph, Holds, Network, Split};
use crate::model::Model;
use crate::normalize::normalize;
use crate::registry::{Entry, Family};
use crate::scope::{Declared, Place};
use crate::tensor_group::TensorPart;
use crate::variables::{Handle, Variable, Variables, Wanted};

/// A model without memory.
#[derive(Debug)]
pub(crate) struct Blueprint {
    /// The config in Keras 3's form.
    pub(crate) config: Json,
    /// Keras's `compile_config`, if the model was compiled.
    pub(crate) compile: Option<Json>,
    pub(crate) name: String,
    pub(crate) graph: Graph,
    /// By handle.
    pub(crate) declared: Vec<Declared>,
    /// Whether a layer adds up something over the rows of all replicas in training.
    pub(crate) sums_over_replicas: bool,
    pub(crate) tensor: TensorPart,
    pub(crate) assets: Assets,
}

/// The variables of one layer as a weights file groups them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightGroup {
    /// The group's path in the file, such as `layers/conv2d_1`.
    pub group: String,
    /// The layer's name.
    pub name: String,
    /// The variables in the file's order: those that can be trained first. A variable may be in
    /// two groups: SpectralNormalization lists the kernel of the layer in it.
    pub handles: Vec<Handle>,
}

impl Blueprint {
    /// Reads a model's config, to be built for the place `tensor` in a tensor group; `assets` are what
    /// its layers keep besides.
    ///
    /// # Errors
    /// Names the layer, its class and what is wrong.
    pub(crate) fn read(document: Json, assets: Assets, tensor: TensorPart) -> Result<Self> {
        if tensor.index >= tensor.count {
            return Err(Error::InvalidConfig {
                place: "model".to_owned(),
                reason: format!(
                    "a tensor group of {} ranks has no rank {}",
                    tensor.count, tensor.index
                ),
            });
        }
        let normalized = normalize(document)?;
        let entry = Entry::read(&normalized.model)?;
        if entry.family != Family::Models {
            return Err(Error::Unsupported {
                place: entry.place(),
                what: "a model of this class".to_owned(),
                supported: "Sequential, Functional".to_owned(),
            });
        }
        let options = Options::new(entry.place(), &entry.config);
        options.ignore(&["name", "dtype", "build_input_shape"]);
        let (mut declared, mut sums_over_replicas) = (Vec::new(), false);
        let place = Place {
            declared: &mut declared,
            sums: &mut sums_over_replicas,
            assets: &assets,
            path: String::new(),
            group: String::new(),
            order: Vec::new(),
            trainable: options.bool("trainable", true)?,
            tensor,
            split: Split::Inside,
        };
        let network = Network::read(&entry.class, &options)?;
        options.finish()?;
        let graph = Graph::build(&network, place)?;
        if tensor.count > 1 && sums_over_replicas {
            return Err(Error::Unsupported {
                place: entry.place(),
                what: "tensor parallelism with layers that look at the rows of all ranks"
                    .to_owned(),
                supported: "BatchNormalization and moments with synchronized = false".to_owned(),
            });
        }
        Ok(Self {
            config: normalized.model,
            compile: normalized.compile,
            name: entry.name,
            graph,
            declared,
            sums_over_replicas,
            tensor,
            assets,
        })
    }

    /// The handles in Keras's order of variables.
    fn sorted(&self) -> Vec<Handle> {
        let mut handles: Vec<Handle> = (0..self.declared.len()).map(Handle).collect();
        handles.sort_by(|a, b| self.declared[a.0].order.cmp(&self.declared[b.0].order));
        handles
    }

    /// The layers that have variables, in Keras's order.
    pub(crate) fn groups(&self) -> Vec<WeightGroup> {
        let mut groups: Vec<WeightGroup> = Vec::new();
        let mut known = std::collections::HashMap::new();
        for handle in self.sorted() {
            let declared = &self.declared[handle.0];
            let name = declared.path.rsplit('/').nth(1).unwrap_or_default();
            let adopter = declared.adopter.iter();
            let adopter = adopter.map(|(group, name)| (group.as_str(), name.as_str()));
            for (group, name) in adopter.chain([(declared.group.as_str(), name)]) {
                let at = *known.entry(group).or_insert_with(|| {
                    groups.push(WeightGroup {
                        group: group.to_owned(),
                        name: name.to_owned(),
                        handles: Vec::new(),
                    });
                    groups.len() - 1
                });
                groups[at].handles.push(handle);
            }
        }
        for group in &mut groups {
            group
                .handles
                .sort_by_key(|handle| !self.declared[handle.0].trainable);
        }
        groups
    }

    /// Keeps what `holds` says: memory comes to nothing else.
    ///
    /// # Errors
    /// Stages that the graph cannot be cut into.
    pub(crate) fn keep(&mut self, holds: &Holds) -> Result<()> {
        match holds {
            Holds::All => {}
            Holds::AllButRows(most) => {
                for declared in &mut self.declared {
                    let size = declared.shape.iter().product::<i64>();
                    let is_larger = usize::try_from(size).is_ok_and(|size| size > *most);
                    let learns = declared.trainable && !declared.frozen;
                    let learns = learns && declared.kind == Kind::Float;
                    declared.rows_elsewhere = learns && declared.looked_up && is_larger;
                }
            }
            Holds::Nothing => self
                .declared
                .iter_mut()
                .for_each(|one| one.elsewhere = true),
            Holds::Counts => self
                .declared
                .iter_mut()
                .for_each(|one| one.elsewhere = one.kind == Kind::Float),
            Holds::Stage(stages, index) => {
                self.graph.keep_stage(stages, *index)?;
                for declared in &mut self.declared {
                    let layer = declared.path.split('/').next().unwrap_or_default();
                    declared.elsewhere = stages.of(layer) != Some(*index);
                }
            }
        }
        Ok(())
    }

    /// Gives every variable memory, filled with zeros.
    ///
    /// # Errors
    /// There is not enough of it.
    pub(crate) fn allocate(self) -> Result<Model> {
        let layer_of = |declared: &Declared| declared.order.first().copied().unwrap_or(0);
        let wanted = self.sorted().into_iter().map(|handle| {
            let declared = &self.declared[handle.0];
            let mut variable = Variable {
                path: declared.path.clone(),
                layer: layer_of(declared),
                name: declared.name.clone(),
                shape: match &declared.held {
                    Some(held) => held.own_shape(),
                    None => declared.shape.clone(),
                },
                offset: 0,
                held: declared.held.clone(),
            };
            if declared.rows_elsewhere {
                variable.shape[0] = 0;
            }
            Wanted {
                handle,
                variable,
                kind: declared.kind,
                trainable: declared.trainable && !declared.frozen,
                elsewhere: declared.elsewhere,
            }
        });
        let variables = Variables::allocate(wanted.collect())?;
        Ok(Model::new(self, variables))
    }
}
