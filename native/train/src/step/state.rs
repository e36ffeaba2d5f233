//! Weights and optimizer state between steps: how ranks come to have the same, and to one that has all
//! where each keeps the optimizer's state of a part of the weights.

use super::Trainer;
use super::parts::Parts;
use crate::error::Error;
use crate::resume::State;
use flambeau_collective::Communicator;
use flambeau_keras::optimizers::{OptimizerValue, OptimizerValueMut, OptimizerVariable};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Elements of a variable that travel at once, so that a rank that keeps none of them needs no room for
/// all.
const AT_ONCE: usize = 1 << 20;

/// Optimizer state that each rank keeps a part of.
#[derive(Debug)]
pub(super) struct Sharded {
    pub(super) parts: Parts,
    /// Of each variable of the optimizer what each rank has of it; none of what all have.
    held: Vec<Option<Vec<Range<usize>>>>,
}

impl Trainer {
    /// Has each rank keep and update the optimizer's state of a part of the weights; all ranks do the
    /// same. Weights are all on every rank, and end as they would otherwise.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::Keras`].
    pub fn shard_optimizer_state(&mut self) -> Result<(), Error> {
        let (rank, ranks) = (self.communicator.rank(), self.communicator.world_size());
        if ranks == 1 {
            return Ok(());
        }
        let spans = self.model.trainable().spans();
        let parts = if self.optimizer.takes_whole_variables() {
            Parts::of_variables(&spans, ranks)
        } else {
            Parts::of_regions(self.share.scatter(&self.communicator))
        };
        self.optimizer.shard(&parts.of_rank(rank, &spans))?;
        let own = self.optimizer.variables().into_iter();
        let own: Vec<_> = own.map(|variable| variable.held).collect();
        let own = serde_json::to_vec(&own).map_err(unreadable)?;
        let all = self.communicator.allgather(&own)?.into_iter();
        let all = all.map(|ranges| serde_json::from_slice(&ranges).map_err(unreadable));
        let all: Vec<Vec<Option<Range<usize>>>> = all.collect::<Result<_, _>>()?;
        let of_variable = |at: usize| {
            let of_ranks = all.iter().map(|of_rank| of_rank.get(at).cloned().flatten());
            of_ranks.collect()
        };
        self.sharded = Some(Sharded {
            parts,
            held: (0..self.optimizer.variables().len())
                .map(of_variable)
                .collect(),
        });
        Ok(())
    }

    /// What is to be known of embeddings whose state is sharded, where the optimizer changes weights that
    /// have no gradient: all of them travel in each step.
    pub fn warning_of_embeddings(&self) -> Option<String> {
        self.sharded.as_ref().filter(|_| !self.optimizer.rests())?;
        let variables = self.model.trainable().variables();
        let embeddings = self.share.by_rows();
        let embeddings = embeddings.map(|slices| &variables[slices.variable()]);
        let all = embeddings.map(|variable| {
            let megabytes = (size_of::<f32>() * variable.len()) as f64 / 1e6;
            format!("{} ({megabytes:.1} MB)", variable.path)
        });
        let all: Vec<_> = all.collect();
        (!all.is_empty()).then(|| {
            format!(
                "shardOptimizerState has all weights of {} travel in each step, and not only rows that \
                 were looked up, as this optimizer changes others, too",
                all.join(", ")
            )
        })
    }

    /// Whether this rank by itself has the weights and the state that all ranks have.
    pub fn has_all(&self) -> bool {
        self.sharded.is_none() && self.mesh.is_none() && self.is_in_step()
    }

