//! Keras's Adadelta: epsilon is added inside both roots.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::sweep_2;
use crate::config::Options;
use crate::error::Result;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Adadelta {
    rho: f64,
    epsilon: f64,
}

impl Adadelta {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            rho: options.number("rho", 0.95)?,
            epsilon: options.number("epsilon", 1e-7)?,
        }))
    }
}

impl Rule for Adadelta {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        vec![
            Slot::zeros("accumulated_grad", 0, variable),
            Slot::zeros("accumulated_delta_var", 0, variable),
        ]
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, epsilon) = (step.learning_rate, single(self.epsilon));
        let (rho, rest) = (single(self.rho), single(1.0 - self.rho));
        let rms = |x: f32| (x + epsilon).sqrt();
        let [squares, deltas, _] = piece.slots;
        sweep_2(piece.grads, piece.params, squares, deltas, |g, p, s, d| {
            *s = rho * *s + rest * (g * g);
            let delta = -(rms(*d) * g / rms(*s));
            *d = rho * *d + rest * (delta * delta);
            *p += lr * delta;
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("rho".into(), self.rho.into());
        config.insert("epsilon".into(), self.epsilon.into());
    }
}
