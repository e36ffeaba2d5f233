//! Keras's SGD: plain, with momentum, or with Nesterov momentum.

use serde_json::{Map, Value};

use super::rule::{Rule, Slot, Step, single};
use super::sweep::{sweep, sweep_1};
use crate::config::Options;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Sgd {
    momentum: f64,
    nesterov: bool,
    velocity: Option<Slot>,
}

impl Sgd {
    pub(super) fn build(options: &Options<'_>, len: usize) -> Result<Box<dyn Rule>> {
        let momentum = options.f64("momentum", 0.0)?;
        if !(0.0..=1.0).contains(&momentum) {
            return Err(options.invalid(format!("momentum = {momentum} must lie in [0, 1]")));
        }
        let velocity = (momentum != 0.0).then(|| Slot::zeros("momentum", len));
        Ok(Box::new(Self {
            momentum,
            nesterov: options.bool("nesterov", false)?,
            velocity,
        }))
    }
}

impl Rule for Sgd {
    fn step(&mut self, step: &Step, params: &mut [f32], grads: &[f32]) {
        let (lr, momentum) = (step.learning_rate, single(self.momentum));
        match &mut self.velocity {
            None => sweep(grads, params, |g, p| *p = step.decayed(*p) - g * lr),
            Some(velocity) if self.nesterov => {
                sweep_1(grads, params, &mut velocity.values, |g, p, v| {
                    *v = *v * momentum - g * lr;
                    *p = step.decayed(*p) + (*v * momentum - g * lr);
                });
            }
            Some(velocity) => sweep_1(grads, params, &mut velocity.values, |g, p, v| {
                *v = *v * momentum - g * lr;
                *p = step.decayed(*p) + *v;
            }),
        }
    }

    fn groups(&self) -> Vec<Vec<&Slot>> {
        self.velocity.iter().map(|slot| vec![slot]).collect()
    }

    fn slots_mut(&mut self) -> Vec<&mut Slot> {
        self.velocity.iter_mut().collect()
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("momentum".into(), self.momentum.into());
        config.insert("nesterov".into(), self.nesterov.into());
    }
}
