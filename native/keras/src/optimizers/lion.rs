//! Keras's Lion: steps of the learning rate's size along the sign of an averaged gradient.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::sweep_1;
use crate::config::Options;
use crate::error::Result;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Lion {
    beta_1: f64,
    beta_2: f64,
}

impl Lion {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        let beta_1 = options.number("beta_1", 0.9)?;
        if !(beta_1 > 0.0 && beta_1 <= 1.0) {
            return Err(options.invalid(format!("beta_1 = {beta_1} must lie in (0, 1]")));
        }
        Ok(Box::new(Self {
            beta_1,
            beta_2: options.number("beta_2", 0.99)?,
        }))
    }
}

impl Rule for Lion {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        vec![Slot::zeros("momentum", 0, variable)]
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let lr = step.learning_rate;
        let (beta_1, beta_2) = (single(self.beta_1), single(self.beta_2));
        let [momentum, ..] = piece.slots;
        sweep_1(piece.grads, piece.params, momentum, |g, p, m| {
            *p -= lr * sign(*m * beta_1 + g * (1.0 - beta_1));
            *m = *m * beta_2 + g * (1.0 - beta_2);
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("beta_1".into(), self.beta_1.into());
        config.insert("beta_2".into(), self.beta_2.into());
    }
}

/// TensorFlow's sign, which is 0 at 0 and NaN at NaN, unlike `f32::signum`.
#[inline]
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}
