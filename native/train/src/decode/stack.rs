//! Columns of one type of number that arrive as one: a fixed-size list in each row, whose field has
//! their names in its metadata.

use super::numbers::{Numbers, Target};
use super::{Column, Nulls, Slots, downcast};
use crate::error::DataError;
use arrow_array::{Array, FixedSizeListArray};
use arrow_schema::{Field, Schema};
use std::collections::HashMap;

/// Metadata of a field: a JSON array of column names.
const NAMES: &str = "flambeau.columns";

/// Where a schema has the columns that are stacked.
#[derive(Debug)]
pub(crate) struct Stacks(HashMap<String, (usize, usize)>);

/// Neighbours among the columns of a field.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Place of the first of them in the lists.
    first: usize,
    names: Vec<String>,
}

impl Stacks {
    pub(crate) fn of(schema: &Schema) -> Self {
        let fields = schema.fields().iter().enumerate();
        let places = fields.flat_map(|(index, field)| {
            let names = stacked(field).unwrap_or_default();
            let names = names.into_iter().enumerate();
            names.map(move |(place, name)| (name, (index, place)))
        });
        Self(places.collect())
    }

    /// The field that has the column, and where in its lists.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, Stack)> {
        let &(index, first) = self.0.get(name)?;
        let names = vec![name.to_owned()];
        Some((index, Stack { first, names }))
    }
}

impl Stack {
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Adds the columns of `next`, which is of the same field; gives it back if they are not those
    /// that follow.
    pub(crate) fn join(&mut self, next: Stack) -> Result<(), Stack> {
        if self.first + self.names.len() != next.first {
            return Err(next);
        }
        self.names.extend(next.names);
        Ok(())
    }
}

/// The names of the columns that a field holds, if it holds several.
pub(crate) fn stacked(field: &Field) -> Option<Vec<String>> {
    serde_json::from_str(field.metadata().get(NAMES)?).ok()
}

impl Column<'_> {
    /// Writes the values of stacked columns.
    pub(super) fn fill_stacked<T: Target>(
        &self,
        out: &mut [T],
        slots: Slots,
        nulls: &mut Nulls,
    ) -> Result<(), DataError> {
        let lists = downcast::<FixedSizeListArray>(self.array).ok_or_else(|| self.wrong_type())?;
        let stack = self.stack.ok_or_else(|| self.wrong_type())?;
        let elements = lists.values().as_ref();
        let numbers = Numbers::of(elements).ok_or_else(|| self.wrong_type())?;
        let width = usize::try_from(lists.value_length()).unwrap_or(0);
        self.check_width(0, stack.names.len(), slots.width)?;
        for row in 0..lists.len() {
            let start = row * width + stack.first;
            let slot = &mut out[slots.of(row)];
            numbers.copy(start, slot);
            if elements.null_count() > 0 {
                for ((element, name), value) in (start..).zip(&stack.names).zip(slot) {
                    if elements.is_null(element) {
                        nulls.add(name, row);
                        *value = T::default();
                    }
                }
            }
        }
        let within = |at: usize| (at % width).checked_sub(stack.first);
        let is_ours = |at: usize| within(at).is_some_and(|place| place < stack.names.len());
        if T::WHOLE
            && let Some((at, value)) =
                numbers.first_fraction(|at| is_ours(at) && elements.is_valid(at))
        {
            let name = within(at).and_then(|place| stack.names.get(place));
            return Err(DataError::Fraction {
                column: name.map_or(self.name, String::as_str).to_owned(),
                row: self.first_row + (at / width) as u64,
                value,
            });
        }
        Ok(())
    }
}
