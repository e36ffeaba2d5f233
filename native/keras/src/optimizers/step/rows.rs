//! Updates of single rows, of matrices whose rows are looked up: where the rule leaves alone what has no
//! gradient, the others need not be looked at. The rows are taken out of the matrix with all that belongs
//! to them, go through the step as any other part does, and are put back.

use std::ops::Range;

use super::super::Optimizer;
use super::super::part::{Part, State};
use super::super::rule::Piece;
use super::super::workers::CHUNK;
use super::Given;
use crate::indexed_slices::IndexedSlices;
use crate::variables::Variable;

/// Rows of a matrix, taken out of it.
#[derive(Debug)]
pub(super) struct Rows {
    variable: usize,
    /// Where they lie in the optimizer's own part of the matrix, one row after the other.
    places: Vec<Range<usize>>,
    grads: Vec<f32>,
    params: Vec<f32>,
    slots: Vec<Vec<f32>>,
    statistics: Vec<f32>,
}

impl Rows {
    /// Those of the rows that `slices` list which are in the optimizer's own part, where `params` and
    /// `grads` are the variable's.
    fn take(slices: &IndexedSlices, state: &State, params: &[f32], grads: &[f32]) -> Self {
        let (own, width) = (&state.own, slices.width());
        let mut rows = slices.rows().to_vec();
        rows.sort_unstable();
        rows.dedup();
        let places = rows.iter().map(|row| row * width..(row + 1) * width);
        let places = places.filter(|place| own.start <= place.start && place.end <= own.end);
        let places: Vec<_> = places
            .map(|place| place.start - own.start..place.end - own.start)
            .collect();
        let of = |values: &[f32]| {
            let mut rows = Vec::with_capacity(places.len() * width);
            for place in &places {
                rows.extend_from_slice(values.get(place.clone()).unwrap_or_default());
            }
            rows
        };
        let of_whole = |values: &[f32]| of(values.get(own.clone()).unwrap_or_default());
        Self {
            variable: slices.variable(),
            grads: of_whole(grads),
            params: of_whole(params),
            slots: state.slots.iter().map(|slot| of(&slot.values)).collect(),
            statistics: of_whole(slices.statistics()),
            places,
        }
    }

    /// Elements of all of them.
    pub(super) fn len(&self) -> usize {
        self.params.len()
    }

    /// Parts for a step.
    pub(super) fn parts<'a>(
        &'a mut self,
        variables: &'a [Variable],
    ) -> impl Iterator<Item = Part<'a>> {
        let variable = self.variable;
        let mut slots = self.slots.iter_mut();
        let piece = Piece {
            shape: &variables[variable].shape,
            grads: &mut self.grads,
            params: &mut self.params,
            slots: std::array::from_fn(|_| slots.next().map(Vec::as_mut_slice).unwrap_or_default()),
            statistics: &mut self.statistics,
        };
        piece.split(CHUNK).into_iter().map(move |piece| Part {
            variable,
            piece,
            average: &mut [],
            accumulator: &mut [],
        })
    }

    /// Puts them back among all parameters and states.
    pub(super) fn put_back(self, variables: &[Variable], states: &mut [State], params: &mut [f32]) {
        let state = &mut states[self.variable];
        let own = super::own_span(&variables[self.variable], state);
        put(&self.params, &self.places, &mut params[own]);
        for (slot, values) in state.slots.iter_mut().zip(&self.slots) {
            put(values, &self.places, &mut slot.values);
        }
    }
}

/// Puts values where they belong.
fn put(values: &[f32], places: &[Range<usize>], into: &mut [f32]) {
    let mut rest = values;
    for place in places {
        let (row, after) = rest.split_at(place.len());
        into[place.clone()].copy_from_slice(row);
        rest = after;
    }
}

impl Optimizer {
    /// Whether a step leaves every element as it is that has a gradient of zero, and so has all that
    /// belongs to it.
    pub fn rests(&self) -> bool {
        self.rule.rests()
            && !self.rule.is_whole()
            && self.weight_decay.is_none()
            && !self.average.is_kept
            && self.accumulation_steps.is_none()
    }

