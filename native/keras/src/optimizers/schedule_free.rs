//! Keras's ScheduleFreeAdamW (Defazio et al., 2024), as an optimizer that was built before its
//! first step, run eagerly, or applied by hand runs it.
//!
//! Keras's own `compile` and `fit` build it inside the traced step, so that each step sets the
//! momentum back to the parameters; that defect is not followed.

use serde_json::{Map, Value};

use super::adam::Moments;
use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct ScheduleFreeAdamW {
    moments: Moments,
    warmup_steps: f64,
}

impl ScheduleFreeAdamW {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            moments: Moments {
                epsilon: options.number("epsilon", 1e-8)?,
                ..Moments::from_options(options)?
            },
            warmup_steps: options.number("warmup_steps", 0.0)?,
        }))
    }
}

impl Rule for ScheduleFreeAdamW {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        Moments::slots(variable)
    }

    fn start(&self, params: &[f32], slots: &mut [Slot]) {
        if let Some(momentum) = slots.first_mut() {
            momentum.values.copy_from_slice(params);
        }
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let epsilon = single(self.moments.epsilon);
        let (beta_1, beta_2) = (single(self.moments.beta_1), single(self.moments.beta_2));
        let mut lr = step.learning_rate;
        if self.warmup_steps > 0.0 {
            lr *= (step.number / single(self.warmup_steps)).min(1.0);
        }
        let correction = 1.0 - beta_2.powf(step.number);
        let weight = 1.0 / step.number;
        piece.sweep_2(|g, square, p, m, v| {
            *v += (square - *v) * (1.0 - beta_2);
            *m -= lr * g / ((*v / correction).sqrt() + epsilon);
            // By the momentum just updated: Keras keeps the variable itself as its old value.
            let x = (*p - (1.0 - beta_1) * *m) / beta_1;
            let x = (1.0 - weight) * x + weight * *m;
            *p = (1.0 - beta_1) * *m + beta_1 * x;
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        self.moments.describe(config);
        config.insert("warmup_steps".into(), self.warmup_steps.into());
    }
}
