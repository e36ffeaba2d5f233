//! Keras's Adafactor: of a matrix's second moments only the means of rows and columns are averaged.

use multiversion::multiversion;
use serde_json::{Map, Value};

use super::rule::{Piece, Rule, Step, single};
use super::slot::{Kind, Slot};
use super::sweep::{map_1, sum_of_squares, sweep, sweep_1};
use super::workers::{CHUNK, run};
use crate::config::Options;
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

/// The most parts of a matrix whose column sums are held at once.
const PARTS: usize = 64;

#[derive(Debug)]
pub(super) struct Adafactor {
    beta_2_decay: f64,
    epsilon_1: f64,
    epsilon_2: f64,
    clip_threshold: f64,
    /// Without effect in Keras, which bounds the learning rate in either case.
    relative_step: bool,
}

impl Adafactor {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        Ok(Box::new(Self {
            beta_2_decay: options.number("beta_2_decay", -0.8)?,
            epsilon_1: options.number("epsilon_1", 1e-30)?,
            epsilon_2: options.number("epsilon_2", 1e-3)?,
            clip_threshold: options.number("clip_threshold", 1.0)?,
            relative_step: options.flag("relative_step", true)?,
        }))
    }
}

impl Rule for Adafactor {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let (rows, columns, kind) = match variable.shape.as_slice() {
            [field @ .., rows, columns] => {
                let without = |size: i64| [field, &[size]].concat();
                (without(*rows), without(*columns), Kind::Bare)
            }
            _ => (Vec::new(), Vec::new(), Kind::Placeholder),
        };
        vec![
            Slot::shaped("row_means", 0, rows, kind),
            Slot::shaped("column_means", 0, columns, kind),
            Slot::zeros("velocity", 0, variable),
        ]
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let beta_2 = 1.0 - step.number.powf(single(self.beta_2_decay));
        let average = |old: f32, new: f32| beta_2 * old + (1.0 - beta_2) * new;
        let epsilon = single(self.epsilon_1);
        let [row_means, column_means, velocity] = piece.slots;
        let (update, params, squares) = (piece.grads, piece.params, piece.statistics);
        if let [.., rows, columns] = *piece.shape {
            let size = |size: i64| usize::try_from(size).unwrap_or(0);
            let (rows, columns) = (size(rows), size(columns));
            let matrices = update.chunks_mut(rows * columns);
            let mut of_slices = squares.chunks_mut(rows * columns);
            let velocities = velocity.chunks_mut(rows * columns);
            let means = row_means
                .chunks_mut(rows)
                .zip(column_means.chunks_mut(columns));
            for ((update, velocity), (row_means, column_means)) in
                matrices.zip(velocities).zip(means)
            {
                let mut matrix = Matrix {
                    update,
                    squares: of_slices.next().unwrap_or_default(),
                    velocity,
                    row_means,
                    column_means,
                    threads: step.threads,
                };
                matrix.average_means(epsilon, average);
                matrix.divide();
            }
        } else {
            map_1(update, velocity, |g, v| {
                *v = average(*v, *g * *g + epsilon);
                *g /= v.sqrt();
            });
        }

        let rate = step.learning_rate.min(1.0 / step.number.sqrt());
        let alpha = single(self.epsilon_2).max(rms(step.threads, params)) * rate;
        let size = if squares.is_empty() {
            rms(step.threads, update)
        } else {
            let sum: f64 = squares.iter().map(|&square| f64::from(square)).sum();
            single(sum / squares.len() as f64).sqrt()
        };
        let divisor = (size / single(self.clip_threshold)).max(1.0);
        let chunks = update.chunks(CHUNK).zip(params.chunks_mut(CHUNK));
        run(step.threads, chunks.collect(), |(update, params)| {
            sweep(update, params, |u, p| *p -= alpha * (u / divisor));
        });
        Ok(())
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("beta_2_decay".into(), self.beta_2_decay.into());
        config.insert("epsilon_1".into(), self.epsilon_1.into());
        config.insert("epsilon_2".into(), self.epsilon_2.into());
        config.insert("clip_threshold".into(), self.clip_threshold.into());
        config.insert("relative_step".into(), self.relative_step.into());
    }
}