    /// The rows that a step comes to, of all matrices that it need not go through as a whole. The slices
    /// of the others are dense from now on.
    pub(super) fn take_rows(&self, given: &mut Given<'_>) -> Vec<Rows> {
        let mut all = Vec::new();
        for slices in &mut *given.slices {
            let (variable, width) = (slices.variable(), slices.width().max(1));
            let state = &self.states[variable];
            let is_border = |at: usize| at.is_multiple_of(width);
            let has_whole_rows = is_border(state.own.start) && is_border(state.own.end);
            if !self.rests() || !has_whole_rows {
                slices.make_dense();
            }
            if !slices.is_dense() && given.reached[variable] {
                let span = slices.span();
                let (params, grads) = (&given.params[span.clone()], &given.grads[span]);
                all.push(Rows::take(slices, state, params, grads));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{every_optimizer, large_store, numbers, object};
    use super::*;

    /// The matrix of the store whose rows are looked up.
    const MATRIX: usize = 3;

    /// Optimizers with a rule that leaves alone what has no gradient, with all that may come before it.
    fn resting() -> Vec<Value> {
        let inner = object("Adagrad", json!({"clipnorm": 0.3}));
        let scaled = json!({"inner_optimizer": inner, "initial_scale": 4.0});
        let scaled = object("LossScaleOptimizer", scaled);
        let configs = [
            json!({}),
            json!({"loss_scale_factor": 8.0}),
            json!({"clipvalue": 0.1}),
            json!({"clipnorm": 0.2}),
            json!({"global_clipnorm": 0.4, "loss_scale_factor": 2.0}),
        ];
        let configs = configs
            .iter()
            .flat_map(|config| ["SGD", "Adagrad"].map(|class| object(class, config.clone())));
        configs.chain([scaled]).collect()
    }

    /// Some steps, of which one does not reach the matrix and one looks up none of its rows, with slices
    /// that are dense or not; the parameters and the optimizer, and whether slices then are dense.
    fn train(
        config: &Value,
        own: Option<&[Range<usize>]>,
        is_dense: bool,
    ) -> (Vec<f32>, Optimizer, bool) {
        let store = large_store();
        let matrix = &store.variables()[MATRIX];
        let (span, width) = (matrix.span(), 50);
        let mut optimizer = Optimizer::from_config(config, &store).unwrap();
        if let Some(own) = own {
            optimizer.shard(own).unwrap();
        }
        let needs = optimizer.needs();
        let mut slices = [IndexedSlices::new(MATRIX, span.clone(), width, needs)];
        let (mut params, mut grads) = (numbers(99, store.len()), vec![0.0; store.len()]);
        for (step, rows) in [&[7_usize, 0, 39][..], &[8, 7], &[], &[39, 20, 1], &[7]]
            .iter()
            .enumerate()
        {
            let others = numbers(u32::try_from(step).unwrap(), span.start);
            grads[..span.start].copy_from_slice(&others);
            slices[0].clear(&mut grads[span.clone()]);
            let mut statistics = Vec::new();
            for row in *rows {
                let place = span.start + row * width..span.start + (row + 1) * width;
                let values = numbers(u32::try_from(step * 50 + row).unwrap(), width);
                let statistic = needs.statistic.into_iter();
                statistics.extend(statistic.flat_map(|of| values.iter().map(move |&x| of.of(x))));
                grads[place].copy_from_slice(&values);
            }
            slices[0].set(rows, &statistics, 1.5).unwrap();
            if is_dense {
                slices[0].make_dense();
            }
            let reached: Vec<_> = (0..6).map(|at| at != MATRIX || step != 1).collect();
            let taken = optimizer.apply(&mut params, &mut grads, &mut slices, &reached);
            assert!(taken.unwrap(), "{config}");
        }
        (params, optimizer, slices[0].is_dense())
    }

    /// With all classes and options the same bits, whether rows are taken out or the whole matrix goes
    /// through a step; and only what rests does not.
    #[test]
    fn rows_come_to_what_they_come_to_in_the_whole_matrix() {
        for (configs, rests) in [(every_optimizer(), None), (resting(), Some(true))] {
            for config in configs {
                let (params, optimizer, is_dense) = train(&config, None, false);
                let (expected, whole, _) = train(&config, None, true);
                assert!(params == expected, "{config}");
                assert_eq!(optimizer.variables(), whole.variables(), "{config}");
                let plain = [object("SGD", json!({})), object("Adagrad", json!({}))];
                let rests = rests.unwrap_or(plain.contains(&config));
                assert_eq!((optimizer.rests(), is_dense), (rests, !rests), "{config}");
            }
        }
    }

    /// One of several optimizers changes the rows of its own part; if that cuts a row, all of it goes
    /// through the step.
    #[test]
    fn of_rows_those_in_the_own_part_are_changed() {
        for config in resting() {
            let store = large_store();
            let span = store.variables()[MATRIX].span();
            let (expected, ..) = train(&config, None, true);
            for part in [0..400, 350..2000, 375..1000, 0..0] {
                let variables = store.variables().iter();
                let mut own: Vec<_> = variables.map(|one| 0..one.len()).collect();
                own[MATRIX] = part.clone();
                let (params, _, is_dense) = train(&config, Some(&own), false);
                assert_eq!(is_dense, part.start == 375, "{config}, {part:?}");
                let mut due = expected.clone();
                due[span.clone()].copy_from_slice(&numbers(99, store.len())[span.clone()]);
                let part = span.start + part.start..span.start + part.end;
                due[part.clone()].copy_from_slice(&expected[part.clone()]);
                assert!(params == due, "{config}, {part:?}");
            }
        }
    }
}
