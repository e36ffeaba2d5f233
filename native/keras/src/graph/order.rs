//! Keras's order of a Functional model's layers, by which it numbers weights, and of their calls:
//! depth first from the outputs, then by distance from them (`map_graph` of
//! keras/src/ops/function.py). The order of calls matters where a call leaves something behind: a
//! shared BatchNormalization's statistics, the masks that MultiHeadAttention takes away.

use std::collections::HashMap;

use super::network::{Key, Node};
use crate::arguments::Tree;

/// What a model consists of, sorted.
#[derive(Debug)]
pub(super) struct Sorted {
    /// Calls that the outputs need, each after those it needs, in the order in which Keras runs
    /// them.
    pub(super) nodes: Vec<usize>,
    /// Layers, in Keras's order.
    pub(super) entries: Vec<usize>,
}

/// A call (an index into the nodes), or the only call of an `InputLayer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Vertex {
    Call(usize),
    Input(usize),
}

/// Sorts the calls `nodes` of layers called `names`. An error if an output needs a call that does
/// not exist, or itself.
pub(super) fn sort(
    names: &[&str],
    nodes: &[Node],
    inputs: &Tree<Key>,
    outputs: &Tree<Key>,
) -> Result<Sorted, String> {
    let calls: HashMap<(usize, usize), usize> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| ((node.entry, node.node), at))
        .collect();
    let input_entries: Vec<usize> = inputs.leaves().iter().map(|key| key.entry).collect();
    let vertex = |key: &Key| match calls.get(&(key.entry, key.node)) {
        Some(&at) => Ok(Vertex::Call(at)),
        None if input_entries.contains(&key.entry) => Ok(Vertex::Input(key.entry)),
        None => Err(format!(
            "call {} of layer \"{}\" is used, but it is neither an input nor ever made",
            key.node, names[key.entry]
        )),
    };
    let entry = |vertex| match vertex {
        Vertex::Call(at) => nodes[at].entry,
        Vertex::Input(entry) => entry,
    };
    let mut walk = Walk::default();
    for key in outputs.leaves() {
        walk.from(vertex(key)?, &entry, &mut |at| match at {
            Vertex::Call(at) => nodes[at].args.leaves().into_iter().map(vertex).collect(),
            Vertex::Input(_) => Ok(Vec::new()),
        })
        .map_err(|looped| match looped {
            Stopped::Cycle(at) => format!("layer \"{}\" is part of a cycle", names[entry(at)]),
            Stopped::Missing(reason) => reason,
        })?;
    }
    let mut depths: HashMap<Vertex, usize> = HashMap::new();
    // The calls as they got a depth: among those of one depth, Keras runs the first of these first.
    let mut met: Vec<Vertex> = Vec::new();
    let mut entry_depths: HashMap<usize, usize> = HashMap::new();
    for &at in walk.done.iter().rev() {
        let own = depths.get(&at).copied().unwrap_or(0);
        let known = entry_depths.get(&entry(at)).copied().unwrap_or(0);
        let depth = own.max(known);
        entry_depths.insert(entry(at), depth);
        if depths.insert(at, depth).is_none() {
            met.push(at);
        }
        for parent in &walk.parents[&at] {
            let known = depths.get(parent).copied();
            if depths
                .insert(*parent, (depth + 1).max(known.unwrap_or(0)))
                .is_none()
            {
                met.push(*parent);
            }
        }
    }
    // Inputs that no output needs come first among the last layers.
    for key in inputs.leaves() {
        entry_depths.entry(key.entry).or_insert(0);
    }
    let mut entries: Vec<usize> = entry_depths.keys().copied().collect();
    let seen = |entry: usize| walk.seen.get(&entry).map_or(0, |at| at + 1);
    entries.sort_by_key(|&at| (std::cmp::Reverse(entry_depths[&at]), seen(at), at));
    met.sort_by_key(|at| std::cmp::Reverse(depths[at]));
    let calls = met.into_iter().filter_map(|at| match at {
        Vertex::Call(at) => Some(at),
        Vertex::Input(_) => None,
    });
    Ok(Sorted {
        nodes: calls.collect(),
        entries,
    })
}

/// Why a walk ended early.
enum Stopped {
    Cycle(Vertex),
    Missing(String),
}

/// A depth-first walk from the outputs to the inputs.
#[derive(Debug, Default)]
struct Walk {
    /// Calls in the order in which they were left: parents first.
    done: Vec<Vertex>,
    parents: HashMap<Vertex, Vec<Vertex>>,
    /// False while a vertex is on the path at hand.
    finished: HashMap<Vertex, bool>,
    /// When each layer was first seen.
    seen: HashMap<usize, usize>,
}

impl Walk {
    /// Visits `start` and all it needs, without recursion: a hostile config may be deep.
    fn from(
        &mut self,
        start: Vertex,
        entry: &impl Fn(Vertex) -> usize,
        parents: &mut impl FnMut(Vertex) -> Result<Vec<Vertex>, String>,
    ) -> Result<(), Stopped> {
        let mut path: Vec<(Vertex, usize)> = Vec::new();
        let mut next = Some(start);
        loop {
            if let Some(at) = next.take() {
                match self.finished.get(&at) {
                    Some(true) => {}
                    Some(false) => return Err(Stopped::Cycle(at)),
                    None => {
                        self.finished.insert(at, false);
                        let count = self.seen.len();
                        self.seen.entry(entry(at)).or_insert(count);
                        let needs = parents(at).map_err(Stopped::Missing)?;
                        self.parents.insert(at, needs);
                        path.push((at, 0));
                    }
                }
            }
            let Some((at, position)) = path.last_mut() else {
                return Ok(());
            };
            if let Some(&parent) = self.parents[&*at].get(*position) {
                *position += 1;
                next = Some(parent);
            } else {
                self.finished.insert(*at, true);
                self.done.push(*at);
                path.pop();
            }
        }
    }
}
