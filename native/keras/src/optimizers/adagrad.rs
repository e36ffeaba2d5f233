//! Keras's Adagrad: epsilon is added inside the root.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Adagrad {
    initial_accumulator_value: f64,
    epsilon: f64,
}

impl Adagrad {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            initial_accumulator_value: options.number("initial_accumulator_value", 0.1)?,
            epsilon: options.number("epsilon", 1e-7)?,
        }))
    }
}

impl Rule for Adagrad {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let initial = single(self.initial_accumulator_value);
        vec![Slot::filled("accumulator", 0, variable, initial)]
    }

    fn rests(&self) -> bool {
        // Else zero is divided by zero.
        self.initial_accumulator_value > 0.0 || self.epsilon > 0.0
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, epsilon) = (step.learning_rate, single(self.epsilon));
        piece.sweep_1(|g, square, p, a| {
            *a += square;
            *p -= lr * g / (*a + epsilon).sqrt();
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert(
            "initial_accumulator_value".into(),
            self.initial_accumulator_value.into(),
        );
        config.insert("epsilon".into(), self.epsilon.into());
    }
}
