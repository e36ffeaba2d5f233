//! Keras's Adadelta: epsilon is added inside both roots.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
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

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, epsilon) = (step.learning_rate, single(self.epsilon));
        let (rho, rest) = (single(self.rho), single(1.0 - self.rho));
        let rms = |x: f32| (x + epsilon).sqrt();
        piece.sweep_2(|g, square, p, s, d| {
            *s = rho * *s + rest * square;
            let ratio = rms(*d) / rms(*s);
            *d = rho * *d + rest * (ratio * ratio * square);
            *p -= lr * (ratio * g);
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("rho".into(), self.rho.into());
        config.insert("epsilon".into(), self.epsilon.into());
    }
}
