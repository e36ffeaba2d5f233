//! One step of an optimizer, from gradients to new parameters.

pub(super) mod peers;
mod rows;

use std::ops::Range;

use self::peers::Peers;
use self::rows::Rows;
use super::Optimizer;
use super::average::Averaging;
use super::part::{Part, State, cut};
use super::rule::{Step, single};
use super::sweep::{all_finite, map, map_1, sum_of_squares};
use super::workers::{run, useful};
use crate::error::{Error, Result};
use crate::indexed_slices::{IndexedSlices, Needs, Statistic};
use crate::replicas::Replicas;
use crate::variables::Variable;

/// What is done to the gradients before they are clipped.
#[derive(Debug, Clone, Copy)]
struct Preparation {
    /// What the rule takes of their slices, which are scaled alike.
    statistic: Option<Statistic>,
    /// They are multiplied by this,
    factor: Option<f32>,
    /// then divided by this,
    divisor: Option<f32>,
    /// then added to the accumulator, or averaged over the steps with it.
    accumulation: Option<Accumulation>,
}

/// What a step is given: values laid out as the model's trainable store.
#[derive(Debug)]
struct Given<'a> {
    params: &'a mut [f32],
    grads: &'a mut [f32],
    slices: &'a mut [IndexedSlices],
    /// By variable, whether it has a gradient.
    reached: &'a [bool],
    /// What the gradients are multiplied by.
    factor: f32,
}

#[derive(Debug, Clone, Copy)]
enum Accumulation {
    Add,
    /// The number of steps.
    Average(f32),
}

impl Optimizer {
    /// What the next step needs to know of gradients whose slices are known. Where gradients are
    /// added up over steps, slices become one whole before anything else.
    pub fn needs(&self) -> Needs {
        if self.accumulation_steps.is_some() {
            return Needs::default();
        }
        Needs {
            statistic: self.rule.statistic(),
            norm: self.clip.needs_norms(),
            limit: self.clip.limit().map(|limit| limit * self.loss_scale()),
        }
    }

    /// One step: changes `params`, laid out as the model's trainable store, by their gradients,
    /// which are changed too. A variable that no loss reaches, as `reached` says by variable, has
    /// no gradient: Keras leaves it and its slots alone, and so does this.
    ///
    /// `slices` are those of [`crate::Model::indexed_slices`] that came with the gradients.
    ///
    /// Returns whether the step was taken. It is not with loss scaling and gradients that are not
    /// finite, nor without any variable; constraints are then not to be applied either.
    ///
    /// # Errors
    /// Before any change, if a length is wrong or no variable is reached.
    pub fn apply(
        &mut self,
        params: &mut [f32],
        grads: &mut [f32],
        slices: &mut [IndexedSlices],
        reached: &[bool],
    ) -> Result<bool> {
        self.apply_scaled(params, grads, slices, reached, 1.0)
    }

    /// As [`Self::apply`], by one of several optimizers that each update what is their [own](Self::shard):
    /// of parameters and gradients nothing else is looked at. What they must all know, such as the norm
    /// of all gradients, they tell each other by `replicas`, who all call this.
    ///
    /// # Errors
    /// Those of [`Self::apply`], and [`Error::Replicas`]: before any change but that of gradients.
    pub fn apply_over(
        &mut self,
        replicas: &mut dyn Replicas,
        params: &mut [f32],
        grads: &mut [f32],
        slices: &mut [IndexedSlices],
        reached: &[bool],
    ) -> Result<bool> {
        let peers = Peers {
            replicas: Some(replicas),
            ..Peers::default()
        };
        self.apply_among(peers, (params, grads), slices, reached, 1.0)
    }

    /// As [`Self::apply`], with gradients `factor` times those given. It saves a pass over them.
    pub fn apply_scaled(
        &mut self,
        params: &mut [f32],
        grads: &mut [f32],
        slices: &mut [IndexedSlices],
        reached: &[bool],
        factor: f32,
    ) -> Result<bool> {
        self.apply_among(Peers::default(), (params, grads), slices, reached, factor)
    }

    fn step(&mut self, mut peers: Peers<'_>, given: Given<'_>) -> Result<bool> {
        let reached = given.reached;
        self.check_lengths(given.params, given.grads, reached)?;
        self.check_group(&peers)?;
        if reached.is_empty() && peers.stages.is_none() {
            return Ok(false);
        }
        if !reached.contains(&true) && peers.stages.is_none() {
            return Err(Error::InvalidConfig {
                place: format!("optimizer {}", self.class.name),
                reason: "the loss reaches no variable, so that there is no gradient".into(),
            });
        }
        if self.loss_scale.is_some() && !self.are_finite(&mut peers, &given)? {
            self.loss_scale.iter_mut().for_each(|scale| scale.shrink());
            return Ok(false);
        }
        self.update(&mut peers, given)?;
        self.iterations += 1;
        self.loss_scale.iter_mut().for_each(|scale| scale.grow());
        Ok(true)
    }

