//! Keras's Adamax: Adam with the infinity norm, epsilon beside the norm.

use serde_json::{Map, Value};

use super::adam::Moments;
use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::{sweep_2, sweep_3};
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
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

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Magnitudes)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, epsilon) = (step.learning_rate, single(self.0.epsilon));
        let (rest_1, beta_2) = (single(1.0 - self.0.beta_1), single(self.0.beta_2));
        let correction = 1.0 - step.power(self.0.beta_1);
        let [momentum, norm, _] = piece.slots;
        let (grads, params, magnitudes) = (piece.grads, piece.params, piece.statistics);
        let rule = |g: f32, magnitude: f32, p: &mut f32, m: &mut f32, u: &mut f32| {
            *m += (g - *m) * rest_1;
            let decayed = beta_2 * *u;
            // Not `max`, which would hide a NaN.
            *u = if magnitude <= decayed {
                decayed
            } else {
                magnitude
            };
            *p -= lr * *m / (correction * (*u + epsilon));
        };
        if magnitudes.is_empty() {
            sweep_2(grads, params, momentum, norm, |g, p, m, u| {
                rule(g, g.abs(), p, m, u)
            });
        } else {
            sweep_3(
                grads,
                params,
                momentum,
                norm,
                magnitudes,
                |g, p, m, u, s| {
                    rule(g, *s, p, m, u);
                },
            );
        }
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        self.0.describe(config);
    }
}
