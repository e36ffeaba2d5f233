//! The losses of a model with several outputs, by the rules of Keras's `CompileLoss`
//! (`trainers/compile_utils.py`): which loss goes with which output, what it weighs, and its name.

use std::fmt;

use serde_json::{Value, json};
use tch::Tensor;

use super::identifier::is_identifier;
use super::nest::{Nest, OutputSpec};
use super::{LabelSpec, Loss, is_crossentropy};
use crate::error::{Error, Result};
use crate::value::Value as Output;

/// All losses that a model is compiled with; their weighted sum is minimised.
#[derive(Debug)]
pub struct CompileLoss {
    parts: Vec<Part>,
    outputs: Vec<OutputSpec>,
    config: [Value; 2],
}

/// The loss of one output.
#[derive(Debug)]
struct Part {
    /// Place of the output among the leaves.
    output: usize,
    loss: Loss,
    weight: Option<f64>,
    /// Without `_loss`.
    name: String,
    sum_count: usize,
}

/// The losses of one batch over all ranks.
#[derive(Debug, Clone, PartialEq)]
pub struct LossValues {
    /// Keras's `loss`, regularizers apart.
    pub total: f64,
    /// The losses of the outputs, in the order of [`CompileLoss::names`].
    pub parts: Vec<f64>,
    /// By how much what is minimised grows with each of the sums.
    pub slopes: Vec<f64>,
}

/// A loss with its weight; none for an output without.
type Weighted<'a> = Option<(&'a Value, Option<f64>)>;

impl CompileLoss {
    /// Matches Keras's `loss` and `loss_weights` (null for none) with the outputs.
    pub fn new(loss: &Value, loss_weights: &Value, outputs: &Nest<OutputSpec>) -> Result<Self> {
        let losses = weighted(loss, loss_weights, outputs)?;
        let losses = match losses {
            Nest::Leaf(loss) => outputs.map(&mut |_| loss),
            nested => nested,
        };
        let mut assigned = Assignment {
            outputs: outputs.leaves(),
            parts: Vec::new(),
            path: Vec::new(),
        };
        let mut next = 0;
        let places = outputs.map(&mut |_| {
            next += 1;
            next - 1
        });
        assigned.assign(&places, &losses)?;
        let config = [canonical(loss)?, float(loss_weights)];
        let compiled = Self {
            parts: assigned.parts,
            outputs: outputs.leaves().into_iter().cloned().collect(),
            config,
        };
        compiled.check(outputs.is_leaf())?;
        Ok(compiled)
    }

    fn check(&self, single: bool) -> Result<()> {
        match &self.parts[..] {
            [] => return Err(invalid("no output has a loss".to_owned())),
            [_] => {}
            [_, ..] if single => {
                let reason = "several losses for a model's only output: Keras minimises the first \
                              and ignores the others; give one";
                return Err(invalid(reason.to_owned()));
            }
            parts => {
                let unreduced = parts.iter().filter(|part| part.loss.is_unreduced()).count();
                let values = |part: &Part| {
                    let shape = &self.outputs[part.output].shape;
                    shape.split_last().map(|(_, shape)| shape.to_vec())
                };
                let alike = parts
                    .windows(2)
                    .all(|pair| values(&pair[0]) == values(&pair[1]));
                if unreduced > 0 && (unreduced < parts.len() || !alike) {
                    return Err(Error::Unsupported {
                        place: "loss".to_owned(),
                        what: "reduction none beside losses of another shape, which Keras adds up \
                               by broadcasting them,"
                            .to_owned(),
                        supported: "sum, sum_over_batch_size, mean_with_sample_weight".to_owned(),
                    });
                }
            }
        }
        for part in &self.parts {
            let OutputSpec { name, shape, .. } = &self.outputs[part.output];
            let label = part.loss.label(shape);
            let first = self.labels().swap_remove(part.output);
            if !first.is_some_and(|first| first.serves(&label)) {
                return Err(invalid(format!(
                    "the losses of output {name} take different labels"
                )));
            }
        }
        Ok(())
    }

    /// What Keras would write as `loss` and `loss_weights` into a `compile_config`.
    pub fn config(&self) -> &[Value; 2] {
        &self.config
    }

    /// The labels beside each output, in the order of the leaves; none where it has no loss.
    pub fn labels(&self) -> Vec<Option<LabelSpec>> {
        let outputs = self.outputs.iter().enumerate();
        outputs
            .map(|(output, spec)| {
                let part = self.parts.iter().find(|part| part.output == output)?;
                Some(part.loss.label(&spec.shape))
            })
            .collect()
    }

    /// What Keras logs besides `loss`: `<output>_loss` for each, if there are several.
    pub fn names(&self) -> Vec<String> {
        if self.parts.len() < 2 {
            return Vec::new();
        }
        let names = self.parts.iter().map(|part| format!("{}_loss", part.name));
        names.collect()
    }

