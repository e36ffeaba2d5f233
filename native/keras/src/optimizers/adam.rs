//! Keras's Adam, with AMSGrad; AdamW is the same rule with a default weight decay.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Adam {
    moments: Moments,
    /// Whether the greatest velocity so far takes the place of the velocity.
    amsgrad: bool,
}

/// Adam's two moments, which other rules use too.
#[derive(Debug)]
pub(super) struct Moments {
    pub(super) beta_1: f64,
    pub(super) beta_2: f64,
    pub(super) epsilon: f64,
}

impl Moments {
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        Ok(Self {
            beta_1: options.number("beta_1", 0.9)?,
            beta_2: options.number("beta_2", 0.999)?,
            epsilon: options.number("epsilon", 1e-7)?,
        })
    }

    pub(super) fn slots(variable: &Variable) -> Vec<Slot> {
        vec![
            Slot::zeros("momentum", 0, variable),
            Slot::zeros("velocity", 0, variable),
        ]
    }

    /// Adam's update without AMSGrad, at learning rate `alpha` corrected for the moments' bias.
    pub(super) fn update(&self, alpha: f32, piece: Piece<'_>) {
        let epsilon = single(self.epsilon);
        let (rest_1, rest_2) = (single(1.0 - self.beta_1), single(1.0 - self.beta_2));
        piece.sweep_2(|g, square, p, m, v| {
            *m += (g - *m) * rest_1;
            *v += (square - *v) * rest_2;
            *p -= *m * alpha / (v.sqrt() + epsilon);
        });
    }

    pub(super) fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("beta_1".into(), self.beta_1.into());
        config.insert("beta_2".into(), self.beta_2.into());
        config.insert("epsilon".into(), self.epsilon.into());
    }
}

impl Adam {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            moments: Moments::from_options(options)?,
            amsgrad: options.flag("amsgrad", false)?,
        }))
    }
}

impl Rule for Adam {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let mut slots = Moments::slots(variable);
        if self.amsgrad {
            slots.push(Slot::zeros("velocity_hat", 1, variable));
        }
        slots
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let Moments {
            beta_1,
            beta_2,
            epsilon,
        } = self.moments;
        let alpha = step.corrected(beta_1, beta_2);
        if !self.amsgrad {
            self.moments.update(alpha, piece);
            return Ok(());
        }
        let epsilon = single(epsilon);
        let (rest_1, rest_2) = (single(1.0 - beta_1), single(1.0 - beta_2));
        piece.sweep_3(|g, square, p, m, v, hat| {
            *m += (g - *m) * rest_1;
            *v += (square - *v) * rest_2;
            // Not `max`, which would hide a NaN.
            *hat = if *v <= *hat { *hat } else { *v };
            *p -= *m * alpha / (hat.sqrt() + epsilon);
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        self.moments.describe(config);
        config.insert("amsgrad".into(), self.amsgrad.into());
    }
}
