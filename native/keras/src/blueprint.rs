//! A model before it has any memory: its graph and what its variables will be, so that a file's
//! weights can be compared with them first.

use serde_json::Value as Json;
use tch::Kind;

use crate::assets::Assets;
use crate::config::Options;
use crate::error::{Error, Result};
use crate::graph::{Graph, Network};
use crate::model::Model;
use crate::normalize::normalize;
use crate::registry::{Entry, Family};
use crate::scope::{Declared, Place};
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
    /// Reads a model's config; `assets` are what its layers keep besides.
    ///
    /// # Errors
    /// Names the layer, its class and what is wrong.
    pub(crate) fn read(document: Json, assets: Assets) -> Result<Self> {
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
        };
        let network = Network::read(&entry.class, &options)?;
        options.finish()?;
        let graph = Graph::build(&network, place)?;
        Ok(Self {
            config: normalized.model,
            compile: normalized.compile,
            name: entry.name,
            graph,
            declared,
            sums_over_replicas,
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

    /// Gives every variable memory, filled with zeros; but no rows to matrices of more elements than
    /// `rows_elsewhere` that learn and whose rows are only looked up.
    ///
    /// # Errors
    /// There is not enough of it.
    pub(crate) fn allocate(self, rows_elsewhere: Option<usize>) -> Result<Model> {
        let layer_of = |declared: &Declared| declared.order.first().copied().unwrap_or(0);
        let wanted = self.sorted().into_iter().map(|handle| {
            let declared = &self.declared[handle.0];
            let mut variable = Variable {
                path: declared.path.clone(),
                layer: layer_of(declared),
                name: declared.name.clone(),
                shape: declared.shape.clone(),
                offset: 0,
            };
            let trainable = declared.trainable && !declared.frozen;
            let is_larger = |most| variable.len() > most;
            let learns = trainable && declared.kind == Kind::Float;
            if learns && declared.looked_up && rows_elsewhere.is_some_and(is_larger) {
                variable.shape[0] = 0;
            }
            Wanted {
                handle,
                variable,
                kind: declared.kind,
                trainable,
            }
        });
        let variables = Variables::allocate(wanted.collect())?;
        Ok(Model::new(self, variables))
    }
}
