//! An optimizer that updates a part of the parameters, and keeps the state of no others: one of several
//! that together are one (Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
//! Parameter Models", 2020, stage 1).

use std::ops::Range;

use super::Optimizer;
use super::slot::Slot;
use super::variables::slots_mut;
use crate::error::{Error, Result};

impl Optimizer {
    /// Whether a variable is updated as a whole, since the rule looks at all of it: it must not be cut
    /// between several optimizers.
    pub fn takes_whole_variables(&self) -> bool {
        self.rule.is_whole()
    }

    /// Forgets the state of all but the elements `own` of each variable, which are all that it changes
    /// from now on, by [`Self::apply_over`]. A checkpoint is still restored as a whole.
    ///
    /// # Errors
    /// Before any change, if there is not one range for each variable, inside it, or if one cuts a
    /// variable that is only updated as a whole.
    pub fn shard(&mut self, own: &[Range<usize>]) -> Result<()> {
        if own.len() != self.variables.len() {
            return Err(Error::LengthMismatch {
                what: "list of own elements".into(),
                expected: self.variables.len(),
                actual: own.len(),
            });
        }
        let variables = self.variables.iter().zip(own);
        for (variable, own) in variables.clone() {
            let cuts = !own.is_empty() && own.len() < variable.len();
            let beyond = own.start > own.end || own.end > variable.len();
            if beyond || cuts && self.takes_whole_variables() {
                return Err(Error::InvalidConfig {
                    place: format!("optimizer {}", self.class.name),
                    reason: format!(
                        "it cannot update elements {own:?} of variable {}, which has {}",
                        variable.path,
                        variable.len()
                    ),
                });
            }
        }
        for ((variable, own), state) in variables.zip(&mut self.states) {
            // What a variable without elements has is nobody's own.
            if variable.is_empty() {
                continue;
            }
            state.own = own.clone();
            for (_, slot) in state.ranked_mut() {
                slot.keep(&variable.shape, own);
            }
        }
        Ok(())
    }

    /// Becomes one optimizer again, given all elements of what belongs to variables of the model, in
    /// the order of [`Self::variables`].
    ///
    /// # Errors
    /// Before any change, if some are missing.
    pub fn unshard(&mut self, whole: Vec<Vec<f32>>) -> Result<()> {
        let variables = self.variables();
        let expected = variables.iter().filter(|one| one.held.is_some());
        let expected: Vec<usize> = expected.map(|one| one.len()).collect();
        let actual: Vec<usize> = whole.iter().map(Vec::len).collect();
        if expected != actual {
            return Err(Error::LengthMismatch {
                what: "state of an optimizer".into(),
                expected: expected.iter().sum(),
                actual: actual.iter().sum(),
            });
        }
        for (slot, values) in slots_mut(&mut self.states).zip(whole) {
            slot.held = 0..values.len();
            slot.values = values;
        }
        for (variable, state) in self.variables.iter().zip(&mut self.states) {
            state.own = 0..variable.len();
        }
        Ok(())
    }
}

impl Slot {
    /// Forgets all but the elements `own` of a variable; what does not lie like the variable is kept
    /// whole, with any of them.
    fn keep(&mut self, shape: &[i64], own: &Range<usize>) {
        self.held = match () {
            () if self.shape == shape => own.clone(),
            () if own.is_empty() => 0..0,
            () => return,
        };
        self.values = self.values[self.held.clone()].to_vec();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use serde_json::json;

    use super::super::tests::{every_optimizer, large_store, numbers, object};
    use super::*;
    use crate::optimizers::OptimizerValue;
    use crate::replicas::{Failure, Replicas};
    use crate::variables::VariableStore;

    /// Where replicas in threads meet: the sums of each, and their parameters.
    #[derive(Debug)]
    struct Meeting {
        place: Barrier,
        sums: Mutex<Vec<Vec<f64>>>,
        params: Mutex<Vec<f32>>,
    }

    impl Replicas for &Meeting {
        fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
            self.sums.lock().unwrap().push(values.to_vec());
            self.place.wait();
            let all = self.sums.lock().unwrap().clone();
            for (at, value) in values.iter_mut().enumerate() {
                *value = all.iter().map(|of_one| of_one[at]).sum();
            }
            self.place.wait();
            self.sums.lock().unwrap().clear();
            self.place.wait();
            Ok(())
        }
    }

    /// What is `rank`'s of each variable: stretches anywhere, or whole variables in turn.
    fn own(
        store: &VariableStore,
        (rank, ranks): (usize, usize),
        is_whole: bool,
    ) -> Vec<Range<usize>> {
        let variables = store.variables().iter().enumerate();
        let own = variables.map(|(index, variable)| match (is_whole, variable.len()) {
            (true, len) if index % ranks == rank => 0..len,
            (true, _) => 0..0,
            (false, len) => len * rank / ranks..len * (rank + 1) / ranks,
        });
        own.collect()
    }

    fn reached(step: u32) -> Vec<bool> {
        (0..6)
            .map(|index| !u32::is_multiple_of(step + index, 5))
            .collect()
    }

