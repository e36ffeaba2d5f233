//! A Keras model: its graph, its variables in two stores, and how it runs.

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::archive::Loaded;
use crate::error::{Error, Result};
use crate::flat::gather;
use crate::graph::Graph;
use crate::initializers::Initializer;
use crate::layers::{self, Layer, LayerVariables, Shape, Slot, VariableSpec};
use crate::normalize::normalize;
use crate::output::Output;
use crate::pass::{Pass, StateUpdate};
use crate::topology::{Call, LayerEntry, Topology};
use crate::variables::{Variable, VariableStore};

/// Rows that inference handles at once: small enough for the results to stay in the cache.
const MICRO_BATCH: usize = 128;

/// What a model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Sizes without the batch.
    pub shape: Shape,
}

/// A layer with the places of its variables.
#[derive(Debug)]
struct ModelLayer {
    name: String,
    class: &'static str,
    layer: Box<dyn Layer>,
    slots: Vec<Slot>,
    initializers: Vec<Initializer>,
}

/// A Sequential or Functional model with one input and one output.
#[derive(Debug)]
pub struct Model {
    config: Value,
    name: String,
    input: InputSpec,
    output_shape: Shape,
    layers: Vec<ModelLayer>,
    graph: Graph,
    trainable: VariableStore,
    non_trainable: VariableStore,
    moving: Vec<usize>,
}

impl Model {
    /// Builds the model of a config: the text of `model.to_json()` of Keras 3 or 2. Variables are
    /// zeros until [`Self::initialize`]. Errors name the layer, its class and what is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_config(serde_json::from_str(text).map_err(Error::NotJson)?)
            .map(|(model, _)| model)
    }

    /// As [`Self::from_json`] with the document parsed; also gives its `compile_config`.
    pub fn from_config(document: Value) -> Result<(Self, Loaded)> {
        let normalized = normalize(document)?;
        let topology = Topology::read(&normalized.model)?;
        let mut layers = Vec::with_capacity(topology.layers.len());
        let mut frozen = Vec::with_capacity(topology.layers.len());
        for LayerEntry {
            name,
            class,
            config,
        } in &topology.layers
        {
            let built = layers::build(name, class, config)?;
            layers.push(ModelLayer {
                name: name.clone(),
                class: built.class,
                layer: built.layer,
                slots: Vec::new(),
                initializers: Vec::new(),
            });
            frozen.push(!built.trainable);
        }
        let (shapes, specs) = infer_shapes(&topology, &layers)?;
        let (mut trainable, mut non_trainable, mut moving) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (layer, specs)) in layers.iter_mut().zip(specs).enumerate() {
            for VariableSpec {
                name,
                shape,
                initializer,
                trainable: wanted,
            } in specs
            {
                if !wanted && !frozen[index] {
                    moving.push(non_trainable.len());
                }
                let wanted = wanted && !frozen[index];
                let store = if wanted {
                    &mut trainable
                } else {
                    &mut non_trainable
                };
                layer.slots.push(Slot {
                    trainable: wanted,
                    index: store.len(),
                });
                layer.initializers.push(initializer);
                let path = format!("{}/{name}", layer.name);
                store.push(Variable {
                    path,
                    layer: index,
                    name: name.to_owned(),
                    shape,
                    offset: 0,
                });
            }
        }
        let parts: Vec<&dyn Layer> = layers.iter().map(|layer| &*layer.layer).collect();
        let graph = Graph::new(&topology.calls, topology.output, &parts);
        let model = Self {
            config: normalized.model,
            name: topology.name,
            input: InputSpec {
                shape: topology.input_shape,
            },
            output_shape: shapes[topology.output].clone(),
            layers,
            graph,
            trainable: VariableStore::zeros(trainable, true)?,
            non_trainable: VariableStore::zeros(non_trainable, false)?,
            moving,
        };
        Ok((
            model,
            Loaded {
                weights: false,
                compile: normalized.compile,
            },
        ))
    }

    /// Sets every variable by its layer's Keras initializer. The values depend on `seed` and the
    /// variables' paths only, so all ranks get the same.
    pub fn initialize(&mut self, seed: u64) -> Result<()> {
        for layer in &self.layers {
            for (slot, initializer) in layer.slots.iter().zip(&layer.initializers) {
                let store = if slot.trainable {
                    &mut self.trainable
                } else {
                    &mut self.non_trainable
                };
                let Variable { path, shape, .. } = store.variables()[slot.index].clone();
                let span = store.variables()[slot.index].span();
                initializer.fill(&shape, &path, seed, &mut store.as_mut_slice()[span])?;
            }
        }
        Ok(())
    }

    /// The model's name in its config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model takes.
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// Sizes of the output without the batch.
    pub fn output_shape(&self) -> &[i64] {
        &self.output_shape
    }

    /// The variables that gradients change.
    pub fn trainable(&self) -> &VariableStore {
        &self.trainable
    }

    /// The variables that gradients change, for the optimizer or loading.
    pub fn trainable_mut(&mut self) -> &mut VariableStore {
        &mut self.trainable
    }

    /// Moving statistics and the variables of frozen layers.
    pub fn non_trainable(&self) -> &VariableStore {
        &self.non_trainable
    }

    /// Moving statistics and the variables of frozen layers, for loading.
    pub fn non_trainable_mut(&mut self) -> &mut VariableStore {
        &mut self.non_trainable
    }

    /// Name, Keras class and variables' places of each layer, in the config's order.
    pub fn layers(&self) -> impl Iterator<Item = (&str, &'static str, &[Slot])> {
        self.layers
            .iter()
            .map(|layer| (layer.name.as_str(), layer.class, layer.slots.as_slice()))
    }

    /// The config in Keras 3's form, without `compile_config`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The config as text that Keras 3's `model_from_json` opens.
    pub fn to_json(&self) -> String {
        self.config.to_string()
    }

    /// Indices in [`Self::non_trainable`] of the states that training passes change, such as
    /// BatchNormalization's moving statistics; frozen layers' variables are not among them.
    pub fn moving(&self) -> &[usize] {
        &self.moving
    }

    /// Runs the model on a batch `x` of any numeric kind: `[N, ...input shape]`, or any other shape
    /// of N rows with as many elements. Only a training pass records a graph for gradients.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Output> {
        let x = self.admit(x)?;
        let _guard = (!pass.training).then(tch::no_grad_guard);
        let training = pass.training;
        self.graph.run(x, training, |index, inputs| {
            let ModelLayer {
                name,
                class,
                layer,
                slots,
                ..
            } = &self.layers[index];
            let variables = LayerVariables {
                slots,
                trainable: &self.trainable,
                non_trainable: &self.non_trainable,
            };
            layer
                .forward(inputs, &variables, pass)
                .map_err(|source| Error::Layer {
                    layer: name.clone(),
                    class,
                    source: Box::new(source),
                })
        })
    }

    /// The outputs for `x` (see [`Self::forward`]) in inference mode, computed in parts that suit
    /// the cache whatever the size of the batch.
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.size().first().copied().unwrap_or(0);
        let mut parts = Vec::new();
        for start in (0..rows.max(1)).step_by(MICRO_BATCH) {
            let part = x.f_narrow(0, start, (rows - start).min(MICRO_BATCH as i64))?;
            parts.push(
                self.forward(&part, &mut Pass::inference())?
                    .values()?
                    .shallow_clone(),
            );
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Runs the backward pass of the scalar `loss` and writes the gradients of all trainable
    /// variables, laid out as [`VariableStore::as_slice`], over `out`. A variable that the loss
    /// does not depend on gets zeros. The loss's graph is freed.
    pub fn gradients(&self, loss: &Tensor, out: &mut [f32]) -> Result<()> {
        if out.len() != self.trainable.len() {
            return Err(Error::LengthMismatch {
                what: "the slice for gradients".to_owned(),
                expected: self.trainable.len(),
                actual: out.len(),
            });
        }
        if !loss.requires_grad() {
            out.fill(0.0);
            return Ok(());
        }
        let gradients = Tensor::f_run_backward(&[loss], self.trainable.tensors(), false, false)?;
        gather(&gradients, &self.trainable.spans(), out)
    }

    /// Applies new states (see [`StateUpdate`]) to the non-trainable variables.
    pub fn apply_updates(&mut self, updates: &[StateUpdate]) -> Result<()> {
        for StateUpdate {
            variable,
            value,
            momentum,
        } in updates
        {
            let mut batch = vec![0.0_f32; self.non_trainable.variables()[*variable].len()];
            value
                .f_contiguous()?
                .f_copy_data(&mut batch, value.numel())?;
            let span = self.non_trainable.variables()[*variable].span();
            #[expect(clippy::cast_possible_truncation, reason = "states are f32")]
            let (old, new) = (*momentum as f32, (1.0 - *momentum) as f32);
            for (state, batch) in self.non_trainable.as_mut_slice()[span]
                .iter_mut()
                .zip(batch)
            {
                *state = *state * old + batch * new;
            }
        }
        Ok(())
    }

    /// The batch as f32 in the model's input shape.
    fn admit(&self, x: &Tensor) -> Result<Tensor> {
        let size = x.size();
        let row: i64 = self.input.shape.iter().product();
        if size.is_empty() || size[1..].iter().product::<i64>() != row {
            return Err(Error::ShapeMismatch {
                place: format!("input of model \"{}\"", self.name),
                reason: format!("got a batch {size:?}, expected [N, {:?}]", self.input.shape),
            });
        }
        let shape = [&size[..1], &self.input.shape].concat();
        Ok(x.f_to_kind(Kind::Float)?.f_reshape(shape)?)
    }
}

