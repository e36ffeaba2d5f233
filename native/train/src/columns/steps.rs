//! Rows of differing lengths where the model has steps: filled up and cut as Keras's `pad_sequences`
//! does, and where the model leaves the number of steps open, filled up batch by batch.

use crate::block::{Fitted, Side, Uneven, Values};
use crate::config::{Columns, RaggedPolicy};
use crate::decode::Column;
use crate::error::DataError;

/// How rows become equally long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// Steps of a row; none where a batch has as many as its longest row.
    count: Option<usize>,
    /// Values of a step.
    step: usize,
    padding: RaggedPolicy,
    truncating: RaggedPolicy,
}

impl Steps {
    /// What the settings ask for rows of `shape`, whose first axis are steps; none if nothing, or if
    /// the shape has no steps or leaves open how large one is.
    pub(super) fn of(columns: &Columns, name: &str, shape: &[Option<i64>]) -> Option<Self> {
        let [count, step @ ..] = shape else {
            return None;
        };
        let step: Option<Vec<i64>> = step.iter().copied().collect();
        let steps = Self {
            count: count.map(|count| usize::try_from(count).unwrap_or(0)),
            step: super::elements(&step?).max(1),
            padding: columns.sequence_padding.of(name),
            truncating: columns.sequence_truncating.of(name),
        };
        let cuts = steps.count.is_some() && steps.truncating != RaggedPolicy::Error;
        (cuts || steps.padding != RaggedPolicy::Error).then_some(steps)
    }

    /// The rows of `column` as a block holds them, `wrap` around them.
    ///
    /// # Errors
    /// [`DataError::Steps`]; [`DataError::Width`] for a row that may be neither cut nor filled up;
    /// [`DataError::TooLarge`].
    pub(super) fn fit<V: Default>(
        &self,
        column: &Column<'_>,
        rows: Uneven<V>,
        wrap: impl Fn(Vec<V>) -> Values,
    ) -> Result<Values, DataError> {
        let width = self.count.map(|count| count * self.step);
        for (row, ends) in rows.offsets.windows(2).enumerate() {
            self.check(column, row, ends[1] - ends[0], width)?;
        }
        let padding = side(self.padding);
        let Some(width) = width else {
            return Ok(rows.wrapped(wrap, padding));
        };
        let shape = Fitted {
            width,
            padding,
            truncating: side(self.truncating),
        };
        let fitted = shape.of(rows.values, &rows.offsets);
        let fitted = fitted.map_err(|bytes| DataError::TooLarge {
            what: format!("column '{}'", column.name),
            rows: column.array.len(),
            bytes,
        })?;
        Ok(wrap(fitted))
    }

    fn check(
        &self,
        column: &Column<'_>,
        row: usize,
        found: usize,
        width: Option<usize>,
    ) -> Result<(), DataError> {
        if column.array.is_null(row) {
            return Ok(());
        }
        let name = column.name.to_owned();
        let at = column.first_row + row as u64;
        if !found.is_multiple_of(self.step) {
            return Err(DataError::Steps {
                column: name,
                row: at,
                found,
                step: self.step,
            });
        }
        let refused = |expected: &usize| {
            (found < *expected && self.padding == RaggedPolicy::Error)
                || (found > *expected && self.truncating == RaggedPolicy::Error)
        };
        match width.filter(refused) {
            None => Ok(()),
            Some(expected) => Err(DataError::Width {
                column: name,
                row: at,
                found,
                expected,
            }),
        }
    }
}

/// Where a row is filled up or cut; what is refused never comes to that.
fn side(policy: RaggedPolicy) -> Side {
    match policy {
        RaggedPolicy::Pre => Side::Pre,
        RaggedPolicy::Post | RaggedPolicy::Error => Side::Post,
    }
}
