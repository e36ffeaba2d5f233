//! The calls of a model over its values, in the order in which they run. A model is a layer
//! itself, so that models nest.

mod constants;
mod fused_convolutions;
mod network;
mod order;
pub(crate) mod plan;
mod pool_before_relu;
mod splitting;
mod stages;
#[cfg(test)]
mod tests;

use flambeau_formats::group_names;
use tch::Tensor;

pub(crate) use self::network::Network;
use self::plan::Plan;
pub(crate) use self::splitting::Split;
pub use self::stages::{Holds, Stages};
use crate::activations::Activation;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::literals;
use crate::registry::{self, Family};
use crate::scope::{Place, Scope};
use crate::spec::{Spec, alike};
use crate::value::Value;
use crate::variables::Variables;

/// A value of the graph: the place of its spec.
pub(crate) type ValueId = usize;

/// What a call computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// The layer of this index, without its activation.
    Layer(usize),
    /// An activation of the only argument.
    Activation(Activation),
    /// The fused convolution of this index: of the first argument, plus the second if there is one.
    Fused(usize),
}

/// A step, the values it takes and those it gives.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) step: Step,
    pub(crate) args: Args<ValueId>,
    pub(crate) outputs: Tree<ValueId>,
}

/// A layer of the graph.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) built: Built,
}

/// An input of a model.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) value: ValueId,
}

/// A model's calls, planned.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) calls: Vec<Call>,
    /// In Keras's order of flattening.
    pub(crate) inputs: Vec<Input>,
    /// Whether the inputs are a dictionary, a list or one value.
    structure: Tree<String>,
    pub(crate) outputs: Tree<ValueId>,
    /// Names of the layers that give the outputs, flattened.
    pub(crate) output_names: Vec<String>,
    pub(crate) specs: Vec<Spec>,
    /// Values that are the same in every pass.
    constants: Vec<(ValueId, Tensor)>,
    /// What inference runs in place of several calls.
    fused: Vec<fused_convolutions::Fused>,
    /// What a run is given, and what it gives: inputs and outputs, but for a stage.
    takes: Vec<ValueId>,
    gives: Vec<ValueId>,
    pub(crate) plan: Plan,
}

impl Graph {
    /// Builds every layer of `network`, declaring variables below `place`.
    pub(crate) fn build(network: &Network, mut place: Place<'_>) -> Result<Self> {
        let mut builder = Builder::new(network, &place)?;
        for node in &network.nodes {
            builder.call(node, &mut place)?;
        }
        builder.finish()
    }

    /// Runs the calls on what it takes: the inputs, flattened, but for a stage. Gives the outputs,
    /// flattened, but for a stage.
    pub(crate) fn run(&self, taken: Vec<Value>, context: &mut Context<'_>) -> Result<Vec<Value>> {
        let mut values: Vec<Option<Value>> = self.specs.iter().map(|_| None).collect();
        for (id, value) in self.takes.iter().zip(taken) {
            values[*id] = Some(value);
        }
        for (id, tensor) in &self.constants {
            values[*id] = Some(tensor.f_to_device(context.device())?.into());
        }
        for (at, finished) in &self.plan.steps {
            let call = &self.calls[*at];
            let args = call.args.try_map(|&id| take(&values, id))?;
            let outputs = match call.step {
                Step::Layer(layer) => self.run_layer(layer, &args, context)?,
                Step::Activation(activation) => {
                    let value = args.only().map_err(Error::values)?;
                    Tree::Leaf(activation.apply_to(value)?)
                }
                Step::Fused(fused) => self.run_fused(fused, &args)?,
            };
            drop(args);
            // Strings are looked up on the host.
            let outputs = context.bring(outputs)?;
            assign(&call.outputs, context.cut(outputs)?, &mut values);
            finished.iter().for_each(|&value| values[value] = None);
        }
        self.gives.iter().map(|&id| take(&values, id)).collect()
    }

    fn run_layer(
        &self,
        layer: usize,
        args: &Args<Value>,
        context: &mut Context<'_>,
    ) -> Result<Tree<Value>> {
        let Node { name, class, built } = &self.nodes[layer];
        // A layer whose outputs cost something is one step, its activation included.
        let outputs = if built.activity.is_some() {
            built.call(args, context)
        } else {
            built.call_linear(args, context)
        };
        outputs.map_err(|source| Error::Layer {
            layer: name.clone(),
            class: class.clone(),
            source: Box::new(source),
        })
    }

