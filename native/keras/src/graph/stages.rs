//! A graph in stages, each run by a process that has only the variables of its layers.
//!
//! A stage takes the values that are alive where the one before it ends, those that it only hands on
//! among them, and gives those that are alive where it ends itself. Layers with variables run in one
//! stage, whatever takes part in several calls.

use std::collections::BTreeMap;

use super::{Graph, Plan, Step, ValueId};
use crate::error::{Error, Result};
use crate::spec::Spec;

/// What a process has of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Holds {
    /// All of it.
    #[default]
    All,
    /// All but the rows of matrices of more elements than these that learn, and of which passes only look
    /// up rows: those are fetched (see [`crate::Rows`]).
    AllButRows(usize),
    /// No variable: enough to know what the model is.
    Nothing,
    /// What is not float32, such as counts: little, and not in a checkpoint.
    Counts,
    /// One of its stages, counted from 0.
    Stage(Stages, usize),
}

/// Which stage runs which layer of a model. Layers inside of layers go with those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages {
    count: usize,
    by_layer: BTreeMap<String, usize>,
}

impl Stages {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The stage of a layer of the model.
    pub fn of(&self, layer: &str) -> Option<usize> {
        self.by_layer.get(layer).copied()
    }

    /// The layers of each stage, by name.
    pub fn by_layer(&self) -> &BTreeMap<String, usize> {
        &self.by_layer
    }
}

impl Graph {
    /// Completes a map of layers to `count` stages: a layer that is not named goes with the one that
    /// runs before it.
    ///
    /// # Errors
    /// The map names what is no layer, or a stage that is none; a stage is left without layers; or a
    /// layer takes what a later stage gives.
    pub(crate) fn stages(&self, count: usize, given: &BTreeMap<String, usize>) -> Result<Stages> {
        let refuse = |reason: String| Error::InvalidConfig {
            place: "the stages of the model".to_owned(),
            reason,
        };
        for (layer, stage) in given {
            if !self.nodes.iter().any(|node| node.name == *layer) {
                return Err(refuse(format!("it has no layer \"{layer}\"")));
            }
            if *stage >= count {
                let last = count.saturating_sub(1);
                let reason = format!("layer \"{layer}\" is in stage {stage} of 0 to {last}");
                return Err(refuse(reason));
            }
        }
        let layers = self.layers_of_calls();
        let mut by_layer: BTreeMap<String, usize> = BTreeMap::new();
        let mut latest = 0;
        for (at, _) in &self.plan.steps {
            let name = &self.nodes[layers[*at]].name;
            latest = match given.get(name).or_else(|| by_layer.get(name)) {
                Some(stage) => *stage,
                None => latest,
            };
            by_layer.insert(name.clone(), latest);
        }
        let empty = (0..count).find(|stage| !by_layer.values().any(|of| of == stage));
        if let Some(stage) = empty {
            return Err(refuse(format!("stage {stage} of {count} has no layer")));
        }
        // Layers that no output needs have variables, too.
        for node in &self.nodes {
            let stage = given.get(&node.name).copied().unwrap_or(count - 1);
            by_layer.entry(node.name.clone()).or_insert(stage);
        }
        let stages = Stages { count, by_layer };
        let made = self.made_in(&stages);
        for (at, _) in &self.plan.steps {
            let layer = &self.nodes[layers[*at]].name;
            let stage = stages.of(layer).unwrap_or(0);
            let later = |value: &&ValueId| made[**value].is_some_and(|made| made > stage);
            if let Some(value) = self.calls[*at].args.leaves().into_iter().find(later) {
                let from = made[*value].unwrap_or(0);
                return Err(refuse(format!(
                    "layer \"{layer}\" of stage {stage} takes what stage {from} gives: a layer that is \
                     called several times runs in one stage, and none before what it needs"
                )));
            }
        }
        Ok(stages)
    }

