//! Keras's Muon: matrices move along their momentum's nearest orthogonal matrix, everything else
//! by AdamW.

use regex::Regex;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use super::adam::Moments;
use super::rule::{Piece, Rule, Step, single};
use super::slot::Slot;
use super::sweep::{map_1, sweep};
use super::workers::{CHUNK, run};
use crate::config::{Given, Options};
use crate::error::Result;
use crate::indexed_slices::Statistic;
use crate::variables::Variable;

#[derive(Debug)]
pub(super) struct Muon {
    adam: Moments,
    adam_weight_decay: Option<f64>,
    adam_lr_ratio: f64,
    exclude_embeddings: bool,
    exclude_layers: Vec<String>,
    /// `exclude_layers`, which are searched for in a variable's path.
    excluded: Vec<Regex>,
    /// The coefficients of the Newton and Schulz iteration's polynomial: x, x^3, x^5.
    polynomial: [f64; 3],
    ns_steps: i64,
    momentum: f64,
    nesterov: bool,
    rms_rate: Option<f64>,
}

impl Muon {
    pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Rule>> {
        let exclude_layers = names(options, "exclude_layers")?;
        let excluded = exclude_layers.iter().map(|pattern| {
            Regex::new(pattern).map_err(|error| {
                options.invalid(format!(
                    "exclude_layers holds a pattern not understood: {error}"
                ))
            })
        });
        let ns_steps = options.integer_or_null("ns_steps", Some(5))?;
        Ok(Box::new(Self {
            adam: Moments {
                beta_1: options.number("adam_beta_1", 0.9)?,
                beta_2: options.number("adam_beta_2", 0.999)?,
                epsilon: options.number("epsilon", 1e-7)?,
            },
            adam_weight_decay: options.number_or_null("adam_weight_decay", Some(0.004))?,
            adam_lr_ratio: options.number("adam_lr_ratio", 1.0)?,
            exclude_embeddings: options.flag("exclude_embeddings", true)?,
            excluded: excluded.collect::<Result<_>>()?,
            exclude_layers,
            polynomial: [
                options.number("muon_a", 3.4445)?,
                options.number("muon_b", -4.7750)?,
                options.number("muon_c", 2.0315)?,
            ],
            ns_steps: ns_steps
                .ok_or_else(|| options.invalid("ns_steps = null must be an integer"))?,
            momentum: options.number("momentum", 0.95)?,
            nesterov: options.flag("nesterov", true)?,
            rms_rate: options.number_or_null("rms_rate", Some(0.2))?,
        }))
    }

    fn takes_adam(&self, variable: &Variable) -> bool {
        variable.shape.len() != 2
            || self.exclude_embeddings && variable.path.to_lowercase().contains("embedding")
            || self
                .excluded
                .iter()
                .any(|pattern| pattern.is_match(&variable.path))
    }

    /// The Newton and Schulz iteration: all singular values of a matrix go towards 1.
    fn orthogonalized(&self, matrix: &Tensor) -> Result<Tensor> {
        let [a, b, c] = self.polynomial;
        let size = matrix.size();
        let is_tall = size[0] > size[1];
        let mut x = if is_tall {
            matrix.f_tr()?
        } else {
            matrix.shallow_clone()
        };
        let norm = x.f_square()?.f_sum(Kind::Float)?.f_sqrt()?;
        x = x.f_div(&norm.f_add_scalar(1e-7)?)?;
        for _ in 0..self.ns_steps {
            let gram = x.f_matmul(&x.f_tr()?)?;
            let cubic = gram.f_mul_scalar(b)?;
            let quintic = gram.f_mul_scalar(c)?.f_matmul(&gram)?;
            let rest = cubic.f_add(&quintic)?.f_matmul(&x)?;
            x = x.f_mul_scalar(a)?.f_add(&rest)?;
        }
        Ok(if is_tall { x.f_tr()? } else { x })
    }
}

impl Rule for Muon {
    fn slots(&self, variable: &Variable) -> Vec<Slot> {
        let mut slots = Moments::slots(variable);
        if !self.takes_adam(variable) {
            slots.truncate(1);
        }
        slots
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn statistic(&self) -> Option<Statistic> {
        Some(Statistic::Squares)
    }

    fn update(&self, step: &Step, piece: Piece<'_>) -> Result<()> {
        let [momentum, velocity, _] = piece.slots;
        if !velocity.is_empty() {
            let rate = step.learning_rate * single(self.adam_lr_ratio);
            let step = Step {
                learning_rate: rate,
                ..*step
            };
            let slots = [momentum, velocity, &mut []];
            let alpha = step.corrected(self.adam.beta_1, self.adam.beta_2);
            let pieces = Piece { slots, ..piece }.split(CHUNK);
            run(step.threads, pieces, |piece| self.adam.update(alpha, piece));
            return Ok(());
        }
        let (factor, rest) = (single(self.momentum), single(self.momentum - 1.0));
        let update = piece.grads;
        let nesterov = self.nesterov;
        map_1(update, momentum, |g, m| {
            *m += *g + *m * rest;
            *g = if nesterov { *g + factor * *m } else { *m };
        });
        let matrix = Tensor::f_from_slice(update)?.f_view(piece.shape)?;
        let orthogonal = self.orthogonalized(&matrix)?.f_contiguous()?;
        orthogonal.f_copy_data(update, update.len())?;

        let lr = step.learning_rate;
        match self.rms_rate.map(single) {
            None => sweep(update, piece.params, |u, p| *p -= lr * u),
            Some(rate) => {
                let larger = piece.shape.iter().copied().max().unwrap_or(0);
                let root = (larger as f32).sqrt();
                sweep(update, piece.params, |u, p| *p -= lr * u * root * rate);
            }
        }
        Ok(())
    }

    fn weight_decay(&self, variable: &Variable, general: Option<f64>) -> Option<f64> {
        if self.takes_adam(variable) {
            self.adam_weight_decay
        } else {
            general
        }
    }

    fn describe(&self, config: &mut Map<String, Value>) {
        let [a, b, c] = self.polynomial;
        for (key, value) in [
            ("adam_beta_1", Value::from(self.adam.beta_1)),
            ("adam_beta_2", self.adam.beta_2.into()),
            ("epsilon", self.adam.epsilon.into()),
            ("exclude_layers", self.exclude_layers.clone().into()),
            ("muon_a", a.into()),
            ("muon_b", b.into()),
            ("muon_c", c.into()),
            ("adam_lr_ratio", self.adam_lr_ratio.into()),
            ("momentum", self.momentum.into()),
            ("ns_steps", self.ns_steps.into()),
            ("nesterov", self.nesterov.into()),
            ("exclude_embeddings", self.exclude_embeddings.into()),
            ("adam_weight_decay", self.adam_weight_decay.into()),
            ("rms_rate", self.rms_rate.into()),
        ] {
            config.insert(key.into(), value);
        }
    }
}

/// A list of strings; absent and null are an empty one.
fn names(options: &Options<'_>, key: &'static str) -> Result<Vec<String>> {
    let Given::Value(value) = options.given(key) else {
        return Ok(Vec::new());
    };
    let names = value.as_array().and_then(|items| {
        let names = items.iter().map(|item| item.as_str().map(str::to_owned));
        names.collect::<Option<_>>()
    });
    names.ok_or_else(|| options.invalid(format!("{key} = {value} must be a list of strings")))
}
