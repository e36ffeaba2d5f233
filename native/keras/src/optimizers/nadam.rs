//! Keras's Nadam: Adam with Nesterov momentum, whose momentum follows a schedule of its own.

use serde_json::{Map, Value};

use super::adam::Moments;
use super::rule::{Piece, Rule, Shared, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

/// Base of the momentum's schedule.
const DECAY: f32 = 0.96;

#[derive(Debug)]
pub(super) struct Nadam(Moments);

impl Nadam {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self(Moments::from_options(options)?)))
    }

    /// The share of step `number` in the momentum, without its factor beta 1.
    fn share(number: f32) -> f32 {
        1.0 - 0.5 * DECAY.powf(number)
    }
}

impl Rule for Nadam {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        Moments::slots(variable)
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, epsilon) = (step.learning_rate, single(self.0.epsilon));
        let (beta_1, beta_2) = (single(self.0.beta_1), single(self.0.beta_2));
        let u = beta_1 * Self::share(step.number);
        let next_u = beta_1 * Self::share(step.number + 1.0);
        let next_product = step.shared * next_u;
        let (rest_m, rest_g) = (1.0 - next_product, 1.0 - step.shared);
        let correction = 1.0 - beta_2.powf(step.number);
        piece.sweep_2(|g, square, p, m, v| {
            *m += (g - *m) * (1.0 - beta_1);
            *v += (square - *v) * (1.0 - beta_2);
            let m_hat = next_u * *m / rest_m + (1.0 - u) * g / rest_g;
            let v_hat = *v / correction;
            *p -= m_hat * lr / (v_hat.sqrt() + epsilon);
        });
        Ok(())
    }

    /// The product of all steps' momentum coefficients.
    fn shared(&self) -> Option<Shared> {
        Some(Shared {
            name: "u_product",
            initial: 1.0,
        })
    }

    fn next_shared(&self, step: &Step) -> f32 {
        step.shared * single(self.0.beta_1) * Self::share(step.number)
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        self.0.describe(config);
    }
}
