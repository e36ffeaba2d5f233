//! The steps of a model in the order in which they run, with activations as steps of their own.

use tch::Tensor;

use crate::activations::Activation;
use crate::error::Result;
use crate::fuse::pool_before_relu;
use crate::layers::Layer;
use crate::output::Output;
use crate::topology::Call;

/// What a step computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Op {
    /// The batch.
    Input,
    /// The layer of this index, without its activation.
    Layer(usize),
    /// An activation of the only input.
    Activation(Activation),
}

/// A step and the steps whose results it takes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<usize>,
}

/// The steps needed in one mode, each with the results that nobody needs after it.
#[derive(Debug)]
struct Plan {
    steps: Vec<(usize, Vec<usize>)>,
    result: usize,
    /// A final softmax or sigmoid, left to [`Output`].
    last: Option<Activation>,
}

/// A model's steps, planned for training and for inference.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    training: Plan,
    inference: Plan,
}

impl Graph {
    /// `calls` are in an order in which they can run; a call without inputs is the batch.
    pub(crate) fn new(calls: &[Call], output: usize, layers: &[&dyn Layer]) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            let inputs: Vec<usize> = call.inputs.iter().map(|&input| results[input]).collect();
            let op = if inputs.is_empty() {
                Op::Input
            } else {
                Op::Layer(call.layer)
            };
            nodes.push(Node { op, inputs });
            let activation = layers[call.layer].activation();
            if activation != Activation::Linear {
                let inputs = vec![nodes.len() - 1];
                nodes.push(Node {
                    op: Op::Activation(activation),
                    inputs,
                });
            }
            results.push(nodes.len() - 1);
        }
        let output = results[output];
        pool_before_relu(&mut nodes, output, |layer| {
            layers[layer].commutes_with_relu()
        });
        let training = Plan::new(&nodes, output, layers, true);
        let inference = Plan::new(&nodes, output, layers, false);
        Self {
            nodes,
            training,
            inference,
        }
    }

    /// Runs the steps on a batch; `run` computes one layer on its inputs.
    pub(crate) fn run(
        &self,
        x: Tensor,
        training: bool,
        mut run: impl FnMut(usize, &[&Tensor]) -> Result<Tensor>,
    ) -> Result<Output> {
        let plan = if training {
            &self.training
        } else {
            &self.inference
        };
        let mut values: Vec<Option<Tensor>> = self.nodes.iter().map(|_| None).collect();
        for (step, finished) in &plan.steps {
            let node = &self.nodes[*step];
            let inputs: Vec<&Tensor> = node
                .inputs
                .iter()
                .filter_map(|&input| values[input].as_ref())
                .collect();
            let value = match &node.op {
                Op::Input => x.shallow_clone(),
                Op::Layer(layer) => run(*layer, &inputs)?,
                Op::Activation(activation) => activation.apply(inputs[0])?,
            };
            values[*step] = Some(value);
            finished.iter().for_each(|&value| values[value] = None);
        }
        let result = values[plan.result].take().unwrap_or(x);
        Ok(match plan.last {
            Some(activation) => Output::from_logits(result, activation),
            None => Output::new(result),
        })
    }
}

impl Plan {
    fn new(nodes: &[Node], output: usize, layers: &[&dyn Layer], training: bool) -> Self {
        let (result, last) = split_last(nodes, output, layers, training);
        let mut last_use: Vec<Option<usize>> = vec![None; nodes.len()];
        last_use[result] = Some(result);
        for step in (0..=result).rev() {
            if last_use[step].is_some() {
                for &input in &nodes[step].inputs {
                    last_use[input] = last_use[input].max(Some(step));
                }
            }
        }
        let needed = (0..=result).filter(|&step| last_use[step].is_some());
        let finished = |step| (0..step).filter(|&v| last_use[v] == Some(step)).collect();
        let steps = needed.map(|step| (step, finished(step))).collect();
        Self {
            steps,
            result,
            last,
        }
    }
}

/// Walks back from the output over steps that change nothing; if a softmax or sigmoid is found, the
/// result is its input, as Keras's `_keras_logits`.
fn split_last(
    nodes: &[Node],
    output: usize,
    layers: &[&dyn Layer],
    training: bool,
) -> (usize, Option<Activation>) {
    let mut step = output;
    loop {
        match (nodes[step].op, nodes[step].inputs.as_slice()) {
            (Op::Layer(layer), &[input]) if layers[layer].is_identity(training) => step = input,
            (Op::Activation(last), &[input]) if last.keeps_logits() => return (input, Some(last)),
            _ => return (output, None),
        }
    }
}