    fn run_fused(&self, fused: usize, args: &Args<Value>) -> Result<Tree<Value>> {
        let (convolution, layer) = &self.fused[fused];
        let values = args.leaves().into_iter().map(Value::y);
        let y = values
            .collect::<Result<Vec<_>>>()
            .and_then(|values| match values.as_slice() {
                [x] => convolution.call(x, None),
                [x, other] => convolution.call(x, Some(other)),
                _ => Err(Error::values("a convolution takes one value, or two")),
            });
        let Node { name, class, .. } = &self.nodes[*layer];
        let y = y.map_err(|source| Error::Layer {
            layer: name.clone(),
            class: class.clone(),
            source: Box::new(source),
        })?;
        Ok(Tree::Leaf(y.into()))
    }

    /// Brings the graph, and those of models in it, to the form that inference runs.
    pub(crate) fn fuse(&mut self, variables: &Variables) -> Result<()> {
        for node in &mut self.nodes {
            node.built.layer.fuse(variables)?;
        }
        fused_convolutions::apply(self, variables)?;
        self.plan = Plan::new(&self.calls, &self.takes, &self.gives, self.specs.len());
        Ok(())
    }

    /// The specs of the outputs for inputs of other specs than those it was built for.
    fn infer(&self, inputs: Vec<Spec>) -> Inferred {
        let mut specs: Vec<Option<Spec>> = self.specs.iter().map(|_| None).collect();
        for (input, spec) in self.inputs.iter().zip(inputs) {
            specs[input.value] = Some(spec);
        }
        for (id, _) in &self.constants {
            specs[*id] = Some(self.specs[*id].clone());
        }
        let known = |specs: &[Option<Spec>], id: ValueId| {
            specs[id]
                .clone()
                .ok_or_else(|| "a value is missing".to_owned())
        };
        for (at, _) in &self.plan.steps {
            let call = &self.calls[*at];
            let args = call.args.try_map(|&id| known(&specs, id))?;
            let outputs = match call.step {
                Step::Layer(layer) => self.nodes[layer].built.infer(&args)?,
                Step::Activation(activation) => Tree::Leaf(activation.infer(args.only()?)?),
                Step::Fused(_) => call.outputs.map(|&id| self.specs[id].clone()),
            };
            assign(&call.outputs, outputs, &mut specs);
        }
        self.outputs.try_map(&mut |&id| known(&specs, id))
    }

    /// The arguments of a call in the order of the inputs. A dictionary may be given for a list:
    /// then it is read by the inputs' names.
    fn bind<T: Clone>(&self, args: &Args<T>) -> std::result::Result<Vec<T>, String> {
        let given = args.list.first().ok_or("is called without inputs")?;
        let by_name = matches!(given, Tree::Map(_)) && !matches!(self.structure, Tree::Map(_));
        let values: Vec<T> = match given {
            Tree::Map(entries) if by_name => {
                let named = self.inputs.iter().map(|input| {
                    let found = entries.iter().find(|(key, _)| *key == input.name);
                    let value = found.and_then(|(_, tree)| tree.leaf()).cloned();
                    value.ok_or_else(|| format!("lacks the input \"{}\"", input.name))
                });
                named.collect::<std::result::Result<_, _>>()?
            }
            tree => tree.leaves().into_iter().cloned().collect(),
        };
        if values.len() != self.inputs.len() {
            let (given, wanted) = (values.len(), self.inputs.len());
            return Err(format!("takes {wanted} inputs, got {given}"));
        }
        Ok(values)
    }
}

fn take<T: Clone>(values: &[Option<T>], id: ValueId) -> Result<T> {
    values[id].clone().ok_or_else(|| Error::Values {
        reason: format!("value {id} of the graph is used before it is there"),
    })
}

/// Puts outputs where the graph keeps them.
fn assign<T>(ids: &Tree<ValueId>, outputs: Tree<T>, values: &mut [Option<T>]) {
    match (ids, outputs) {
        (Tree::Leaf(id), Tree::Leaf(value)) => values[*id] = Some(value),
        (Tree::List(ids), Tree::List(items)) => {
            for (id, item) in ids.iter().zip(items) {
                assign(id, item, values);
            }
        }
        (Tree::Map(ids), Tree::Map(items)) => {
            for ((_, id), (_, item)) in ids.iter().zip(items) {
                assign(id, item, values);
            }
        }
        _ => {}
    }
}

/// A graph that grows call by call.
struct Builder<'a> {
    network: &'a Network,
    /// Group in the weights file of each entry.
    groups: Vec<String>,
    positions: Vec<usize>,
    /// What each entry does with its part of a tensor group.
    splits: Vec<Split>,
    nodes: Vec<Node>,
    calls: Vec<Call>,
    inputs: Vec<Input>,
    specs: Vec<Spec>,
    constants: Vec<(ValueId, Tensor)>,
    /// The node of each entry, once built.
    built: Vec<Option<usize>>,
    /// The outputs of each call, flattened.
    values: std::collections::HashMap<(usize, usize), Vec<ValueId>>,
}