    /// The outputs whose losses [`Self::names`] name, as places among the leaves: Keras weighs
    /// their means over batches by the rows of these.
    pub fn outputs(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.output).collect()
    }

    /// Whether some loss needs a batch in one place; see [`Loss::compares_rows`].
    pub fn compares_rows(&self) -> bool {
        self.parts.iter().any(|part| part.loss.compares_rows())
    }

    /// See [`Loss::is_unreduced`].
    pub fn is_unreduced(&self) -> bool {
        self.parts.iter().any(|part| part.loss.is_unreduced())
    }

    /// Number of [`Self::sums`].
    pub fn sum_count(&self) -> usize {
        self.parts.iter().map(|part| part.sum_count).sum()
    }

    /// What the rows of one rank add to the losses: float64, `[sum_count]`, differentiable.
    /// Labels, outputs and sample weights are in the order of the leaves; outputs without a loss
    /// need no labels.
    pub fn sums(
        &self,
        y_true: &[Option<&Tensor>],
        outputs: &[&Output],
        sample_weights: &[Option<&Tensor>],
    ) -> Result<Tensor> {
        let sums = self.parts.iter().map(|part| {
            let missing = |what: &str| {
                let OutputSpec { name, .. } = &self.outputs[part.output];
                invalid(format!("output {name} has a loss, but no {what}"))
            };
            let y_true = y_true.get(part.output).copied().flatten();
            let y_true = y_true.ok_or_else(|| missing("labels"))?;
            let output = outputs.get(part.output).ok_or_else(|| missing("values"))?;
            let sample_weight = sample_weights.get(part.output).copied().flatten();
            part.loss.sums(y_true, output, sample_weight)
        });
        let sums = sums.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&sums, 0)?)
    }

    /// The losses over all ranks, given the sums of theirs.
    pub fn values(&self, totals: &[f64]) -> LossValues {
        let mut values = LossValues {
            total: 0.0,
            parts: Vec::new(),
            slopes: Vec::new(),
        };
        let mut rest = totals;
        for part in &self.parts {
            let (these, others) = rest.split_at(part.sum_count.min(rest.len()));
            rest = others;
            let outcome = part.loss.outcome(these);
            let weight = part.weight.unwrap_or(1.0);
            values.total += weight * outcome.value;
            values.parts.push(outcome.value);
            let slopes = outcome.slopes.iter().map(|slope| weight * slope);
            values.slopes.extend(slopes);
        }
        values
    }
}

/// A step from a nest to a part of it.
enum Key {
    Index(usize),
    Name(String),
}

/// Losses being given to outputs.
struct Assignment<'a> {
    outputs: Vec<&'a OutputSpec>,
    parts: Vec<Part>,
    path: Vec<Key>,
}

