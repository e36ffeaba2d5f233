//! Which server holds which part of the weights: the same on every rank, from the model alone.
//!
//! ```text
//! embeddings  [ rows 0..r ][ rows r..2r ][ ... ]     a stretch of rows on each server, and none on workers
//! kernels     whole, the largest first, each on the server that holds least
//! ```

use flambeau_keras::Model;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::variables::Variable;
use std::ops::Range;

/// A variable of more elements is cut: 256 kB. One whose rows are looked up is only on servers.
pub(crate) const LARGE: usize = 1 << 16;

/// About so many elements of a variable travel at once to where all of it is needed.
const PIECE: usize = 1 << 20;

/// Rows of a variable, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Which of the trainable variables.
    pub(crate) variable: usize,
    /// Its elements, counted from its first.
    pub(crate) elements: Range<usize>,
    /// Where they lie in the store of all trainable variables, of a model that has all of them.
    pub(crate) span: Range<usize>,
    /// Elements of a row.
    pub(crate) width: usize,
    /// Whether workers have its rows only as they look them up.
    pub(crate) by_row: bool,
}

impl Stretch {
    pub(crate) fn of(index: usize, variable: &Variable, rows: Range<usize>) -> Self {
        let width = variable.sizes().iter().skip(1).product();
        let elements = rows.start * width..rows.end * width;
        Self {
            variable: index,
            span: variable.offset + elements.start..variable.offset + elements.end,
            elements,
            width,
            by_row: false,
        }
    }

    /// All of each variable.
    pub(crate) fn whole(variables: &[Variable]) -> Vec<Self> {
        let all = variables.iter().enumerate();
        all.map(|(index, variable)| Self::of(index, variable, 0..rows(variable)))
            .collect()
    }

    /// Parts of it that need little room on their way, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Self> {
        let row = self.width.max(1);
        let most = (PIECE / row).max(1) * row;
        // A variable without elements has state, too.
        let starts =
            (self.elements.start..self.elements.end.max(self.elements.start + 1)).step_by(most);
        starts.map(move |start| self.part(start..self.elements.end.min(start + most)))
    }

    /// Some of its elements.
    pub(crate) fn part(&self, elements: Range<usize>) -> Self {
        let first = self.span.start - self.elements.start;
        Self {
            span: first + elements.start..first + elements.end,
            elements,
            ..*self
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.elements.len()
    }

    /// Its rows, counted from the variable's first.
    pub(crate) fn rows(&self) -> Range<usize> {
        let width = self.width.max(1);
        self.elements.start / width..self.elements.end / width
    }
}

/// What each server holds of a model, whose optimizer may update parts of a variable by themselves or
/// not. The rows of large matrices that are looked up travel by themselves.
pub(crate) fn plan(model: &Model, optimizer: &Optimizer, servers: usize) -> Vec<Vec<Stretch>> {
    let variables = whole(model);
    let mut held = deal(&variables, servers, optimizer.is_elementwise());
    let looked_up = model.indexed_slices(optimizer.needs());
    for stretch in held.iter_mut().flatten() {
        let is_looked_up = looked_up
            .iter()
            .any(|slices| slices.variable() == stretch.variable);
        stretch.by_row = is_looked_up && variables[stretch.variable].len() > LARGE;
    }
    held
}

/// The trainable variables, also those of which the model has no rows. What is behind such a one lies where
/// the model has it.
fn whole(model: &Model) -> Vec<Variable> {
    let variables = model.trainable().variables().iter().cloned();
    let whole = variables
        .zip(model.whole_shapes())
        .map(|(variable, shape)| Variable {
            shape: shape.to_vec(),
            ..variable
        });
    whole.collect()
}

/// Deals variables to `servers`; what each of them holds is in the order of the variables. Only with
/// `may_cut` is one spread over several.
fn deal(variables: &[Variable], servers: usize, may_cut: bool) -> Vec<Vec<Stretch>> {
    let mut held = vec![Vec::new(); servers];
    let mut loads = vec![0; servers];
    let mut order: Vec<usize> = (0..variables.len()).collect();
    // Stable: those of one size stay in their order.
    order.sort_by_key(|&index| std::cmp::Reverse(variables[index].len()));
    for index in order {
        let variable = &variables[index];
        let rows = rows(variable);
        if may_cut && variable.len() > LARGE && rows >= servers {
            for server in 0..servers {
                let part = rows * server / servers..rows * (server + 1) / servers;
                let stretch = Stretch::of(index, variable, part);
                loads[server] += stretch.len();
                held[server].push(stretch);
            }
            continue;
        }
        let least = loads.iter().enumerate().min_by_key(|(_, load)| **load);
        let server = least.map_or(0, |(server, _)| server);
        loads[server] += variable.len();
        held[server].push(Stretch::of(index, variable, 0..rows));
    }
    for stretches in &mut held {
        stretches.sort_by_key(|stretch| stretch.span.start);
    }
    held
}

/// Along the first axis; a scalar is one row.
fn rows(variable: &Variable) -> usize {
    variable.sizes().first().copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(shapes: &[&[i64]]) -> Vec<Variable> {
        let mut offset = 0;
        let variables = shapes.iter().enumerate().map(|(index, shape)| {
            let variable = Variable {
                path: format!("layer_{index}/kernel"),
                layer: index,
                name: "kernel".to_owned(),
                shape: shape.to_vec(),
                offset,
                held: None,
            };
            offset += variable.len();
            variable
        });
        variables.collect()
    }

    /// Every element is on one server.
    fn check(variables: &[Variable], plan: &[Vec<Stretch>]) {
        let mut spans: Vec<_> = plan.iter().flatten().map(|one| one.span.clone()).collect();
        spans.retain(|span| !span.is_empty());
        spans.sort_by_key(|span| span.start);
        let mut end = 0;
        for span in spans {
            assert_eq!(span.start, end);
            end = span.end;
        }
        let total: usize = variables.iter().map(Variable::len).sum();
        assert_eq!(end, total);
    }

    #[test]
    fn large_variables_are_cut_by_rows_and_others_go_where_there_is_room() {
        let variables = variables(&[&[10_001, 16], &[784, 64], &[64], &[64, 10], &[], &[0, 4]]);
        for servers in 1..5 {
            let plan = deal(&variables, servers, true);
            check(&variables, &plan);
            for (server, stretches) in plan.iter().enumerate() {
                let embeddings = &stretches[0];
                assert_eq!((embeddings.variable, embeddings.width), (0, 16));
                let rows = 10_001 * server / servers..10_001 * (server + 1) / servers;
                assert_eq!(embeddings.rows(), rows);
                assert!(stretches.is_sorted_by_key(|one| one.span.start));
            }
        }
        let two = deal(&variables, 2, true);
        let names = |server: usize| two[server].iter().map(|one| one.variable);
        assert_eq!(names(0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(names(1).collect::<Vec<_>>(), [0, 2, 3, 4, 5]);
    }

    #[test]
    fn nothing_is_cut_where_a_rule_needs_whole_variables() {
        let variables = variables(&[&[10_001, 16], &[20_000, 16], &[5]]);
        let plan = deal(&variables, 3, false);
        check(&variables, &plan);
        assert!(plan.iter().all(|stretches| stretches.len() == 1));
        assert_eq!(Stretch::whole(&variables)[1].rows(), 0..20_000);
    }
}
