//! Weights and optimizer state on their way between a whole model and its shards, by the names that a
//! checkpoint has them under.

use crate::error::Error;
use crate::servers::message::{Packed, strange, unpack};
use crate::servers::plan::Stretch;
use flambeau_keras::optimizers::{Optimizer, OptimizerValue, OptimizerValueMut};
use flambeau_keras::variables::VariableStore;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Some stretches with what updates them: a shard, or all of a model.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) stretches: &'a [Stretch],
    pub(crate) store: &'a mut VariableStore,
    pub(crate) optimizer: &'a mut Optimizer,
}

/// Header of parts, whose numbers follow in its order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Listing {
    /// Updates that led to them.
    step: u64,
    /// For each stretch of weights, its variable and elements.
    weights: Vec<(usize, Range<usize>)>,
    /// For each array of the optimizer, its key and which elements of the whole array they are.
    state: Vec<(String, Range<usize>)>,
    /// The optimizer's whole numbers.
    counts: Vec<(String, i64)>,
}

/// Whose part of which variable an array of the optimizer is.
struct Array<'a> {
    held: Option<&'a Stretch>,
    /// Elements of it that are here, counted from the first of the whole array.
    elements: Range<usize>,
}

/// Array `key` of the optimizer, of `len` elements here: one of a variable lies as that does, unless it
/// has a shape of its own; then the variable is not cut.
fn array<'a>(held: &'a [Stretch], store: &VariableStore, key: &str, len: usize) -> Array<'a> {
    let path = key.rsplit_once('/').map_or("", |(path, _)| path);
    let at = store.variables().iter().position(|one| one.path == path);
    let stretch = at.map(|at| &held[at]);
    match stretch.filter(|stretch| stretch.len() == len) {
        Some(stretch) => Array {
            held: Some(stretch),
            elements: stretch.elements.clone(),
        },
        None => Array {
            held: stretch,
            elements: 0..len,
        },
    }
}

/// What of `held` belongs to the stretches that are `wanted`, after `step` updates.
///
/// # Errors
/// [`Error::Panic`], if it cannot be written, which is a bug.
pub(crate) fn pack(held: &Held<'_>, wanted: &[Stretch], step: u64) -> Result<Vec<u8>, Error> {
    let mut listing = Listing {
        step,
        ..Listing::default()
    };
    let mut numbers: Vec<&[f32]> = Vec::new();
    let want = |variable: usize| wanted.iter().find(|one| one.variable == variable);
    for (at, stretch) in held.stretches.iter().enumerate() {
        if let Some(wanted) = want(stretch.variable) {
            let part = overlap(&stretch.elements, &wanted.elements);
            numbers.push(&held.store.values(at)?[within(&part, &stretch.elements)]);
            listing.weights.push((stretch.variable, part));
        }
    }
    for variable in held.optimizer.variables() {
        match variable.value {
            OptimizerValue::Int64(count) => listing.counts.push((variable.key, count)),
            OptimizerValue::Int32(_) => {}
            OptimizerValue::Float32(values) => {
                let array = array(held.stretches, held.store, &variable.key, values.len());
                let wanted = match array.held {
                    None => Some(array.elements.clone()),
                    Some(held) => want(held.variable).map(|wanted| {
                        if array.elements == held.elements {
                            overlap(&held.elements, &wanted.elements)
                        } else {
                            array.elements.clone()
                        }
                    }),
                };
                if let Some(part) = wanted {
                    numbers.push(&values[within(&part, &array.elements)]);
                    listing.state.push((variable.key, part));
                }
            }
        }
    }
    let mut message = Packed::new(&listing)?;
    numbers.into_iter().for_each(|part| message.put(part));
    Ok(message.into_bytes())
}

/// Puts what [`pack`] gave elsewhere in its places here. Gives the updates that led to it.
///
/// # Errors
/// [`Error::Config`], if it is of another model or another optimizer.
pub(crate) fn store(message: &[u8], held: &mut Held<'_>) -> Result<u64, Error> {
    let (listing, mut numbers) = unpack::<Listing>(message)?;
    for (variable, part) in &listing.weights {
        let mut stretches = held.stretches.iter();
        let at = stretches.position(|one| one.variable == *variable);
        let at = at.filter(|&at| covers(&held.stretches[at].elements, part));
        let at = at.ok_or_else(|| strange("weights have no place here"))?;
        let start = held.store.variables()[at].offset;
        let place = within(part, &held.stretches[at].elements);
        let place = start + place.start..start + place.end;
        held.store
            .change(|weights| numbers.take_into(&mut weights[place]))??;
    }
    let variables = held.optimizer.variables();
    let known: Vec<(String, Range<usize>)> = variables
        .iter()
        .map(|variable| {
            let len = match variable.value {
                OptimizerValue::Float32(values) => values.len(),
                _ => 1,
            };
            let array = array(held.stretches, held.store, &variable.key, len);
            (variable.key.clone(), array.elements)
        })
        .collect();
    let place = |key: &str| known.iter().position(|(known, _)| known == key);
    let mut values = held.optimizer.values_mut();
    for (key, part) in &listing.state {
        let at = place(key).filter(|&at| covers(&known[at].1, part));
        match at.map(|at| (at, &mut values[at])) {
            Some((at, OptimizerValueMut::Float32(values))) => {
                numbers.take_into(&mut values[within(part, &known[at].1)])?;
            }
            _ => return Err(strange(&format!("'{key}' has no place here"))),
        }
    }
    for (key, count) in &listing.counts {
        if let Some(OptimizerValueMut::Int64(own)) = place(key).map(|at| &mut values[at]) {
            **own = *count;
        }
    }
    numbers.end()?;
    Ok(listing.step)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start).min(a.end);
    start..a.end.min(b.end).max(start)
}

/// Where `part` lies, counted from the beginning of `of`.
fn within(part: &Range<usize>, of: &Range<usize>) -> Range<usize> {
    part.start - of.start..part.end - of.start
}

fn covers(of: &Range<usize>, part: &Range<usize>) -> bool {
    of.start <= part.start && part.start <= part.end && part.end <= of.end
}
