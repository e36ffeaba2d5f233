//! Keras's Adam, with AMSGrad; AdamW is the same rule with a default weight decay.

use serde_json::{Map, Value};

use super::rule::{Rule, Slot, Step, single};
use super::sweep::{sweep_2, sweep_3};
use crate::config::Options;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Adam {
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    momentum: Slot,
    velocity: Slot,
    /// AMSGrad's greatest velocity so far.
    velocity_hat: Option<Slot>,
}

impl Adam {
    pub(super) fn build(options: &Options<'_>, len: usize) -> Result<Box<dyn Rule>> {
        let amsgrad = options.bool("amsgrad", false)?;
        Ok(Box::new(Self {
            beta_1: options.f64("beta_1", 0.9)?,
            beta_2: options.f64("beta_2", 0.999)?,
            epsilon: options.f64("epsilon", 1e-7)?,
            momentum: Slot::zeros("momentum", len),
            velocity: Slot::zeros("velocity", len),
            velocity_hat: amsgrad.then(|| Slot::zeros("velocity_hat", len)),
        }))
    }

    /// The learning rate with both bias corrections, whose powers Keras takes in float32.
    fn alpha(&self, step: &Step) -> f32 {
        let power = |beta: f64| single(beta).powf(step.number as f32);
        step.learning_rate * (1.0 - power(self.beta_2)).sqrt() / (1.0 - power(self.beta_1))
    }
}

impl Rule for Adam {
    fn step(&mut self, step: &Step, params: &mut [f32], grads: &[f32]) {
        let (alpha, epsilon) = (self.alpha(step), single(self.epsilon));
        let (rest_1, rest_2) = (single(1.0 - self.beta_1), single(1.0 - self.beta_2));
        let (momentum, velocity) = (&mut self.momentum.values, &mut self.velocity.values);
        match &mut self.velocity_hat {
            None => sweep_2(grads, params, momentum, velocity, |g, p, m, v| {
                *m += (g - *m) * rest_1;
                *v += (g * g - *v) * rest_2;
                *p = step.decayed(*p) - *m * alpha / (v.sqrt() + epsilon);
            }),
            Some(hat) => {
                sweep_3(
                    grads,
                    params,
                    momentum,
                    velocity,
                    &mut hat.values,
                    |g, p, m, v, hat| {
                        *m += (g - *m) * rest_1;
                        *v += (g * g - *v) * rest_2;
                        *hat = if *v > *hat { *v } else { *hat };
                        *p = step.decayed(*p) - *m * alpha / (hat.sqrt() + epsilon);
                    },
                );
            }
        }
    }

    fn groups(&self) -> Vec<Vec<&Slot>> {
        let moments = vec![&self.momentum, &self.velocity];
        std::iter::once(moments)
            .chain(self.velocity_hat.iter().map(|slot| vec![slot]))
            .collect()
    }

    fn slots_mut(&mut self) -> Vec<&mut Slot> {
        [&mut self.momentum, &mut self.velocity]
            .into_iter()
            .chain(&mut self.velocity_hat)
            .collect()
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("beta_1".into(), self.beta_1.into());
        config.insert("beta_2".into(), self.beta_2.into());
        config.insert("epsilon".into(), self.epsilon.into());
        config.insert("amsgrad".into(), self.velocity_hat.is_some().into());
    }
}
