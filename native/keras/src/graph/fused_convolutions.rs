//! For inference: makes a convolution one step with the batch normalization, the sum with another
//! value and the relu that follow it.

use super::{Call, Graph, Node, Step, ValueId};
use crate::arguments::{Args, Tree};
use crate::error::Result;
use crate::layers::activation::is_plain;
use crate::layers::convolution::fused::FusedConvolution;
use crate::layers::merging::is_sum;
use crate::layers::normalization::scale_and_shift;
use crate::spec::Spec;
use crate::variables::Variables;

/// A fused convolution, and the index of the layer that it was.
pub(super) type Fused = (FusedConvolution, usize);

/// Fuses every convolution of the graph that can be; variables are taken as they are now.
///
/// # Errors
/// libtorch fails.
pub(super) fn apply(graph: &mut Graph, variables: &Variables) -> Result<()> {
    let mut taken = vec![false; graph.calls.len()];
    for at in 0..graph.calls.len() {
        let call = &graph.calls[at];
        let (Step::Layer(layer), Some(x)) = (call.step, only(&call.args)) else {
            continue;
        };
        let Some(mut fused) = FusedConvolution::of(&graph.nodes[layer].built, variables)? else {
            continue;
        };
        let mut chain = Chain::new(graph, at, &taken);
        if let Some((next, node)) = chain.layer()
            && only(&chain.call(next).args).is_some()
            && let Some((scale, shift)) = scale_and_shift(&node.built, variables)?
        {
            fused.scale_and_shift(&scale, &shift)?;
            chain.take(next);
        }
        chain.skip_plain();
        let mut other = None;
        if let Some((next, node)) = chain.layer()
            && is_sum(&node.built)
            && let Some(value) = chain.summand(next)
        {
            other = Some(value);
            chain.take(next);
            chain.skip_plain();
        }
        if let Some(next) = chain.next()
            && let Step::Activation(activation) = chain.call(next).step
            && fused.takes(activation, other.is_some())
        {
            chain.take(next);
        }
        if !fused.pack(&graph.specs[x]) {
            continue;
        }
        let calls = chain.calls;
        for &call in &calls {
            taken[call] = true;
        }
        if let Some(&last) = calls.last() {
            let values = [Some(x), other].into_iter().flatten();
            graph.calls[last].step = Step::Fused(graph.fused.len());
            graph.calls[last].args = Args {
                list: values.map(Tree::Leaf).collect(),
                named: Vec::new(),
            };
            graph.fused.push((fused, layer));
        }
    }
    for at in 0..graph.calls.len() {
        if let Step::Fused(fused) = graph.calls[at].step {
            graph.fused[fused].0.sums_in_place = may_sum_in_place(graph, at, &taken);
        }
    }
    Ok(())
}

/// Whether what call `at` adds is another convolution's result, of which nobody needs anything later.
/// Only convolutions may have taken it: others may give a view of its memory.
fn may_sum_in_place(graph: &Graph, at: usize, taken: &[bool]) -> bool {
    let [x, other] = graph.calls[at].args.leaves()[..] else {
        return false;
    };
    if x == other || graph.outputs.leaves().contains(&other) {
        return false;
    }
    let is_fused = |call: &Call| matches!(call.step, Step::Fused(_));
    let calls = graph.calls.iter().enumerate();
    let mut made_here = false;
    for (each, call) in calls.filter(|(each, call)| !is_dead(call, taken[*each])) {
        made_here |= call.outputs.leaf() == Some(other) && is_fused(call);
        let takes = call.args.leaves().contains(&other);
        if takes && (each > at || !is_fused(call)) {
            return false;
        }
    }
    made_here
}

/// Whether a call became part of a later one.
fn is_dead(call: &Call, taken: bool) -> bool {
    taken && !matches!(call.step, Step::Fused(_))
}

/// The only argument of a call.
fn only(args: &Args<ValueId>) -> Option<ValueId> {
    match args.list.as_slice() {
        [Tree::Leaf(value)] if has_no_options(args) => Some(*value),
        _ => None,
    }
}

/// Whether all arguments by name are null, as Keras records masks that are not there.
fn has_no_options(args: &Args<ValueId>) -> bool {
    let mut options = args.named.iter().map(|(_, option)| option.constant());
    options.all(|option| option.is_some_and(serde_json::Value::is_null))
}

/// Calls of which each only feeds the next.
struct Chain<'a> {
    graph: &'a Graph,
    taken: &'a [bool],
    calls: Vec<usize>,
}

impl<'a> Chain<'a> {
    fn new(graph: &'a Graph, first: usize, taken: &'a [bool]) -> Self {
        Self {
            graph,
            taken,
            calls: vec![first],
        }
    }

    fn call(&self, at: usize) -> &'a Call {
        &self.graph.calls[at]
    }

    fn take(&mut self, call: usize) {
        self.calls.push(call);
    }

    /// The value that the chain gives so far.
    fn value(&self) -> Option<ValueId> {
        let last = self.calls.last()?;
        self.call(*last).outputs.leaf().copied()
    }

    /// The call that alone takes the chain's value.
    fn next(&self) -> Option<usize> {
        let value = self.value()?;
        if self.graph.outputs.leaves().contains(&&value) {
            return None;
        }
        let calls = self.graph.calls.iter().enumerate();
        let mut takers = calls.filter(|(at, call)| {
            !is_dead(call, self.taken[*at]) && call.args.leaves().contains(&&value)
        });
        let (at, _) = takers.next()?;
        (takers.next().is_none() && !self.taken[at]).then_some(at)
    }

    /// The next call, if it is of a layer in float32 that costs nothing, and that layer.
    fn layer(&self) -> Option<(usize, &'a Node)> {
        let next = self.next()?;
        let Step::Layer(layer) = self.call(next).step else {
            return None;
        };
        let node = &self.graph.nodes[layer];
        let same = node.built.policy == crate::dtype::Policy::FLOAT32;
        (same && node.built.activity.is_none()).then_some((next, node))
    }

    /// Goes on behind layers that only are an activation, which is a step of its own.
    fn skip_plain(&mut self) {
        while let Some((next, _)) = self.layer().filter(|(_, node)| is_plain(&node.built)) {
            self.take(next);
        }
    }

    /// What else a sum of two values of one shape takes.
    fn summand(&self, sum: usize) -> Option<ValueId> {
        let call = self.call(sum);
        let value = self.value()?;
        let other = match call.args.inputs().as_slice() {
            [a, b] if **a == value && **b != value => **b,
            [a, b] if **b == value && **a != value => **a,
            _ => return None,
        };
        let known = |spec: &Spec| spec.dims.iter().skip(1).all(Option::is_some);
        let (a, b) = (&self.graph.specs[value], &self.graph.specs[other]);
        (has_no_options(&call.args) && a == b && known(a)).then_some(other)
    }
}
