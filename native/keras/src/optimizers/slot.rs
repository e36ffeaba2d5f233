//! State of an optimizer beside the parameters, such as Adam's moments.

use std::ops::Range;

use crate::error::Result;
use crate::memory;
use crate::variables::Variable;

/// One array of state that belongs to a variable.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    /// What it is called in a checkpoint, after the variable's path.
    pub(super) name: &'static str,
    /// Keras creates the slots group after group; within a group, those of a variable lie side by
    /// side.
    pub(super) group: usize,
    /// Keras's shape of it.
    pub(super) shape: Vec<i64>,
    /// Which elements are here, row-major: all, unless the optimizer is one of several.
    pub(super) held: Range<usize>,
    /// Their values; none before [`Self::allocate`].
    pub(super) values: Vec<f32>,
    /// What they are at first.
    initial: f32,
    /// How Keras names and types it.
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// float32, named after the variable and the slot.
    Named,
    /// float32, named as the variable.
    Bare,
    /// A zero of int32 that Keras keeps where there is nothing to keep, named as the variable.
    Placeholder,
}

impl Slot {
    /// A slot of the variable's shape.
    pub(super) fn filled(
        name: &'static str,
        group: usize,
        variable: &Variable,
        value: f32,
    ) -> Self {
        Self {
            name,
            group,
            shape: variable.shape.clone(),
            held: 0..variable.len(),
            values: Vec::new(),
            initial: value,
            kind: Kind::Named,
        }
    }

    /// A slot of zeros of the variable's shape.
    pub(super) fn zeros(name: &'static str, group: usize, variable: &Variable) -> Self {
        Self::filled(name, group, variable, 0.0)
    }

    /// A slot of zeros of another shape than the variable's.
    pub(super) fn shaped(name: &'static str, group: usize, shape: Vec<i64>, kind: Kind) -> Self {
        let sizes = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        let length = sizes.product();
        Self {
            name,
            group,
            held: 0..length,
            values: Vec::new(),
            initial: 0.0,
            shape,
            kind,
        }
    }

    /// Gives it its memory. A slot of zeros takes pages only where it is written.
    ///
    /// # Errors
    /// There is not enough.
    pub(super) fn allocate(&mut self) -> Result<()> {
        self.values = memory::zeros(self.held.len(), self.name)?;
        if self.initial != 0.0 {
            self.values.fill(self.initial);
        }
        Ok(())
    }
}
