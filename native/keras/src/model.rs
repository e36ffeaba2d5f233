//! A Keras model: its graph, its variables, and how it runs.

mod gradients;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use crate::archive::Loaded;
use crate::assets::Assets;
use crate::blueprint::{Blueprint, WeightGroup};
use crate::context::{Context, Pass, Update};
use crate::dtype::{DType, is_float};
use crate::error::{Error, Result};
use crate::graph::{Graph, Holds, Stages, convert};
use crate::memory;
use crate::python_json;
use crate::replicas::Replicas;
use crate::scope::Declared;
use crate::spec::Spec;
use crate::strings::Strings;
use crate::tensor_group::TensorPart;
use crate::value::Value;
use crate::variables::{Handle, Slot, VariableStore, Variables};
use crate::weights::Targets;

/// One input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Name of its `InputLayer`.
    pub name: String,
    /// Its axes, the batch first, and dtype.
    pub spec: Spec,
}

/// One output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name of the layer that gives it.
    pub name: String,
    /// Its axes, the batch first, and dtype.
    pub spec: Spec,
}

/// A Sequential or Functional model.
#[derive(Debug)]
pub struct Model {
    config: Json,
    name: String,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    graph: Graph,
    groups: Vec<WeightGroup>,
    /// By handle.
    declared: Vec<Declared>,
    sums_over_replicas: bool,
    /// Whether passes begin at the inputs, and not at what an earlier stage gives.
    takes_inputs: bool,
    tensor: TensorPart,
    variables: Variables,
    moving: Vec<usize>,
    assets: Assets,
}

