//! What one optimizer class adds to the shared step: its slots and its update.

use std::fmt::Debug;

use serde_json::{Map, Value};

use super::slot::Slot;
use super::sweep::{sweep_1, sweep_2, sweep_3, sweep_4};
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

/// The most slots that a rule gives a variable.
pub(super) const SLOTS: usize = 3;

/// The update rule of one Keras optimizer class.
pub(super) trait Rule: Debug + Send + Sync {
    /// The slots of a variable, at most [`SLOTS`].
    fn slots(&self, variable: &Variable) -> Vec<Slot>;

    /// Whether [`Self::update`] needs a variable as a whole. Otherwise every element is updated by
    /// itself, so that a variable can be cut anywhere and its pieces go to several threads.
    fn is_whole(&self) -> bool {
        false
    }

    /// Whether [`Self::update`] leaves an element and its slots as they are where the gradient is zero.
    fn rests(&self) -> bool {
        false
    }

    /// What it takes of every slice of a gradient whose slices are known; nothing if it only takes
    /// their sums.
    fn statistic(&self) -> Option<Statistic> {
        None
    }

    /// Called once, before the first step, with each variable's parameters and slots.
    fn start(&self, params: &[f32], slots: &mut [Slot]) {
        let _ = (params, slots);
    }

    /// Updates a piece of a variable, or all of it if [`Self::is_whole`].
    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()>;

    /// The weight decay of a variable, where the optimizer's own is `general`.
    fn weight_decay(&self, variable: &Variable, general: Option<f64>) -> Option<f64> {
        let _ = variable;
        general
    }

    /// The state that all variables share, if there is any.
    fn shared(&self) -> Option<Shared> {
        None
    }

    /// That state in this step, from its value in the step before.
    fn next_shared(&self, step: &Step) -> f32 {
        step.shared
    }

    /// Adds the hyperparameters, with Keras's names, to a serialized config.
    fn describe(&self, config: &mut Map<String, Value>);
}

/// One number of state that all variables share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shared {
    /// What it is called in a checkpoint.
    pub(super) name: &'static str,
    /// Its value before the first step.
    pub(super) initial: f32,
}

/// What a rule needs to know about the step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The update's number, 1 for the first, in float32 as Keras casts it.
    pub(super) number: f32,
    /// Learning rate of this step.
    pub(super) learning_rate: f32,
    /// The state that all variables share: of the step before in [`Rule::next_shared`], of this
    /// step in [`Rule::update`].
    pub(super) shared: f32,
    /// Threads that the rule may use; 1 where the pieces themselves are spread over threads.
    pub(super) threads: usize,
}

impl Step {
    /// `base` to the power of the update's number, in float32.
    pub(super) fn power(&self, base: f64) -> f32 {
        single(base).powf(self.number)
    }

    /// Adam's learning rate, corrected for the bias of both moments.
    pub(super) fn corrected(&self, beta_1: f64, beta_2: f64) -> f32 {
        self.learning_rate * (1.0 - self.power(beta_2)).sqrt() / (1.0 - self.power(beta_1))
    }
}

/// What is updated at once: a stretch of one variable.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// The shape of the whole variable.
    pub(super) shape: &'a [i64],
    /// The gradient, which the rule may overwrite.
    pub(super) grads: &'a mut [f32],
    /// The parameters.
    pub(super) params: &'a mut [f32],
    /// The same stretch of the slots; those that the variable lacks are empty. A slot of another
    /// shape than the variable's is here as a whole.
    pub(super) slots: [&'a mut [f32]; SLOTS],
    /// The same stretch of the sums of [`Rule::statistic`] over the slices of a row; empty if the
    /// gradient is one whole.
    pub(super) statistics: &'a mut [f32],
}

impl<'a> Piece<'a> {
    /// Pieces of `size` elements, the last one perhaps of fewer, if all slots have the variable's
    /// shape.
    pub(super) fn split(self, size: usize) -> Vec<Self> {
        let mut slots = self.slots.map(|slot| slot.chunks_mut(size));
        let mut statistics = self.statistics.chunks_mut(size);
        let values = self
            .grads
            .chunks_mut(size)
            .zip(self.params.chunks_mut(size));
        let piece = |(grads, params): (&'a mut [f32], &'a mut [f32])| Self {
            shape: self.shape,
            grads,
            params,
            slots: slots.each_mut().map(|slot| slot.next().unwrap_or_default()),
            statistics: statistics.next().unwrap_or_default(),
        };
        values.map(piece).collect()
    }

    /// `rule(gradient, square, parameter, a)` for each element, where the square is that of the
    /// gradient or the sum of its slices' squares, and `a` its place in the first slot.
    pub(super) fn sweep_1(self, rule: impl Fn(f32, f32, &mut f32, &mut f32)) {
        let (grads, params, squares) = (self.grads, self.params, self.statistics);
        let [a, ..] = self.slots;
        if squares.is_empty() {
            sweep_1(grads, params, a, |g, p, a| rule(g, g * g, p, a));
        } else {
            sweep_2(grads, params, a, squares, |g, p, a, s| rule(g, *s, p, a));
        }
    }

    /// As [`Self::sweep_1`] with two slots.
    pub(super) fn sweep_2(self, rule: impl Fn(f32, f32, &mut f32, &mut f32, &mut f32)) {
        let (grads, params, squares) = (self.grads, self.params, self.statistics);
        let [a, b, _] = self.slots;
        if squares.is_empty() {
            sweep_2(grads, params, a, b, |g, p, a, b| rule(g, g * g, p, a, b));
        } else {
            sweep_3(grads, params, a, b, squares, |g, p, a, b, s| {
                rule(g, *s, p, a, b)
            });
        }
    }

    /// As [`Self::sweep_1`] with three slots.
    pub(super) fn sweep_3(self, rule: impl Fn(f32, f32, &mut f32, &mut f32, &mut f32, &mut f32)) {
        let (grads, params, squares) = (self.grads, self.params, self.statistics);
        let [a, b, c] = self.slots;
        if squares.is_empty() {
            sweep_3(grads, params, a, b, c, |g, p, a, b, c| {
                rule(g, g * g, p, a, b, c)
            });
        } else {
            let others = [a, b, c, squares];
            sweep_4(grads, params, others, |g, p, [a, b, c, s]| {
                rule(g, *s, p, a, b, c)
            });
        }
    }
}

/// A hyperparameter as Keras uses it: a Python float cast to the variables' float32.
#[expect(
    clippy::cast_possible_truncation,
    reason = "float32 is what Keras computes in"
)]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}