    /// Overwrites weights, moving statistics and optimizer state with those of rank `root`, whose
    /// optimizer has the whole numbers `counts`. Where the state is sharded, `find` gives all of a
    /// variable of the optimizer by its key, on that rank; if it has none, every rank keeps its own.
    ///
    /// # Errors
    /// [`Error::Collective`], those of `find`.
    pub fn broadcast_values(
        &mut self,
        root: usize,
        counts: &BTreeMap<String, i64>,
        find: impl Fn(&str) -> Result<Option<Vec<f32>>, Error>,
    ) -> Result<(), Error> {
        let communicator = &mut self.communicator;
        let is_root = communicator.rank() == root;
        let mut broadcast = |values: &mut [f32]| communicator.broadcast(root, values);
        self.model.trainable_mut().change(&mut broadcast)??;
        self.model.non_trainable_mut().change(&mut broadcast)??;
        let of_part = |variable: OptimizerVariable<'_>| {
            let length = variable.len();
            (variable.key, variable.held, length)
        };
        let variables = self.optimizer.variables().into_iter();
        let variables: Vec<_> = variables.map(of_part).collect();
        let values = self.optimizer.values_mut().into_iter();
        for ((key, held, length), value) in variables.into_iter().zip(values) {
            match (value, held.filter(|_| self.sharded.is_some())) {
                (OptimizerValueMut::Float32(values), None) => {
                    communicator.broadcast(root, values)?
                }
                (OptimizerValueMut::Float32(values), Some(held)) => {
                    let whole = if is_root { find(&key)? } else { None };
                    broadcast_part(communicator, root, whole, length, (held, values))?;
                }
                (OptimizerValueMut::Int64(count), _) => {
                    *count = counts.get(&key).copied().unwrap_or(*count);
                }
                (OptimizerValueMut::Placeholder, _) => {}
            }
        }
        Ok(())
    }

    /// Has `take` each of the optimizer's variables of numbers, as a whole. Where the state is sharded
    /// every rank must call this, and only that of rank 0 is given any.
    ///
    /// # Errors
    /// [`Error::Collective`], those of `take`.
    pub fn each_optimizer_variable(
        &mut self,
        mut take: impl FnMut(&OptimizerVariable<'_>, Cow<'_, [f32]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_first = self.communicator.rank() == 0;
        for (at, variable) in self.optimizer.variables().into_iter().enumerate() {
            let OptimizerValue::Float32(values) = variable.value else {
                continue;
            };
            let Some(sharded) = &self.sharded else {
                take(&variable, values.into())?;
                continue;
            };
            match &sharded.held[at] {
                Some(pieces) => {
                    let communicator = &mut self.communicator;
                    let whole = gather(communicator, values, pieces, variable.len())?;
                    whole.map_or(Ok(()), |whole| take(&variable, whole.into()))?;
                }
                None if is_first => take(&variable, values.into())?,
                None => {}
            }
        }
        Ok(())
    }

    /// Gives rank 0 this rank's part of the optimizer's state, where it is sharded, or of the model, on a
    /// mesh, when that leaves a checkpoint.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub fn lend_state(&mut self) -> Result<(), Error> {
        if self.sharded.is_some() {
            return self.each_optimizer_variable(|_, _| Ok(()));
        }
        if self.lends_its_stage() {
            self.write_stages(&State::default(), None)?;
        }
        Ok(())
    }

    /// Ends training: a moving average of the weights, where the optimizer keeps one, takes their
    /// place; and where each rank kept a part of the optimizer's state, rank 0 has all of it. Every rank
    /// must call this.
    ///
    /// # Errors
    /// [`Error::Keras`], [`Error::Collective`].
    pub fn finalize(&mut self) -> Result<(), Error> {
        let (optimizer, communicator) = (&mut self.optimizer, &mut self.communicator);
        self.model.trainable_mut().change(|params| {
            optimizer.finalize(params)?;
            match &self.sharded {
                Some(sharded) => sharded.parts.gather(communicator, params, &[]),
                None => Ok(()),
            }
        })??;
        if self.sharded.is_none() {
            return Ok(());
        }
        let mut whole = BTreeMap::new();
        self.each_optimizer_variable(|variable, values| {
            whole.insert(variable.key.clone(), values.into_owned());
            Ok(())
        })?;
        if self.communicator.rank() == 0 {
            let slots = self.optimizer.variables().into_iter();
            let slots = slots.filter(|variable| variable.held.is_some());
            let slots = slots.map(|variable| {
                let values = whole.remove(&variable.key);
                values.unwrap_or_else(|| vec![0.0; variable.len()])
            });
            let slots = slots.collect();
            self.optimizer.unshard(slots)?;
        }
        Ok(())
    }
}

/// Gives every rank the elements `held` of the `whole` that rank `root` has, of `length`; unless it has
/// none.
fn broadcast_part(
    communicator: &mut Communicator,
    root: usize,
    whole: Option<Vec<f32>>,
    length: usize,
    (held, values): (Range<usize>, &mut [f32]),
) -> Result<(), Error> {
    let has_it = u8::from(whole.as_ref().is_some_and(|whole| whole.len() == length));
    let has_it = communicator.broadcast_bytes(root, vec![has_it])?;
    if has_it != [1] {
        return Ok(());
    }
    let mut stretch = vec![0.0; length.min(AT_ONCE)];
    for start in (0..length).step_by(AT_ONCE) {
        let end = length.min(start + AT_ONCE);
        let stretch = &mut stretch[..end - start];
        if let Some(whole) = &whole {
            stretch.copy_from_slice(&whole[start..end]);
        }
        communicator.broadcast(root, stretch)?;
        let (from, to) = (held.start.max(start), held.end.min(end));
        if from < to {
            let own = &mut values[from - held.start..to - held.start];
            own.copy_from_slice(&stretch[from - start..to - start]);
        }
    }
    Ok(())
}

/// The whole of a variable of `length`, of which each rank has the elements `pieces[rank]`; for rank 0.
fn gather(
    communicator: &mut Communicator,
    own: &[f32],
    pieces: &[Range<usize>],
    length: usize,
) -> Result<Option<Vec<f32>>, Error> {
    let is_first = communicator.rank() == 0;
    let mut whole = vec![0.0; if is_first { length } else { 0 }];
    let longest = pieces.iter().map(Range::len).max().unwrap_or(0);
    let stretch = AT_ONCE / pieces.len().max(1);
    for start in (0..longest).step_by(stretch) {
        let inside = |length: usize| start.min(length)..length.min(start + stretch);
        let own = &own[inside(own.len())];
        let own: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = communicator.allgather(&own)?;
        if !is_first {
            continue;
        }
        for (bytes, piece) in all.iter().zip(pieces) {
            let part = whole.get_mut(piece.clone()).unwrap_or_default();
            let part = part.get_mut(inside(piece.len())).unwrap_or_default();
            let (numbers, _) = bytes.as_chunks::<4>();
            for (value, number) in part.iter_mut().zip(numbers) {
                *value = f32::from_le_bytes(*number);
            }
        }
    }
    Ok(is_first.then_some(whole))
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Config(format!(
        "another rank does not say which part of the optimizer's state it has: {error}"
    ))
}