impl Model {
    /// Builds the model of a config: the text of `model.to_json()` of Keras 3 or 2. Variables are
    /// zeros until [`Self::initialize`]. Errors name the layer, its class and what is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_config(python_json::parse(text)?).map(|(model, _)| model)
    }

    /// As [`Self::from_json`] with the document parsed; also gives its `compile_config`.
    pub fn from_config(document: Json) -> Result<(Self, Loaded)> {
        let blueprint = Blueprint::read(document, Assets::default(), TensorPart::WHOLE)?;
        let loaded = Loaded {
            weights: false,
            some_weights: false,
            compile: blueprint.compile.clone(),
            optimizer: Vec::new(),
        };
        Ok((blueprint.allocate()?, loaded))
    }

    pub(crate) fn new(blueprint: Blueprint, variables: Variables) -> Self {
        let groups = blueprint.groups();
        let Blueprint {
            config,
            name,
            graph,
            declared,
            sums_over_replicas,
            tensor,
            assets,
            ..
        } = blueprint;
        let takes_inputs = graph.starts_at_inputs();
        let inputs = graph.inputs.iter().map(|input| Input {
            name: input.name.clone(),
            spec: graph.specs[input.value].clone(),
        });
        let outputs = graph.outputs.leaves().into_iter();
        let outputs = outputs
            .zip(&graph.output_names)
            .map(|(&value, name)| Output {
                name: name.clone(),
                spec: graph.specs[value].clone(),
            });
        let mut moving: Vec<usize> = declared
            .iter()
            .enumerate()
            .filter(|(_, declared)| declared.averaged)
            .filter_map(|(at, _)| match variables.slot(Handle(at)) {
                Slot::Fixed(index) => Some(index),
                _ => None,
            })
            .collect();
        moving.sort_unstable();
        Self {
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            config,
            name,
            graph,
            groups,
            declared,
            sums_over_replicas,
            takes_inputs,
            tensor,
            variables,
            moving,
            assets,
        }
    }

    /// Sets every variable by its layer's Keras initializer. The values depend on `seed` and the
    /// variables' paths only, so all ranks get the same; parts are those of the whole variables' values.
    pub fn initialize(&mut self, seed: u64) -> Result<()> {
        for (at, declared) in self.declared.iter().enumerate() {
            if declared.elsewhere || declared.rows_elsewhere {
                continue;
            }
            let count: i64 = declared.shape.iter().product();
            let count = usize::try_from(count).unwrap_or(0);
            let mut values = memory::zeros(count, &declared.path)?;
            declared
                .initializer
                .fill(&declared.shape, &declared.path, seed, &mut values)?;
            self.variables
                .set_whole(Handle(at), &Tensor::f_from_slice(&values)?)?;
        }
        Ok(())
    }

    /// Has passes run on `device`, which inputs are brought to. Values of variables stay at hand where
    /// they are, too.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn set_device(&mut self, device: Device) -> Result<()> {
        self.variables.set_device(device)
    }

    /// Where passes run.
    pub fn device(&self) -> Device {
        self.variables.device()
    }

    /// The place in a tensor group that the model was built for.
    pub fn tensor_part(&self) -> TensorPart {
        self.tensor
    }

    /// The path of a variable of which the model holds a part, if there is one.
    pub(crate) fn split(&self) -> Option<&str> {
        let split = self
            .declared
            .iter()
            .find(|declared| declared.held.is_some());
        split.map(|declared| declared.path.as_str())
    }

    /// The shape of each trainable variable where all of it is.
    pub fn whole_shapes(&self) -> Vec<&[i64]> {
        let mut shapes = vec![[].as_slice(); self.variables.trainable.variables().len()];
        for (at, declared) in self.declared.iter().enumerate() {
            if let Slot::Trainable(index) = self.variables.slot(Handle(at)) {
                shapes[index] = &declared.shape;
            }
        }
        shapes
    }

    /// What [`Self::initialize`] gives the elements `range` of a trainable variable, into `out`.
    ///
    /// # Errors
    /// As [`Self::initialize`], or there is no such variable.
    pub fn initialize_part(
        &self,
        variable: usize,
        range: Range<usize>,
        seed: u64,
        out: &mut [f32],
    ) -> Result<()> {
        let is_it = |at: &usize| self.variables.slot(Handle(*at)) == Slot::Trainable(variable);
        let at = (0..self.declared.len()).find(is_it);
        let declared = at.and_then(|at| self.declared.get(at));
        let declared = declared.ok_or_else(|| Error::LengthMismatch {
            what: "index of a trainable variable".to_owned(),
            expected: self.variables.trainable.variables().len(),
            actual: variable,
        })?;
        let (shape, path) = (&declared.shape, &declared.path);
        declared
            .initializer
            .fill_part(shape, path, seed, range, out)
    }

    /// The model's name in its config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model takes, in Keras's order of flattening.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// What the model gives, in Keras's order of flattening.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The variables that gradients change.
    pub fn trainable(&self) -> &VariableStore {
        &self.variables.trainable
    }

    /// The variables that gradients change, for the optimizer or loading.
    pub fn trainable_mut(&mut self) -> &mut VariableStore {
        &mut self.variables.trainable
    }

    /// Moving statistics and the variables of frozen layers.
    pub fn non_trainable(&self) -> &VariableStore {
        &self.variables.fixed
    }

    /// Moving statistics and the variables of frozen layers, for loading.
    pub fn non_trainable_mut(&mut self) -> &mut VariableStore {
        &mut self.variables.fixed
    }

    /// Gives the variable of that path its values, row-major, if the model has it: trainable, a moving
    /// statistic or of a frozen layer.
    ///
    /// # Errors
    /// Their number differs.
    pub fn set_by_path(&mut self, path: &str, values: &[f32]) -> Result<()> {
        for store in [&mut self.variables.trainable, &mut self.variables.fixed] {
            let at = store.variables().iter().position(|one| one.path == path);
            if let Some(at) = at {
                return store.set(at, values);
            }
        }
        Ok(())
    }

    /// The paths of all float32 variables, wherever they are: of those that train, then of the others, each
    /// in Keras's order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let floats = self.declared.iter().filter(|one| one.kind == Kind::Float);
        let mut floats: Vec<_> = floats.collect();
        floats.sort_by_key(|one| (!one.trainable || one.frozen, &one.order));
        floats.into_iter().map(|one| one.path.as_str())
    }

    /// The variables as files are compared with them.
    pub(crate) fn targets(&self) -> Targets<'_> {
        Targets {
            config: &self.config,
            name: &self.name,
            groups: &self.groups,
            declared: &self.declared,
        }
    }

    /// All variables by handle.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// All variables by handle, for loading.
    pub fn variables_mut(&mut self) -> &mut Variables {
        &mut self.variables
    }

    /// The layers that have variables, in Keras's order.
    pub fn weight_groups(&self) -> &[WeightGroup] {
        &self.groups
    }

    /// What its layers keep besides variables.
    pub(crate) fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The config in Keras 3's form, without `compile_config`.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// The config as text that Keras 3's `model_from_json` opens.
    pub fn to_json(&self) -> String {
        python_json::print(&self.config)
    }

    /// Indices in [`Self::non_trainable`] of the states that training passes change, such as
    /// BatchNormalization's moving statistics; frozen layers' variables are not among them.
    pub fn moving(&self) -> &[usize] {
        &self.moving
    }

    /// Whether layers look at the whole batch in training, the rows of other replicas too, and so
    /// need [`Self::forward_over`] to be exact.
    pub fn sums_over_replicas(&self) -> bool {
        self.sums_over_replicas
    }

    /// What a pass of this model or stage takes, of `rows` rows: zeros and empty strings, with axes of 1
    /// where their size is unknown. Those of a stage that is not the first begin a graph.
    pub fn blank(&self, rows: i64) -> Result<Vec<Value>> {
        let taken = self.graph.taken().map(|spec| {
            let mut size: Vec<i64> = spec.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
            size[0] = rows;
            match spec.dtype {
                DType::Tensor(kind) => {
                    let zeros = Tensor::f_zeros(size, (kind, self.device()))?;
                    let begins = !self.takes_inputs && is_float(kind);
                    Ok(Value::new(zeros.f_set_requires_grad(begins)?))
                }
                DType::String => {
                    let count = size.iter().product::<i64>();
                    let items = (0..count).map(|_| Box::default()).collect();
                    Ok(Value::from_strings(Strings::new(size, items)?))
                }
            }
        });
        taken.collect()
    }

    /// What `holds` says of a model of the same config, with zeros for its variables.
    pub fn alone(&self, holds: &Holds) -> Result<Self> {
        let mut blueprint =
            Blueprint::read(self.config.clone(), self.assets.clone(), TensorPart::WHOLE)?;
        blueprint.keep(holds)?;
        blueprint.allocate()
    }

    /// Runs the model on one batch: a value for each of [`Self::inputs`], of N rows, in the
    /// input's shape or flat. Gives a value for each of [`Self::outputs`]. Only a training pass
    /// records a graph for gradients.
    pub fn forward(&self, inputs: &[Value], pass: &mut Pass) -> Result<Vec<Value>> {
        self.run(inputs, pass, None)
    }

    /// As [`Self::forward`] where the batch is that of all `replicas` together, and this one has some
    /// of its rows.
    pub fn forward_over(
        &self,
        replicas: &mut dyn Replicas,
        inputs: &[Value],
        pass: &mut Pass,
    ) -> Result<Vec<Value>> {
        self.run(inputs, pass, Some(replicas))
    }

    fn run(
        &self,
        inputs: &[Value],
        pass: &mut Pass,
        replicas: Option<&mut dyn Replicas>,
    ) -> Result<Vec<Value>> {
        let inputs = if self.takes_inputs {
            self.admit(inputs)?
        } else {
            inputs.to_vec()
        };
        if let (Some(path), None) = (self.split(), &pass.group) {
            return Err(Error::values(format!(
                "the model holds a part of {path} only: its passes need their tensor group"
            )));
        }
        let _guard = (!pass.training).then(tch::no_grad_guard);
        // Lent for a shorter time than the caller's, so that the pass is free again below.
        let replicas = replicas.map(|replicas| -> &mut dyn Replicas { replicas });
        let mut context = Context::new(&self.variables, pass, replicas);
        let outputs = self.graph.run(inputs, &mut context)?;
        self.regularize(pass)?;
        Ok(outputs)
    }

    /// Brings the graph to the form that inference runs; no pass may train any more.
    pub(crate) fn fuse(&mut self) -> Result<()> {
        self.graph.fuse(&self.variables)
    }

    /// Completes a map of layers to `count` stages, which [`Holds`] takes: a layer that is not named goes
    /// with the one that runs before it.
    ///
    /// # Errors
    /// The model cannot be cut like that; says why.
    pub fn stages(&self, count: usize, given: &BTreeMap<String, usize>) -> Result<Stages> {
        self.graph.stages(count, given)
    }

    /// Names of the layers in the order in which they run; those together that must run in one stage.
    pub fn units(&self) -> Vec<Vec<String>> {
        self.graph.units()
    }

    /// Number of steps of a pass.
    #[cfg(test)]
    pub(crate) fn step_count(&self) -> usize {
        self.graph.plan.steps.len()
    }

    /// The specs of all values of the graph.
    pub(crate) fn value_specs(&self) -> &[Spec] {
        &self.graph.specs
    }

    /// The path of a trainable variable that has a constraint, if any has one.
    pub fn constrained(&self) -> Option<&str> {
        let declared = self.declared.iter().enumerate();
        let mut constrained = declared.filter(|(_, declared)| {
            declared.constraint.is_some() && declared.trainable && !declared.frozen
        });
        let (at, _) = constrained.next()?;
        Some(&self.variables.variable(Handle(at)).path)
    }

    /// Whether layers whose variables gradients change compute in float16, as Keras's `mixed_float16`
    /// has it: their gradients underflow unless the loss is scaled.
    pub fn trains_in_float16(&self) -> bool {
        let declared = self.declared.iter();
        let mut learning = declared.filter(|declared| declared.trainable && !declared.frozen);
        learning.any(|declared| declared.compute.kind() == Some(Kind::Half))
    }

    /// Brings trainable variables that have a constraint back to it, as Keras does after a step.
    pub fn constrain(&mut self) -> Result<()> {
        for (at, declared) in self.declared.iter().enumerate() {
            let learns = declared.trainable && !declared.frozen && !declared.elsewhere;
            let Some(constraint) = declared.constraint.as_ref().filter(|_| learns) else {
                continue;
            };
            let value = {
                let _guard = tch::no_grad_guard();
                constraint.apply(&self.variables.tensor(Handle(at)).f_detach()?)?
            };
            self.variables.set(Handle(at), &value)?;
        }
        Ok(())
    }

    /// What regularized variables add to the loss; those that gradients do not change add nothing.
    /// What parts add is summed over their group.
    fn regularize(&self, pass: &mut Pass) -> Result<()> {
        let mut of_parts = Vec::new();
        for (at, declared) in self.declared.iter().enumerate() {
            let learns = declared.trainable && !declared.frozen && !declared.elsewhere;
            if let Some(regularizer) = declared.regularizer.as_ref().filter(|_| learns) {
                let loss = regularizer.loss(self.variables.tensor(Handle(at)))?;
                match declared.held {
                    Some(_) => of_parts.push(loss),
                    None => pass.losses.push(loss),
                }
            }
        }
        if let (false, Some(group)) = (of_parts.is_empty(), &pass.group) {
            let own = Tensor::f_stack(&of_parts, 0)?.f_sum(Kind::Float)?;
            let all = group.sum_of_group(&own)?;
            pass.losses.push(all);
        }
        Ok(())
    }

    /// Gives variables the values that layers assigned in a pass.
    pub fn apply_updates(&mut self, updates: &[Update]) -> Result<()> {
        for Update { handle, value } in updates {
            self.variables.set(*handle, value)?;
        }
        Ok(())
    }

    /// The values in the dtype and shape of the inputs.
    fn admit(&self, values: &[Value]) -> Result<Vec<Value>> {
        if values.len() != self.inputs.len() {
            let (given, wanted) = (values.len(), self.inputs.len());
            return Err(Error::ShapeMismatch {
                place: format!("model \"{}\"", self.name),
                reason: format!("takes {wanted} inputs, got {given}"),
            });
        }
        let values = values.iter().zip(&self.inputs);
        values
            .map(|(value, input)| {
                // Bytes of pixels are few; as numbers they are not.
                let value = self.shaped(value, input)?.to_device(self.device())?;
                convert(value, input.spec.dtype)
            })
            .collect()
    }

    fn shaped(&self, value: &Value, input: &Input) -> Result<Value> {
        let size = value.size();
        let fits = size.len() == input.spec.rank()
            && size
                .iter()
                .zip(&input.spec.dims)
                .all(|(size, dim)| dim.is_none_or(|dim| dim == *size));
        if fits {
            return Ok(value.clone());
        }
        let row: Option<i64> = size.get(1..).map(|row| row.iter().product());
        if row.is_none() || row != input.spec.row_elements() {
            return Err(Error::ShapeMismatch {
                place: format!("input \"{}\" of model \"{}\"", input.name, self.name),
                reason: format!("got a batch of shape {size:?}, expected {}", input.spec),
            });
        }
        let row = input.spec.dims[1..].iter().map(|dim| dim.unwrap_or(1));
        let shape: Vec<i64> = std::iter::once(size[0]).chain(row).collect();
        if value.dtype() == DType::String {
            return Ok(Value::from_strings(value.strings()?.reshape(shape)?));
        }
        Ok(Value::new(value.y()?.f_reshape(shape)?))
    }
}

#[cfg(test)]
mod tests;