/// The output shape of every call, and the variables of every layer.
fn infer_shapes(
    topology: &Topology,
    layers: &[ModelLayer],
) -> Result<(Vec<Shape>, Vec<Vec<VariableSpec>>)> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(topology.calls.len());
    let mut specs: Vec<Option<Vec<VariableSpec>>> = layers.iter().map(|_| None).collect();
    for Call {
        layer: index,
        inputs,
    } in &topology.calls
    {
        let ModelLayer {
            name, class, layer, ..
        } = &layers[*index];
        let mismatch = |reason| Error::ShapeMismatch {
            place: format!("layer \"{name}\" ({class})"),
            reason,
        };
        let mut inputs: Vec<Shape> = inputs.iter().map(|&input| shapes[input].clone()).collect();
        if inputs.is_empty() {
            inputs.push(topology.input_shape.clone());
        }
        shapes.push(layer.output_shape(&inputs).map_err(mismatch)?);
        let wanted = layer.variables(&inputs);
        match &specs[*index] {
            Some(known) if known.iter().zip(&wanted).any(|(a, b)| a.shape != b.shape) => {
                return Err(mismatch(format!(
                    "is shared, but {inputs:?} needs other variables"
                )));
            }
            _ => specs[*index] = Some(wanted),
        }
    }
    Ok((
        shapes,
        specs.into_iter().map(Option::unwrap_or_default).collect(),
    ))
}

#[cfg(test)]
mod tests;
