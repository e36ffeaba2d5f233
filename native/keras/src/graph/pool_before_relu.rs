//! Moves a relu behind the max-pooling that follows it: both orders give exactly the same values
//! and gradients, and the pooled tensor is several times smaller.

use super::{Call, Node, Step, ValueId};
use crate::activations::Activation;
use crate::arguments::Tree;
use crate::layers::pooling::is_max_pooling;
use crate::spec::Spec;

/// Swaps every relu that only feeds a max-pooling with that pooling.
pub(super) fn apply(
    nodes: &[Node],
    calls: &mut [Call],
    specs: &mut [Spec],
    outputs: &Tree<ValueId>,
) {
    let mut uses = vec![0_usize; specs.len()];
    let mut source: Vec<Option<usize>> = vec![None; specs.len()];
    for &output in outputs.leaves() {
        uses[output] += 1;
    }
    for (at, call) in calls.iter().enumerate() {
        call.args
            .leaves()
            .iter()
            .for_each(|&&value| uses[value] += 1);
        call.outputs
            .leaves()
            .iter()
            .for_each(|&&value| source[value] = Some(at));
    }
    for pool in 0..calls.len() {
        let Step::Layer(layer) = calls[pool].step else {
            continue;
        };
        let [&between] = calls[pool].args.leaves()[..] else {
            continue;
        };
        let Some(relu) = source[between] else {
            continue;
        };
        let is_relu = calls[relu].step == Step::Activation(Activation::Relu);
        let &Tree::Leaf(pooled) = &calls[pool].outputs else {
            continue;
        };
        if is_relu && uses[between] == 1 && is_max_pooling(&nodes[layer].built) {
            calls[relu].step =
                std::mem::replace(&mut calls[pool].step, Step::Activation(Activation::Relu));
            specs[between] = specs[pooled].clone();
        }
    }
}