    /// As [`Self::apply`], for an optimizer of a part of a model's variables: a step that reaches none of
    /// these is one, too. Not for one that [`Self::needs_all_gradients`].
    ///
    /// # Errors
    /// Before any change, if a length is wrong.
    pub fn apply_part(
        &mut self,
        params: &mut [f32],
        grads: &mut [f32],
        slices: &mut [IndexedSlices],
        reached: &[bool],
    ) -> Result<()> {
        self.check_lengths(params, grads, reached)?;
        let given = Given {
            params,
            grads,
            slices,
            reached,
            factor: 1.0,
        };
        self.update(&mut Peers::default(), given)?;
        self.iterations += 1;
        Ok(())
    }

    /// The option that has it look at the gradients of all variables at once, if there is one.
    pub fn needs_all_gradients(&self) -> Option<&'static str> {
        if self.loss_scale.is_some() {
            return Some("LossScaleOptimizer");
        }
        self.clip.is_global().then_some("global_clipnorm")
    }

    /// Whether it updates each element by itself, so that parts of one variable may be updated apart.
    pub fn is_elementwise(&self) -> bool {
        !self.rule.is_whole() && !self.clip.needs_norms()
    }

    fn check_lengths(&self, params: &[f32], grads: &[f32], reached: &[bool]) -> Result<()> {
        let (len, count) = (self.len(), self.variables.len());
        check("parameter slice", len, params.len())?;
        check("gradient slice", len, grads.len())?;
        check("list of reached variables", count, reached.len())
    }

    /// What Keras does when `fit` ends: the parameters become their average, if one is kept. One of
    /// several optimizers does this to its own.
    pub fn finalize(&mut self, params: &mut [f32]) -> Result<()> {
        check("parameter slice", self.len(), params.len())?;
        // Before the first step there is no average yet.
        if self.iterations > 0 {
            for (variable, state) in self.variables.iter().zip(&self.states) {
                if let Some(average) = &state.average {
                    params[own_span(variable, state)].copy_from_slice(&average.values);
                }
            }
        }
        Ok(())
    }

    /// Elements of all variables.
    fn len(&self) -> usize {
        self.variables
            .last()
            .map_or(0, |variable| variable.span().end)
    }

    fn are_finite(&self, peers: &mut Peers<'_>, given: &Given<'_>) -> Result<bool> {
        let mut gradients = Vec::new();
        for (index, (variable, state)) in self.variables.iter().zip(&self.states).enumerate() {
            let mut slices = given.slices.iter();
            match slices.find(|slices| slices.variable() == index && !slices.is_dense()) {
                _ if !given.reached[index] => {}
                Some(slices) => gradients.extend(slices.each_row(&given.grads[variable.span()])),
                None => gradients.push(&given.grads[own_span(variable, state)]),
            }
        }
        let elements = gradients.iter().map(|values| values.len()).sum();
        let finite = run(useful(self.threads, elements), gradients, all_finite);
        let mut others = [finite.into_iter().filter(|finite| !finite).count() as f64];
        peers.sum(&mut others)?;
        peers.sum_in_group(&mut others)?;
        peers.sum_over_stages(&mut others)?;
        Ok(others == [0.0])
    }

    fn update(&mut self, peers: &mut Peers<'_>, mut given: Given<'_>) -> Result<()> {
        let mut by_rows = self.take_rows(&mut given);
        let Given {
            params,
            grads,
            slices,
            reached,
            factor,
        } = given;
        let preparation = self.preparation(factor);
        let averaging = self.average.averaging(self.iterations());
        let resting = slices.iter().filter(|slices| !slices.is_dense());
        let resting: usize = resting.map(|slices| slices.span().len()).sum();
        let moving = params.len() - resting + by_rows.iter().map(Rows::len).sum::<usize>();
        let threads = useful(self.threads, moving);
        if self.iterations == 0 {
            for (variable, state) in self.variables.iter().zip(&mut self.states) {
                let own = own_span(variable, state);
                self.rule.start(&params[own], &mut state.slots);
            }
        }
        if let Some(Accumulation::Add) = preparation.accumulation {
            let parts = cut(
                &self.variables,
                &mut self.states,
                params,
                grads,
                &mut [],
                false,
            );
            run(threads, parts, |mut part| {
                if reached[part.variable] {
                    preparation.apply(&mut part);
                }
                average(averaging, &mut part);
            });
            return Ok(());
        }

        let needs_norms = self.clip.needs_norms();
        let mut squares = vec![0.0; self.variables.len()];
        if needs_norms {
            let mut parts = cut(
                &self.variables,
                &mut self.states,
                params,
                grads,
                slices,
                false,
            );
            parts.retain(|part| reached[part.variable]);
            parts.extend(
                by_rows
                    .iter_mut()
                    .flat_map(|rows| rows.parts(&self.variables)),
            );
            let sums = run(threads, parts, |mut part| {
                preparation.apply(&mut part);
                (part.variable, sum_of_squares(part.piece.grads))
            });
            sums.into_iter()
                .for_each(|(variable, sum)| squares[variable] += sum);
            peers.sum(&mut squares)?;
            if self.needs().norm {
                let scale = f64::from(preparation.scale());
                for slices in &*slices {
                    squares[slices.variable()] = f64::from(slices.sum_of_squares()) * scale * scale;
                }
            }
            self.complete_squares(&mut squares, peers)?;
        }
        if self.clip.is_global() {
            peers.add_other_stages(&mut squares)?;
        }
        let clipping = self.clip.clipping(&squares);

        let is_whole = self.rule.is_whole();
        let mut step = Step {
            number: (self.iterations() + 1) as f32,
            learning_rate: self.learning_rate.at(self.iterations),
            shared: self.shared,
            threads: if is_whole { threads } else { 1 },
        };
        step.shared = self.rule.next_shared(&step);
        self.shared = step.shared;
        let mut is_limited = vec![false; self.variables.len()];
        if self.needs().limit.is_some() {
            slices
                .iter()
                .for_each(|slices| is_limited[slices.variable()] = true);
        }
        let decay = |variable| self.rule.weight_decay(variable, self.weight_decay);
        let decays: Vec<_> = self
            .variables
            .iter()
            .map(|v| decay(v).map(single))
            .collect();
        let rule = self.rule.as_ref();
        let mut parts = cut(
            &self.variables,
            &mut self.states,
            params,
            grads,
            slices,
            is_whole,
        );
        parts.extend(
            by_rows
                .iter_mut()
                .flat_map(|rows| rows.parts(&self.variables)),
        );
        let threads = if is_whole { 1 } else { threads };
        let results = run(threads, parts, |mut part| {
            let variable = part.variable;
            if reached[variable] {
                if !needs_norms {
                    preparation.apply(&mut part);
                }
                if !is_limited[variable] {
                    let factor = clipping.apply(variable, part.piece.grads);
                    scale_statistics(rule.statistic(), factor, &mut part);
                }
                if let Some(decay) = decays[variable] {
                    map(part.piece.params, |p| p - p * decay * step.learning_rate);
                }
                rule.update(&step, part.piece())?;
            }
            part.accumulator.fill(0.0);
            average(averaging, &mut part);
            Ok(())
        });
        for rows in by_rows {
            rows.put_back(&self.variables, &mut self.states, params);
        }
        results.into_iter().collect()
    }

    fn preparation(&self, factor: f32) -> Preparation {
        let divisor = self.loss_scale();
        let accumulation = self.accumulation_steps.map(|steps| {
            let is_update = (self.iterations + 1) % steps == 0;
            if is_update {
                Accumulation::Average(steps as f32)
            } else {
                Accumulation::Add
            }
        });
        Preparation {
            statistic: self.rule.statistic(),
            factor: (factor != 1.0).then_some(factor),
            divisor: (divisor != 1.0).then_some(divisor),
            accumulation,
        }
    }
}

