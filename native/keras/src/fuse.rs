//! Moves a relu behind the max-pooling that follows it: both orders give exactly the same values
//! and gradients, and the pooled tensor is several times smaller.

use crate::activations::Activation;
use crate::graph::{Node, Op};

/// Swaps every relu that only feeds a pooling with that pooling. `commutes` says which layers may
/// be swapped. Node indices stay valid: a pair keeps its two places.
pub(crate) fn pool_before_relu(
    nodes: &mut [Node],
    output: usize,
    commutes: impl Fn(usize) -> bool,
) {
    let mut uses = vec![0_usize; nodes.len()];
    uses[output] += 1;
    for input in nodes.iter().flat_map(|node| &node.inputs) {
        uses[*input] += 1;
    }
    for pool in 0..nodes.len() {
        let [relu] = nodes[pool].inputs[..] else {
            continue;
        };
        let is_pool = matches!(nodes[pool].op, Op::Layer(layer) if commutes(layer));
        let is_relu = nodes[relu].op == Op::Activation(Activation::Relu);
        if is_pool && is_relu && uses[relu] == 1 {
            nodes[relu].op =
                std::mem::replace(&mut nodes[pool].op, Op::Activation(Activation::Relu));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELU: Op = Op::Activation(Activation::Relu);

    fn chain(ops: &[Op]) -> Vec<Node> {
        let node = |(index, op): (usize, &Op)| Node {
            op: *op,
            inputs: index.checked_sub(1).into_iter().collect(),
        };
        ops.iter().enumerate().map(node).collect()
    }

    fn ops(nodes: &[Node]) -> Vec<Op> {
        nodes.iter().map(|node| node.op).collect()
    }

    #[test]
    fn a_relu_moves_behind_all_poolings_that_follow() {
        let mut nodes = chain(&[Op::Input, Op::Layer(1), RELU, Op::Layer(2), Op::Layer(2)]);
        pool_before_relu(&mut nodes, 4, |layer| layer == 2);
        let moved = [Op::Input, Op::Layer(1), Op::Layer(2), Op::Layer(2), RELU];
        assert_eq!(ops(&nodes), moved);
    }

    #[test]
    fn a_relu_that_is_used_twice_stays() {
        let mut nodes = chain(&[Op::Input, RELU, Op::Layer(2), Op::Layer(3)]);
        nodes[3].inputs = vec![1, 2];
        let before = ops(&nodes);
        pool_before_relu(&mut nodes, 3, |layer| layer == 2);
        assert_eq!(ops(&nodes), before);
    }

    #[test]
    fn another_activation_stays() {
        let mut nodes = chain(&[Op::Input, Op::Activation(Activation::Tanh), Op::Layer(2)]);
        let before = ops(&nodes);
        pool_before_relu(&mut nodes, 2, |layer| layer == 2);
        assert_eq!(ops(&nodes), before);
    }
}
