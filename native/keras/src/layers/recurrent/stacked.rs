//! `StackedRNNCells`: each cell's outputs are the next one's inputs. All steps of one cell run
//! before those of the next, which computes the same as step by step.

use serde_json::Value as Json;
use tch::Tensor;

use super::cell::{Cell, Unit, with_batch};
use super::steps::{Run, Wanted};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::spec::Spec;

#[derive(Debug)]
pub(super) struct StackedCells {
    cells: Vec<Unit>,
}

impl StackedCells {
    pub(super) fn read(scope: &mut Scope<'_>, step: &Spec) -> Result<Self> {
        let options = scope.options;
        let cells = options.value("cells").and_then(Json::as_array);
        let cells = cells.filter(|cells| !cells.is_empty());
        let cells = cells.ok_or_else(|| options.invalid("cells must be a list of cells"))?;
        let classes = cells
            .iter()
            .map(|cell| cell["class_name"].as_str().unwrap_or_default());
        let classes: Vec<&str> = classes.collect();
        // The list is an attribute of its own in Keras's weights files.
        let groups = flambeau_formats::list_group_names("cells", &classes);
        let mut step = step.clone();
        let mut built: Vec<Unit> = Vec::new();
        for (cell, group) in cells.iter().zip(&groups) {
            let unit = Unit::child(scope, group, cell, &step)?;
            step = with_batch(None, None, &unit.cell.output(), step.dtype);
            built.push(unit);
        }
        Ok(Self { cells: built })
    }
}

impl Cell for StackedCells {
    fn check(&self, step: &Spec) -> std::result::Result<(), String> {
        self.cells
            .iter()
            .take(1)
            .try_for_each(|first| first.cell.check(step))
    }

    fn states(&self) -> Vec<Vec<i64>> {
        self.cells
            .iter()
            .flat_map(|unit| unit.cell.states())
            .collect()
    }

    fn output(&self) -> Vec<i64> {
        let last = self.cells.last();
        last.map(|unit| unit.cell.output()).unwrap_or_default()
    }

    fn run(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run> {
        let mut sequence = sequence.shallow_clone();
        let mut rest = initial;
        let mut states = Vec::new();
        let mut last = None;
        for (at, unit) in self.cells.iter().enumerate() {
            let (own, others) = rest.split_at(unit.cell.states().len());
            rest = others;
            let wanted = Wanted {
                outputs: wanted.outputs || at + 1 < self.cells.len(),
                ..*wanted
            };
            let run = unit.run(&sequence, own, &wanted, context)?;
            states.extend(run.states);
            last = Some(run.last);
            if let Some(outputs) = run.outputs {
                sequence = outputs;
            }
        }
        Ok(Run {
            outputs: wanted.outputs.then_some(sequence),
            last: last.ok_or_else(|| Error::values("a stack of cells is empty"))?,
            states,
        })
    }
}
