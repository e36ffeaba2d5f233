//! What one optimizer class adds to the shared step: its slots and its update.

use std::fmt::Debug;

use serde_json::{Map, Value};

/// The update rule of one Keras optimizer class.
pub(super) trait Rule: Debug + Send {
    /// Updates the parameters and the slots in one pass. All slices have the same length.
    fn step(&mut self, step: &Step, params: &mut [f32], grads: &[f32]);

    /// The slots, grouped as Keras creates them: within a group, a variable's slots lie side by
    /// side in `optimizer.variables`; the groups follow one another.
    fn groups(&self) -> Vec<Vec<&Slot>>;

    /// The slots in the order of [`Self::groups`].
    fn slots_mut(&mut self) -> Vec<&mut Slot>;

    /// Adds the hyperparameters, with Keras's names, to a serialized config.
    fn describe(&self, config: &mut Map<String, Value>);
}

/// What a rule needs to know about the step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// 1 for the first step.
    pub(super) number: u64,
    /// Learning rate of this step.
    pub(super) learning_rate: f32,
    /// Decoupled weight decay; 0 for none.
    pub(super) weight_decay: f32,
}

impl Step {
    /// The parameter after weight decay, which Keras applies before the update, to every variable.
    #[inline]
    pub(super) fn decayed(&self, p: f32) -> f32 {
        p - p * self.weight_decay * self.learning_rate
    }
}

/// State beside the parameters, one value for each.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Keras's name, such as `velocity`.
    pub(super) name: &'static str,
    /// The values, laid out as the parameters.
    pub(super) values: Vec<f32>,
}

impl Slot {
    pub(super) fn filled(name: &'static str, value: f32, len: usize) -> Self {
        Self {
            name,
            values: vec![value; len],
        }
    }

    pub(super) fn zeros(name: &'static str, len: usize) -> Self {
        Self::filled(name, 0.0, len)
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
