//! Keras's SGD: plain, with momentum, or with Nesterov momentum.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::{sweep, sweep_1};
use crate::config::Options;
use crate::error::Result;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Sgd {
    momentum: f64,
    nesterov: bool,
}

impl Sgd {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        let momentum = options.number("momentum", 0.0)?;
        if !(0.0..=1.0).contains(&momentum) {
            return Err(options.invalid(format!("momentum = {momentum} must lie in [0, 1]")));
        }
        Ok(Box::new(Self {
            momentum,
            nesterov: options.flag("nesterov", false)?,
        }))
    }
}

impl Rule for Sgd {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let has_momentum = self.momentum != 0.0;
        has_momentum
            .then(|| Slot::zeros("momentum", 0, variable))
            .into_iter()
            .collect()
    }

    fn rests(&self) -> bool {
        self.momentum == 0.0
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, momentum) = (step.learning_rate, single(self.momentum));
        let [velocity, ..] = piece.slots;
        if self.momentum == 0.0 {
            sweep(piece.grads, piece.params, |g, p| *p -= g * lr);
        } else if self.nesterov {
            sweep_1(piece.grads, piece.params, velocity, |g, p, v| {
                *v = *v * momentum - g * lr;
                *p += *v * momentum - g * lr;
            });
        } else {
            sweep_1(piece.grads, piece.params, velocity, |g, p, v| {
                *v = *v * momentum - g * lr;
                *p += *v;
            });
        }
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("momentum".into(), self.momentum.into());
        config.insert("nesterov".into(), self.nesterov.into());
    }
}
