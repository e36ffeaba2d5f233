//! Keras's RMSprop: plain or centered, with or without momentum; epsilon is added inside the root.

use serde_json::{Map, Value};

use super::rule::{Rule, Slot, Step, single};
use super::sweep::{sweep_1, sweep_2, sweep_3};
use crate::config::Options;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Rmsprop {
    rho: f64,
    momentum: f64,
    epsilon: f64,
    velocity: Slot,
    /// Present with a momentum above 0.
    accumulated: Option<Slot>,
    /// Present if centered.
    average_gradient: Option<Slot>,
}

impl Rmsprop {
    pub(super) fn build(options: &Options<'_>, len: usize) -> Result<Box<dyn Rule>> {
        let momentum = options.f64("momentum", 0.0)?;
        let centered = options.bool("centered", false)?;
        Ok(Box::new(Self {
            rho: options.f64("rho", 0.9)?,
            momentum,
            epsilon: options.f64("epsilon", 1e-7)?,
            velocity: Slot::zeros("velocity", len),
            accumulated: (momentum > 0.0).then(|| Slot::zeros("momentum", len)),
            average_gradient: centered.then(|| Slot::zeros("average_gradient", len)),
        }))
    }
}

impl Rule for Rmsprop {
    fn step(&mut self, step: &Step, params: &mut [f32], grads: &[f32]) {
        let (lr, momentum, epsilon) = (
            step.learning_rate,
            single(self.momentum),
            single(self.epsilon),
        );
        let (rho, rest) = (single(self.rho), single(1.0 - self.rho));

        let plain = |g: f32, v: &mut f32| {
            *v = rho * *v + rest * (g * g);
            lr * g / (*v + epsilon).sqrt()
        };
        let centered = |g: f32, v: &mut f32, a: &mut f32| {
            *v = rho * *v + rest * (g * g);
            *a = rho * *a + rest * g;
            lr * g / (*v - *a * *a + epsilon).sqrt()
        };
        let velocity = &mut self.velocity.values;
        match (&mut self.accumulated, &mut self.average_gradient) {
            (None, None) => sweep_1(grads, params, velocity, |g, p, v| {
                *p = step.decayed(*p) - plain(g, v);
            }),
            (Some(sum), None) => {
                sweep_2(grads, params, velocity, &mut sum.values, |g, p, v, m| {
                    *m = momentum * *m + plain(g, v);
                    *p = step.decayed(*p) - *m;
                });
            }
            (None, Some(average)) => {
                sweep_2(
                    grads,
                    params,
                    velocity,
                    &mut average.values,
                    |g, p, v, a| {
                        *p = step.decayed(*p) - centered(g, v, a);
                    },
                );
            }
            (Some(sum), Some(average)) => {
                let (sum, average) = (&mut sum.values, &mut average.values);
                sweep_3(grads, params, velocity, sum, average, |g, p, v, m, a| {
                    *m = momentum * *m + centered(g, v, a);
                    *p = step.decayed(*p) - *m;
                });
            }
        }
    }

    fn groups(&self) -> Vec<Vec<&Slot>> {
        std::iter::once(&self.velocity)
            .chain(&self.accumulated)
            .chain(&self.average_gradient)
            .map(|slot| vec![slot])
            .collect()
    }

    fn slots_mut(&mut self) -> Vec<&mut Slot> {
        std::iter::once(&mut self.velocity)
            .chain(&mut self.accumulated)
            .chain(&mut self.average_gradient)
            .collect()
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("rho".into(), self.rho.into());
        config.insert("momentum".into(), self.momentum.into());
        config.insert("epsilon".into(), self.epsilon.into());
        config.insert("centered".into(), self.average_gradient.is_some().into());
    }
}