impl Preparation {
    /// What gradients are multiplied by.
    fn scale(self) -> f32 {
        self.factor.unwrap_or(1.0) / self.divisor.unwrap_or(1.0)
    }

    fn apply(self, part: &mut Part<'_>) {
        scale_statistics(self.statistic, self.scale(), part);
        let grads = &mut *part.piece.grads;
        if let Some(factor) = self.factor {
            map(grads, |g| g * factor);
        }
        if let Some(divisor) = self.divisor {
            map(grads, |g| g / divisor);
        }
        match self.accumulation {
            None => {}
            Some(Accumulation::Add) => map_1(grads, part.accumulator, |g, sum| *sum += *g),
            Some(Accumulation::Average(steps)) => {
                map_1(grads, part.accumulator, |g, sum| *g = (*g + *sum) / steps);
            }
        }
    }
}

/// Brings the statistics to those of slices that are `factor` times as great.
fn scale_statistics(statistic: Option<Statistic>, factor: f32, part: &mut Part<'_>) {
    if let Some(statistic) = statistic.filter(|_| factor != 1.0) {
        let factor = statistic.of(factor);
        map(part.piece.statistics, |sum| sum * factor);
    }
}

/// Where what the optimizer updates of a variable lies among all parameters.
fn own_span(variable: &Variable, state: &State) -> Range<usize> {
    variable.offset + state.own.start..variable.offset + state.own.end
}

fn average(averaging: Option<Averaging>, part: &mut Part<'_>) {
    if let Some(averaging) = averaging {
        averaging.apply(part.piece.params, part.average);
    }
}

fn check(what: &str, expected: usize, actual: usize) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    Err(Error::LengthMismatch {
        what: what.into(),
        expected,
        actual,
    })
}