impl Assignment<'_> {
    /// Keras's `_build_nested`: gives losses to the outputs in `places`, which lie at `self.path`.
    fn assign(&mut self, places: &Nest<usize>, loss: &Nest<Weighted<'_>>) -> Result<()> {
        match (loss, places) {
            (Nest::Leaf(None), _) => Ok(()),
            (Nest::Leaf(Some(loss)), Nest::Leaf(output)) => self.add(*output, *loss),
            (Nest::Leaf(Some(_)), _) => Err(invalid(format!(
                "one loss for the several outputs at {}",
                self.joined()
            ))),
            (Nest::List(losses), _) if loss.is_flat() && losses.len() == places.leaves().len() => {
                // As many losses as outputs, in the order of the leaves, however those are nested.
                let mut losses = loss.leaves().into_iter();
                let packed = places.map(&mut |_| losses.next().copied().flatten());
                match packed {
                    Nest::Leaf(_) => self.assign(places, &packed),
                    packed => self.each(places, &packed),
                }
            }
            // Several losses for what is no list: each of them for all of it.
            (Nest::List(losses), Nest::Leaf(_) | Nest::Dict(_)) => {
                losses.iter().try_for_each(|loss| self.assign(places, loss))
            }
            (Nest::List(_) | Nest::Dict(_), _) => self.each(places, loss),
        }
    }

    /// Goes one level down.
    fn each(&mut self, places: &Nest<usize>, loss: &Nest<Weighted<'_>>) -> Result<()> {
        let (losses, keys): (Vec<_>, Vec<_>) = match loss {
            Nest::Leaf(_) => return self.assign(places, loss),
            Nest::List(losses) => losses.iter().zip((0..).map(Key::Index)).unzip(),
            Nest::Dict(losses) => losses
                .iter()
                .map(|(name, loss)| (loss, Key::Name(name.clone())))
                .unzip(),
        };
        for (loss, key) in losses.into_iter().zip(keys) {
            if *loss == Nest::Leaf(None) {
                continue;
            }
            let found = match (&key, places) {
                (Key::Index(index), Nest::List(places)) => places.get(*index),
                (Key::Name(name), Nest::Dict(places)) => places.get(name),
                _ => None,
            };
            self.path.push(key);
            let Some(places) = found else {
                let names: Vec<_> = self.outputs.iter().map(|spec| spec.name.as_str()).collect();
                return Err(invalid(format!(
                    "the model has no output at {}; its outputs are {}",
                    self.joined(),
                    names.join(", ")
                )));
            };
            self.assign(places, loss)?;
            self.path.pop();
        }
        Ok(())
    }

    fn add(&mut self, output: usize, (loss, weight): (&Value, Option<f64>)) -> Result<()> {
        let OutputSpec { name, shape, label } = self.outputs[output];
        let loss = Loss::for_shapes(loss, label.as_deref(), shape)?;
        // In a list the output's name stands for its place, and in a dict the key for its name.
        let mut path: Vec<_> = self.path.iter().map(ToString::to_string).collect();
        match self.path.last() {
            None => path.push(name.clone()),
            Some(Key::Name(_)) => {}
            Some(Key::Index(_)) => {
                path.pop();
                path.push(name.clone());
            }
        }
        self.parts.push(Part {
            output,
            weight,
            name: path.join("/"),
            sum_count: loss.sum_count(shape),
            loss,
        });
        Ok(())
    }

    fn joined(&self) -> String {
        let keys: Vec<_> = self.path.iter().map(ToString::to_string).collect();
        keys.join("/")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The losses joined with their weights.
fn weighted<'a>(
    loss: &'a Value,
    loss_weights: &'a Value,
    outputs: &Nest<OutputSpec>,
) -> Result<Nest<Weighted<'a>>> {
    let (mut losses, mut weights) = (Nest::read(loss), Nest::read(loss_weights));
    let by_name = match (&losses, outputs) {
        (Nest::Dict(losses), Nest::Leaf(_) | Nest::List(_)) => Some(losses.clone()),
        _ => None,
    };
    if let Some(by_name) = by_name {
        let names: Vec<_> = outputs
            .leaves()
            .into_iter()
            .map(|spec| &spec.name)
            .collect();
        if by_name.len() != names.len() || names.iter().any(|name| !by_name.contains_key(*name)) {
            let keys: Vec<_> = by_name.keys().collect();
            return Err(invalid(format!(
                "losses by name must be for the outputs {names:?}, all of them, not {keys:?}"
            )));
        }
        losses = Nest::List(names.iter().map(|name| by_name[*name].clone()).collect());
        if let Nest::Dict(given) = &weights {
            let ordered = names.iter().map(|name| {
                let weight = given.get(*name).cloned();
                weight.ok_or_else(|| invalid(format!("loss_weights lacks output {name}")))
            });
            weights = Nest::List(ordered.collect::<Result<_>>()?);
        }
    }
    let given = match &weights {
        Nest::Leaf(Value::Null) => vec![None; losses.leaves().len()],
        weights => weights
            .leaves()
            .into_iter()
            .map(|weight| match weight {
                Value::Null => Ok(None),
                weight => weight
                    .as_f64()
                    .map(Some)
                    .ok_or_else(|| invalid(format!("loss_weights: {weight} must be a number"))),
            })
            .collect::<Result<_>>()?,
    };
    if given.len() != losses.leaves().len() {
        return Err(invalid(format!(
            "{} losses, but {} loss_weights",
            losses.leaves().len(),
            given.len()
        )));
    }
    let mut given = given.into_iter();
    Ok(losses.map(&mut |loss| {
        let weight = given.next().flatten();
        (!loss.is_null()).then_some((*loss, weight))
    }))
}

/// Every loss of a setting as Keras would write it, the containers as they are.
fn canonical(loss: &Value) -> Result<Value> {
    Ok(match loss {
        Value::Array(items) => items.iter().map(canonical).collect::<Result<_>>()?,
        Value::Object(items) if !is_identifier(loss) => {
            let items = items
                .iter()
                .map(|(key, item)| Ok((key.clone(), canonical(item)?)));
            Value::Object(items.collect::<Result<_>>()?)
        }
        // Which crossentropy is meant depends on shapes; the string is written as it is.
        Value::String(name) if is_crossentropy(name) => loss.clone(),
        Value::Null => Value::Null,
        loss => Loss::from_config(loss)?.config().clone(),
    })
}

/// Keras takes a single loss weight only as a float.
fn float(weights: &Value) -> Value {
    match weights.as_f64() {
        Some(weight) => json!(weight),
        None => weights.clone(),
    }
}

fn invalid(reason: String) -> Error {
    Error::InvalidConfig {
        place: "loss".to_owned(),
        reason,
    }
}