    fn floats(optimizer: &Optimizer) -> Vec<Vec<f32>> {
        let variables = optimizer.variables().into_iter();
        let slots = variables.filter(|variable| variable.held.is_some());
        let values = slots.map(|variable| match variable.value {
            OptimizerValue::Float32(values) => values.to_vec(),
            _ => vec![0.0; variable.len()],
        });
        values.collect()
    }

    fn difference(a: &[f32], b: &[f32]) -> f32 {
        let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        distances.fold(0.0, f32::max)
    }

    /// Several optimizers that each have a part come to what one has that has all, with the same bits
    /// but for norms that are summed in another order; and go on as one.
    #[test]
    fn several_are_one() {
        let store = large_store();
        let mut configs = every_optimizer();
        configs.push(object("Adam", json!({"global_clipnorm": 0.1})));
        for config in configs {
            let mut one = Optimizer::from_config(&config, &store).unwrap();
            let start = numbers(7, store.len());
            let mut params = start.clone();
            for step in 0..4 {
                let mut grads = numbers(step, params.len());
                one.apply(&mut params, &mut grads, &mut [], &reached(step))
                    .unwrap();
            }
            let ranks = 3;
            let meeting = Meeting {
                place: Barrier::new(ranks),
                sums: Mutex::default(),
                params: Mutex::new(start),
            };
            let train = |rank: usize| {
                let store = large_store();
                let mut optimizer = Optimizer::from_config(&config, &store).unwrap();
                let own = own(&store, (rank, ranks), optimizer.takes_whole_variables());
                optimizer.shard(&own).unwrap();
                let mut replicas = &meeting;
                for step in 0..4 {
                    let mut params = meeting.params.lock().unwrap().clone();
                    let mut grads = numbers(step, params.len());
                    optimizer
                        .apply_over(
                            &mut replicas,
                            &mut params,
                            &mut grads,
                            &mut [],
                            &reached(step),
                        )
                        .unwrap();
                    meeting.place.wait();
                    for (variable, own) in store.variables().iter().zip(&own) {
                        let span = variable.offset + own.start..variable.offset + own.end;
                        let mut all = meeting.params.lock().unwrap();
                        all[span.clone()].copy_from_slice(&params[span]);
                    }
                    meeting.place.wait();
                }
                optimizer
            };
            let mut several: Vec<Optimizer> = thread::scope(|scope| {
                let train = &train;
                let ranks = (0..ranks).map(|rank| scope.spawn(move || train(rank)));
                let ranks: Vec<_> = ranks.collect();
                ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
            });
            let trained = meeting.params.into_inner().unwrap();
            let same = difference(&trained, &params);
            let has_norms = config.to_string().contains("clipnorm");
            assert!(same == 0.0 || has_norms && same < 1e-6, "{config}: {same}");

            // Slots are side by side in the order of ranks, where ranks have parts of each.
            let whole = floats(&one);
            let parts: Vec<_> = several.iter().map(floats).collect();
            let mut gathered = vec![Vec::new(); whole.len()];
            for (slot, gathered) in gathered.iter_mut().enumerate() {
                parts.iter().for_each(|part| gathered.extend(&part[slot]));
                gathered.truncate(whole[slot].len());
                let same = difference(gathered, &whole[slot]);
                assert_eq!(gathered.len(), whole[slot].len(), "{config}");
                assert!(same == 0.0 || has_norms && same < 1e-6, "{config}: {same}");
            }
            let mut again = several.remove(1);
            let held = floats(&again);
            let kept: usize = held.iter().map(Vec::len).sum();
            let all: usize = whole.iter().map(Vec::len).sum();
            assert!(kept <= all / 2 + 10 || again.takes_whole_variables());

            // It takes its own of a whole state, and goes on as one optimizer given all.
            let saved = one.variables();
            let find = |key: &str| {
                let found = saved.iter().find(|variable| variable.key == key);
                found.map(|variable| (variable.shape, variable.value))
            };
            again.restore(find).unwrap();
            let own: Vec<_> = again.variables();
            for (own, whole) in own.iter().zip(&saved) {
                if let (OptimizerValue::Float32(own_values), OptimizerValue::Float32(values)) =
                    (own.value, whole.value)
                {
                    let held = own.held.clone().unwrap_or(0..values.len());
                    assert_eq!(own_values, &values[held], "{config}, {}", own.key);
                }
            }
            assert!(again.unshard(held).is_err() || all == kept);
            again.unshard(whole).unwrap();
            assert_eq!(again.variables(), saved, "{config}");
        }
    }

    #[test]
    fn parts_that_make_no_sense_are_refused() {
        let store = large_store();
        let mut adam = Optimizer::from_config(&json!("adam"), &store).unwrap();
        let whole: Vec<_> = store.variables().iter().map(|one| 0..one.len()).collect();
        assert!(adam.shard(&whole[1..]).is_err());
        let mut beyond = whole.clone();
        beyond[2] = 690..701;
        let error = adam.shard(&beyond).unwrap_err().to_string();
        assert!(error.contains("690..701 of variable wide/bias"), "{error}");
        let mut cut = whole.clone();
        cut[0] = 0..100;
        let mut lamb = Optimizer::from_config(&json!("lamb"), &store).unwrap();
        let error = lamb.shard(&cut).unwrap_err().to_string();
        assert!(error.contains("0..100 of variable wide/kernel"), "{error}");
        adam.shard(&cut).unwrap();
    }
}