/// The last two axes of a variable, its gradient to be turned into the update.
struct Matrix<'a> {
    update: &'a mut [f32],
    /// The sums of its slices' squares, to be turned into those of the update's; empty if the
    /// gradient is one whole.
    squares: &'a mut [f32],
    velocity: &'a mut [f32],
    row_means: &'a mut [f32],
    column_means: &'a mut [f32],
    threads: usize,
}

impl Matrix<'_> {
    /// Rows that are worked on at once: a chunk's worth, or so many that the columns are summed in
    /// few parts. It depends on nothing but the shape, as the sums' rounding does.
    fn part(&self) -> usize {
        let (rows, columns) = (self.row_means.len(), self.column_means.len());
        (CHUNK / columns).max(rows.div_ceil(PARTS))
    }

    /// Takes the means of the squared gradients' rows and columns into their averages.
    fn average_means(&mut self, epsilon: f32, average: impl Fn(f32, f32) -> f32 + Sync) {
        let (part, columns) = (self.part(), self.column_means.len());
        let is_whole = self.squares.is_empty();
        let values = if is_whole {
            &*self.update
        } else {
            &*self.squares
        };
        let parts = values
            .chunks(part * columns)
            .zip(self.row_means.chunks_mut(part));
        let sums = run(self.threads, parts.collect(), |(values, row_means)| {
            let mut of_columns = vec![0.0; columns];
            for (row, mean) in values.chunks(columns).zip(row_means) {
                let sum = if is_whole {
                    add_each(row, |g| g * g + epsilon, &mut of_columns)
                } else {
                    add_each(row, |square| square + epsilon, &mut of_columns)
                };
                *mean = average(*mean, single(sum / columns as f64));
            }
            of_columns
        });
        let rows = self.row_means.len() as f64;
        for (column, mean) in self.column_means.iter_mut().enumerate() {
            let sum: f64 = sums.iter().map(|part| part[column]).sum();
            *mean = average(*mean, single(sum / rows));
        }
    }

    /// Sets the velocities to what the means stand for, and divides the gradients by their roots.
    fn divide(&mut self) {
        let (part, columns) = (self.part(), self.column_means.len());
        let sum: f64 = self.row_means.iter().map(|&mean| f64::from(mean)).sum();
        let mean = single(sum / self.row_means.len() as f64);
        let column_means = &*self.column_means;
        let values = self.update.chunks_mut(part * columns);
        let values = values.zip(self.velocity.chunks_mut(part * columns));
        let parts = values.zip(self.row_means.chunks(part)).collect();
        run(self.threads, parts, |((update, velocity), row_means)| {
            let rows = update.chunks_mut(columns).zip(velocity.chunks_mut(columns));
            for ((update, velocity), row_mean) in rows.zip(row_means) {
                let row = row_mean / mean;
                sweep_1(column_means, update, velocity, |column, g, v| {
                    *v = row * column;
                    *g /= v.sqrt();
                });
            }
        });
        for (square, v) in self.squares.iter_mut().zip(&*self.velocity) {
            *square /= v;
        }
    }
}

/// Adds `of` each of a row's values to the sums of the columns and returns the row's own sum.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add_each<F: Fn(f32) -> f32>(row: &[f32], of: F, of_columns: &mut [f64]) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    for (row, sums) in row.chunks(LANES).zip(of_columns.chunks_mut(LANES)) {
        for ((&value, sum), lane) in row.iter().zip(sums).zip(&mut lanes) {
            let square = f64::from(of(value));
            *sum += square;
            *lane += square;
        }
    }
    lanes.iter().sum()
}

fn rms(threads: usize, values: &[f32]) -> f32 {
    let sums = run(threads, values.chunks(CHUNK).collect(), sum_of_squares);
    single(sums.iter().sum::<f64>() / values.len() as f64).sqrt()
}
