//! Keras's Ftrl: follow the regularized leader, with shrinkage and the parameter beta.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Ftrl {
    learning_rate_power: f64,
    initial_accumulator_value: f64,
    l1: f64,
    l2: f64,
    l2_shrinkage: f64,
    beta: f64,
}

const L1: &str = "l1_regularization_strength";
const L2: &str = "l2_regularization_strength";
const L2_SHRINKAGE: &str = "l2_shrinkage_regularization_strength";

impl Ftrl {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        let not_negative = |key, default| {
            let value = options.number(key, default)?;
            if value < 0.0 {
                return Err(options.invalid(format!("{key} = {value} must be 0 or above")));
            }
            Ok(value)
        };
        let learning_rate_power = options.number("learning_rate_power", -0.5)?;
        if learning_rate_power > 0.0 {
            return Err(options.invalid(format!(
                "learning_rate_power = {learning_rate_power} must be 0 or below"
            )));
        }
        Ok(Box::new(Self {
            learning_rate_power,
            initial_accumulator_value: not_negative("initial_accumulator_value", 0.1)?,
            l1: not_negative(L1, 0.0)?,
            l2: not_negative(L2, 0.0)?,
            l2_shrinkage: not_negative(L2_SHRINKAGE, 0.0)?,
            beta: options.number("beta", 0.0)?,
        }))
    }

    /// The update, where `power` raises to minus the power of the learning rate.
    fn sweep(&self, step: &Step, piece: Piece<'_>, power: impl Fn(f32) -> f32) {
        let lr = step.learning_rate;
        let l1 = single(self.l1);
        let l2 = single(self.l2) + single(self.beta) / (2.0 * lr);
        let shrinkage = single(2.0 * self.l2_shrinkage);
        piece.sweep_2(|g, square, p, a, z| {
            let shrunk = g + shrinkage * *p;
            let sum = *a + square;
            let power_of_sum = power(sum);
            *z += shrunk - (power_of_sum - power(*a)) / lr * *p;
            let quadratic = power_of_sum / lr + 2.0 * l2;
            *p = (z.max(-l1).min(l1) - *z) / quadratic;
            *a = sum;
        });
    }
}

impl Rule for Ftrl {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let initial = single(self.initial_accumulator_value);
        vec![
            Slot::filled("accumulator", 0, variable, initial),
            Slot::zeros("linear", 0, variable),
        ]
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let exponent = single(-self.learning_rate_power);
        // The default's square root is many times faster than a power.
        if exponent == 0.5 {
            self.sweep(step, piece, f32::sqrt);
        } else {
            self.sweep(step, piece, |x| x.powf(exponent));
        }
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        for (key, value) in [
            ("learning_rate_power", self.learning_rate_power),
            ("initial_accumulator_value", self.initial_accumulator_value),
            (L1, self.l1),
            (L2, self.l2),
            (L2_SHRINKAGE, self.l2_shrinkage),
            ("beta", self.beta),
        ] {
            config.insert(key.into(), value.into());
        }
    }
}