impl<'a> Builder<'a> {
    fn new(network: &'a Network, place: &Place<'_>) -> Result<Self> {
        let count = network.entries.len();
        let mut groups = vec![String::new(); count];
        // Keras's `model.layers`: no operations, and a Sequential does not list its InputLayer.
        let listed: Vec<usize> = network
            .order
            .iter()
            .copied()
            .filter(|&at| {
                let entry = &network.entries[at];
                let hidden = network.sequential && entry.class == "InputLayer";
                entry.family != Family::Ops && !hidden
            })
            .collect();
        let classes: Vec<&str> = listed
            .iter()
            .map(|&at| network.entries[at].class.as_str())
            .collect();
        for (at, group) in listed.iter().zip(group_names(&place.group, &classes)) {
            groups[*at] = group;
        }
        let mut positions = vec![count; count];
        for (position, &at) in network.order.iter().enumerate() {
            positions[at] = position;
        }
        let mut builder = Self {
            network,
            groups,
            positions,
            splits: splitting::plan(network, place.tensor, place.split),
            nodes: Vec::new(),
            calls: Vec::new(),
            inputs: Vec::new(),
            specs: Vec::new(),
            constants: Vec::new(),
            built: vec![None; count],
            values: std::collections::HashMap::new(),
        };
        for key in network.inputs.leaves() {
            let value = builder.specs.len();
            builder.specs.push(network.input_spec(key.entry)?);
            let name = network.entries[key.entry].name.clone();
            builder.inputs.push(Input { name, value });
            builder.values.insert((key.entry, key.node), vec![value]);
        }
        Ok(builder)
    }

