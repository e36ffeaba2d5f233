//! Keras's Adagrad: epsilon is added inside the root.

use serde_json::{Map, Value};

use super::rule::{Rule, Slot, Step, single};
use super::sweep::sweep_1;
use crate::config::Options;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Adagrad {
    initial_accumulator_value: f64,
    epsilon: f64,
    accumulator: Slot,
}

impl Adagrad {
    pub(super) fn build(options: &Options<'_>, len: usize) -> Result<Box<dyn Rule>> {
        let initial_accumulator_value = options.f64("initial_accumulator_value", 0.1)?;
        Ok(Box::new(Self {
            initial_accumulator_value,
            epsilon: options.f64("epsilon", 1e-7)?,
            accumulator: Slot::filled("accumulator", single(initial_accumulator_value), len),
        }))
    }
}

impl Rule for Adagrad {
    fn step(&mut self, step: &Step, params: &mut [f32], grads: &[f32]) {
        let (lr, epsilon) = (step.learning_rate, single(self.epsilon));
        sweep_1(grads, params, &mut self.accumulator.values, |g, p, a| {
            *a += g * g;
            *p = step.decayed(*p) - lr * g / (*a + epsilon).sqrt();
        });
    }

    fn groups(&self) -> Vec<Vec<&Slot>> {
        vec![vec![&self.accumulator]]
    }

    fn slots_mut(&mut self) -> Vec<&mut Slot> {
        vec![&mut self.accumulator]
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert(
            "initial_accumulator_value".into(),
            self.initial_accumulator_value.into(),
        );
        config.insert("epsilon".into(), self.epsilon.into());
    }
}
