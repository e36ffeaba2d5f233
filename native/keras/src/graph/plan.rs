//! Which calls run, and which values nobody needs after each.

use super::{Call, ValueId};

/// The calls that a run makes, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    /// A call, and the values that can be dropped after it.
    pub(crate) steps: Vec<(usize, Vec<ValueId>)>,
}

impl Plan {
    /// What of `calls`, which are in an order in which they can run, leads from the values `takes` to
    /// the values `gives`.
    pub(super) fn new(calls: &[Call], takes: &[ValueId], gives: &[ValueId], values: usize) -> Self {
        const KEPT: usize = usize::MAX;
        let mut last_use: Vec<Option<usize>> = vec![None; values];
        for &value in gives {
            last_use[value] = Some(KEPT);
        }
        let mut given = vec![false; values];
        takes.iter().for_each(|&value| given[value] = true);
        let mut needed = vec![false; calls.len()];
        for (at, call) in calls.iter().enumerate().rev() {
            let results = call.outputs.leaves();
            let is_needed = |value: &usize| last_use[*value].is_some() && !given[*value];
            needed[at] = results.iter().any(|value| is_needed(value));
            if !needed[at] {
                continue;
            }
            // Outputs that nobody takes are dropped at once.
            for &value in results.into_iter().chain(call.args.leaves()) {
                last_use[value].get_or_insert(at);
            }
        }
        let mut finished: Vec<Vec<ValueId>> = vec![Vec::new(); calls.len()];
        for (value, last) in last_use.iter().enumerate() {
            if let Some(at) = last.filter(|&at| at != KEPT) {
                finished[at].push(value);
            }
        }
        let steps = finished.into_iter().enumerate();
        Self {
            steps: steps.filter(|(at, _)| needed[*at]).collect(),
        }
    }
}
