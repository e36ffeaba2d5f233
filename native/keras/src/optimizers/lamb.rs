//! Keras's Lamb: Adam's update, scaled by the ratio of the parameters' norm to its own.

use serde_json::{Map, Value};

use super::adam::Moments;
use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::{map_2, map_3, sum_of_squares, sweep};
use super::workers::{CHUNK, run};
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Lamb(Moments);

impl Lamb {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self(Moments::from_options(options)?)))
    }
}

impl Rule for Lamb {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        Moments::slots(variable)
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let Moments {
            beta_1,
            beta_2,
            epsilon,
        } = self.0;
        let (rest_1, rest_2) = (single(1.0 - beta_1), single(1.0 - beta_2));
        let (correction_1, correction_2) = (1.0 - step.power(beta_1), 1.0 - step.power(beta_2));
        let epsilon = single(epsilon);
        let [momentum, velocity, _] = piece.slots;

        // The update takes the gradient's place.
        let update = |g: &mut f32, square: f32, m: &mut f32, v: &mut f32| {
            *m += (*g - *m) * rest_1;
            *v += (square - *v) * rest_2;
            *g = *m / correction_1 / ((*v / correction_2).sqrt() + epsilon);
        };
        let moments = momentum.chunks_mut(CHUNK).zip(velocity.chunks_mut(CHUNK));
        let mut slices = piece.statistics.chunks_mut(CHUNK);
        let values = piece
            .grads
            .chunks_mut(CHUNK)
            .zip(piece.params.chunks(CHUNK));
        let chunks = values.zip(moments).map(|((grads, params), (m, v))| {
            let squares = slices.next().unwrap_or_default();
            (grads, params, m, v, squares)
        });
        let squares = run(
            step.threads,
            chunks.collect(),
            |(grads, params, momentum, velocity, squares)| {
                if squares.is_empty() {
                    map_2(grads, momentum, velocity, |g, m, v| {
                        update(g, *g * *g, m, v)
                    });
                } else {
                    map_3(grads, momentum, velocity, squares, |g, m, v, s| {
                        update(g, *s, m, v)
                    });
                }
                (sum_of_squares(params), sum_of_squares(grads))
            },
        );
        let norm = |sum: f64| single(sum).sqrt();
        let of_params = norm(squares.iter().map(|sums| sums.0).sum());
        let of_update = norm(squares.iter().map(|sums| sums.1).sum());
        let is_ratio = of_params > 0.0 && of_update > 0.0;
        let ratio = if is_ratio { of_params / of_update } else { 1.0 };

        let rate = ratio * step.learning_rate;
        let values = piece
            .grads
            .chunks(CHUNK)
            .zip(piece.params.chunks_mut(CHUNK));
        run(step.threads, values.collect(), |(update, params)| {
            sweep(update, params, |u, p| *p -= rate * u);
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        self.0.describe(config);
    }
}