    /// Names of the layers that run, in their order, those together that cannot be in several stages.
    pub(crate) fn units(&self) -> Vec<Vec<String>> {
        let layers = self.layers_of_calls();
        let order: Vec<usize> = self.plan.steps.iter().map(|(at, _)| layers[*at]).collect();
        let mut units: Vec<Vec<String>> = Vec::new();
        // Where the last call is of any layer met so far.
        let mut until = 0;
        for (place, layer) in order.iter().enumerate() {
            let name = &self.nodes[*layer].name;
            let last = order
                .iter()
                .rposition(|other| other == layer)
                .unwrap_or(place);
            let is_new = !units.iter().flatten().any(|known| known == name);
            match units.last_mut() {
                Some(unit) if place <= until => {
                    if is_new {
                        unit.push(name.clone());
                    }
                }
                _ => units.push(vec![name.clone()]),
            }
            until = until.max(last);
        }
        units
    }

    /// The specs of what a run takes.
    pub(crate) fn taken(&self) -> impl Iterator<Item = &Spec> {
        self.takes.iter().map(|&value| &self.specs[value])
    }

    /// Whether it takes the model's inputs.
    pub(crate) fn starts_at_inputs(&self) -> bool {
        let inputs = self.inputs.iter().map(|input| input.value);
        inputs.eq(self.takes.iter().copied())
    }

    /// Becomes stage `index`, in which nothing else runs any more.
    ///
    /// # Errors
    /// There is no such stage.
    pub(crate) fn keep_stage(&mut self, stages: &Stages, index: usize) -> Result<()> {
        if index >= stages.count {
            return Err(Error::InvalidConfig {
                place: "the stages of the model".to_owned(),
                reason: format!("there is no stage {index} of {}", stages.count),
            });
        }
        let made = self.made_in(stages);
        let takes = if index == 0 {
            self.takes.clone()
        } else {
            self.alive(stages, &made, index)
        };
        let gives = if index + 1 == stages.count {
            self.gives.clone()
        } else {
            self.alive(stages, &made, index + 1)
        };
        self.plan = Plan::new(&self.calls, &takes, &gives, self.specs.len());
        (self.takes, self.gives) = (takes, gives);
        Ok(())
    }

    /// The values that stage `index` is given: made before it and needed in it or behind it.
    fn alive(&self, stages: &Stages, made: &[Option<usize>], index: usize) -> Vec<ValueId> {
        let layers = self.layers_of_calls();
        let mut needed = vec![false; self.specs.len()];
        self.gives.iter().for_each(|&value| needed[value] = true);
        for (at, _) in &self.plan.steps {
            let stage = stages.of(&self.nodes[layers[*at]].name);
            if stage.is_some_and(|stage| stage >= index) {
                let args = self.calls[*at].args.leaves();
                args.into_iter().for_each(|&value| needed[value] = true);
            }
        }
        let before = |value: &ValueId| made[*value].is_some_and(|made| made < index);
        let alive = (0..needed.len()).filter(|value| needed[*value] && before(value));
        alive.collect()
    }

    /// The stage in which each value comes up: that of inputs is the first; constants have none.
    fn made_in(&self, stages: &Stages) -> Vec<Option<usize>> {
        let layers = self.layers_of_calls();
        let mut made = vec![None; self.specs.len()];
        self.takes.iter().for_each(|&value| made[value] = Some(0));
        for (at, _) in &self.plan.steps {
            let stage = stages.of(&self.nodes[layers[*at]].name);
            for &value in self.calls[*at].outputs.leaves() {
                made[value] = stage;
            }
        }
        made
    }

    /// The layer of each call: an activation is of the layer whose output it takes.
    fn layers_of_calls(&self) -> Vec<usize> {
        let mut made_by = vec![0; self.specs.len()];
        let mut layers = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let layer = match call.step {
                Step::Layer(layer) => layer,
                Step::Activation(_) | Step::Fused(_) => {
                    let first = call.args.leaves().into_iter().next();
                    first.map_or(0, |&value| made_by[value])
                }
            };
            layers.push(layer);
            for &value in call.outputs.leaves() {
                made_by[value] = layer;
            }
        }
        layers
    }
}