    fn call(&mut self, node: &network::Node, place: &mut Place<'_>) -> Result<()> {
        let entry = &self.network.entries[node.entry];
        let args = node.args.try_map(|key| self.value(*key))?;
        let mut args = constants::lift(args, &mut |tensor| {
            self.specs.push(literals::spec_of(&tensor));
            self.constants.push((self.specs.len() - 1, tensor));
            self.specs.len() - 1
        })
        .map_err(|error| error.of_config(&entry.place()))?;
        // Keras records `training`, mostly as its default; the mode of `fit` or `predict`, which
        // a pass always has, overrides it (`operation_fn` in functional.py).
        args.named.retain(|(key, _)| key != "training");
        let specs = args.map(|&id| self.specs[id].clone());
        let layer = match self.built[node.entry] {
            Some(layer) => layer,
            None => {
                let path = match place.path.as_str() {
                    "" => entry.name.clone(),
                    path => format!("{path}/{}", entry.name),
                };
                let order = [place.order.as_slice(), &[self.positions[node.entry]]].concat();
                let child = Place {
                    declared: &mut *place.declared,
                    sums: &mut *place.sums,
                    assets: place.assets,
                    path,
                    group: self.groups[node.entry].clone(),
                    order,
                    trainable: place.trainable,
                    tensor: place.tensor,
                    split: self.splits[node.entry],
                };
                let built = registry::build(entry, &specs, child)?;
                self.nodes.push(Node {
                    name: entry.name.clone(),
                    class: entry.class.clone(),
                    built,
                });
                self.built[node.entry] = Some(self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        let built = &self.nodes[layer].built;
        let inferred = built.infer(&specs).map_err(|reason| Error::ShapeMismatch {
            place: entry.place(),
            reason,
        })?;
        let activation = match built.activity {
            Some(_) => Activation::Linear,
            None => built.activation,
        };
        let mut outputs = self.allocate(&inferred);
        let step = Step::Layer(layer);
        self.calls.push(Call {
            step,
            args,
            outputs: outputs.clone(),
        });
        if activation != Activation::Linear {
            outputs = outputs.try_map(&mut |&id| {
                let spec = activation.infer(&self.specs[id]);
                self.specs.push(spec.map_err(|reason| Error::ShapeMismatch {
                    place: entry.place(),
                    reason,
                })?);
                let result = self.specs.len() - 1;
                self.calls.push(Call {
                    step: Step::Activation(activation),
                    args: Args::one(id),
                    outputs: Tree::Leaf(result),
                });
                Ok::<_, Error>(result)
            })?;
        }
        let leaves = outputs.leaves().into_iter().copied().collect();
        self.values.insert((node.entry, node.node), leaves);
        Ok(())
    }

    fn allocate(&mut self, inferred: &Tree<Spec>) -> Tree<ValueId> {
        inferred.map(|spec| {
            self.specs.push(spec.clone());
            self.specs.len() - 1
        })
    }

    fn value(&self, key: network::Key) -> Result<ValueId> {
        let outputs = self.values.get(&(key.entry, key.node));
        let value = outputs.and_then(|outputs| outputs.get(key.tensor));
        value.copied().ok_or_else(|| Error::InvalidConfig {
            place: self.network.entries[key.entry].place(),
            reason: format!("it has no output {} in call {}", key.tensor, key.node),
        })
    }

    fn finish(mut self) -> Result<Graph> {
        let outputs = self.network.outputs.try_map(&mut |key| self.value(*key))?;
        let names = self.network.outputs.leaves().into_iter();
        let output_names = names
            .map(|key| self.network.entries[key.entry].name.clone())
            .collect();
        pool_before_relu::apply(&self.nodes, &mut self.calls, &mut self.specs, &outputs);
        let structure = self
            .network
            .inputs
            .map(|key| self.network.entries[key.entry].name.clone());
        let takes: Vec<_> = self.inputs.iter().map(|input| input.value).collect();
        let gives: Vec<_> = outputs.leaves().into_iter().copied().collect();
        Ok(Graph {
            plan: Plan::new(&self.calls, &takes, &gives, self.specs.len()),
            takes,
            gives,
            nodes: self.nodes,
            calls: self.calls,
            inputs: self.inputs,
            structure,
            outputs,
            output_names,
            specs: self.specs,
            constants: self.constants,
            fused: Vec::new(),
        })
    }
}

/// A model inside another.
#[derive(Debug)]
struct Nested(Graph);

/// Builds the Sequential or Functional model that a scope describes.
pub(crate) fn build_nested(scope: &mut Scope<'_>) -> Result<Built> {
    if !matches!(scope.class, "Sequential" | "Functional" | "Model") {
        return Err(Error::Unsupported {
            place: scope.options.place().to_owned(),
            what: "this class of models".to_owned(),
            supported: "Sequential, Functional".to_owned(),
        });
    }
    scope.options.ignore(&["dtype", "build_input_shape"]);
    let network = Network::read(scope.class, scope.options)?;
    let place = Place {
        declared: &mut *scope.place.declared,
        sums: &mut *scope.place.sums,
        assets: scope.place.assets,
        path: scope.place.path.clone(),
        group: scope.place.group.clone(),
        order: scope.place.order.clone(),
        trainable: scope.place.trainable,
        tensor: scope.place.tensor,
        split: scope.place.split,
    };
    Ok(Built::layer(Nested(Graph::build(&network, place)?)))
}

impl Layer for Nested {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = self.0.bind(args)?;
        for (input, spec) in self.0.inputs.iter().zip(&inputs) {
            let wanted = &self.0.specs[input.value];
            if !alike(&wanted.dims, &spec.dims) {
                let name = &input.name;
                return Err(format!(
                    "takes {wanted} as its input \"{name}\", got {spec}"
                ));
            }
        }
        let inputs = inputs.into_iter().zip(&self.0.inputs);
        let inputs = inputs.map(|(spec, input)| {
            let dtype = self.0.specs[input.value].dtype;
            spec.with_dtype(dtype)
        });
        self.0.infer(inputs.collect())
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let mut inputs = self.0.bind(args).map_err(Error::values)?;
        // The call's own masks: `call(inputs, training=None, mask=None)`.
        let masks = args.get(2, "mask").map(Tree::leaves).unwrap_or_default();
        if masks.len() == inputs.len() {
            for (input, mask) in inputs.iter_mut().zip(masks) {
                *input = input.clone().with_mask(Some(mask.y()?.shallow_clone()));
            }
        }
        let inputs = inputs.into_iter().zip(&self.0.inputs);
        let inputs = inputs.map(|(value, input)| convert(value, self.0.specs[input.value].dtype));
        let outputs = self.0.run(inputs.collect::<Result<_>>()?, context)?;
        let mut outputs = outputs.into_iter();
        let missing = || Error::values("a model inside the model lacks an output");
        self.0
            .outputs
            .try_map(&mut |_| outputs.next().ok_or_else(missing))
    }

    fn fuse(&mut self, variables: &Variables) -> Result<()> {
        self.0.fuse(variables)
    }
}

/// A value in the dtype of the input that takes it.
pub(crate) fn convert(value: Value, dtype: DType) -> Result<Value> {
    match dtype.kind() {
        Some(kind) if value.dtype() != dtype => {
            let mask = value.mask().map(Tensor::shallow_clone);
            Ok(Value::new(value.y()?.f_to_kind(kind)?).with_mask(mask))
        }
        _ => Ok(value),
    }
}
