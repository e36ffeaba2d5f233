//! Keras's RMSprop: plain or centered, with or without momentum; epsilon is added inside the root.

use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Rmsprop {
    rho: f64,
    momentum: f64,
    epsilon: f64,
    centered: bool,
}

impl Rmsprop {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            rho: options.number("rho", 0.9)?,
            momentum: options.number("momentum", 0.0)?,
            epsilon: options.number("epsilon", 1e-7)?,
            centered: options.flag("centered", false)?,
        }))
    }
}

impl Rule for Rmsprop {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let mut slots = vec![Slot::zeros("velocity", 0, variable)];
        if self.momentum > 0.0 {
            slots.push(Slot::zeros("momentum", 1, variable));
        }
        if self.centered {
            slots.push(Slot::zeros("average_gradient", 2, variable));
        }
        slots
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let (lr, momentum) = (step.learning_rate, single(self.momentum));
        let (rho, rest) = (single(self.rho), single(1.0 - self.rho));
        let epsilon = single(self.epsilon);

        let plain = |g: f32, square: f32, v: &mut f32| {
            *v = rho * *v + rest * square;
            lr * g / (*v + epsilon).sqrt()
        };
        let centered = |g: f32, square: f32, v: &mut f32, a: &mut f32| {
            *v = rho * *v + rest * square;
            *a = rho * *a + rest * g;
            lr * g / (*v - *a * *a + epsilon).sqrt()
        };
        match (self.momentum > 0.0, self.centered) {
            (false, false) => piece.sweep_1(|g, square, p, v| *p -= plain(g, square, v)),
            (true, false) => piece.sweep_2(|g, square, p, v, m| {
                *m = momentum * *m + plain(g, square, v);
                *p -= *m;
            }),
            (false, true) => piece.sweep_2(|g, square, p, v, a| {
                *p -= centered(g, square, v, a);
            }),
            (true, true) => piece.sweep_3(|g, square, p, v, m, a| {
                *m = momentum * *m + centered(g, square, v, a);
                *p -= *m;
            }),
        }
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("rho".into(), self.rho.into());
        config.insert("momentum".into(), self.momentum.into());
        config.insert("epsilon".into(), self.epsilon.into());
        config.insert("centered".into(), self.centered.into());
    }
}
