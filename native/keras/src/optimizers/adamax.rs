//! Keras's Adamax: Adam with the infinity norm, epsilon beside the norm.

use serde_json::{Map, Value};

use super::adam::Moments;
use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::sweep_2;
use crate::config::Options;
use crate::error::Result;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Adamax(Moments);

impl Adamax {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self(Moments::from_options(options)?)))
    }
}

impl Rule for Adamax {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        vec![
            Slot::zeros("momentum", 0, variable),
            Slot::zeros("norm", 0, variable),
        ]
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, epsilon) = (step.learning_rate, single(self.0.epsilon));
        let (rest_1, beta_2) = (single(1.0 - self.0.beta_1), single(self.0.beta_2));
        let correction = 1.0 - step.power(self.0.beta_1);
        let [momentum, norm, _] = piece.slots;
        sweep_2(piece.grads, piece.params, momentum, norm, |g, p, m, u| {
            *m += (g - *m) * rest_1;
            let decayed = beta_2 * *u;
            *u = if g.abs() <= decayed { decayed } else { g.abs() };
            *p -= lr * *m / (correction * (*u + epsilon));
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        self.0.describe(config);
    }
}
