//! The metrics of a model with several outputs, by the rules of Keras's `CompileMetrics`
//! (`trainers/compile_utils.py`): which metric goes with which output, and what it is called.

use std::collections::HashMap;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Metric, MetricValue};
use crate::error::{Error, Result};
use crate::losses::identifier::is_identifier;
use crate::losses::{CompileLoss, LabelSpec, Nest, OutputSpec};
use crate::value::Value as Output;

/// All metrics that a model is compiled with.
#[derive(Debug)]
pub struct CompileMetrics {
    entries: Vec<Entry>,
    outputs: Vec<OutputSpec>,
    config: [Value; 2],
}

/// A metric of one output.
#[derive(Debug)]
struct Entry {
    /// Place of the output among the leaves.
    output: usize,
    /// Whether it is one of `weighted_metrics`.
    weighted: bool,
    metric: Metric,
    /// Its key in the logs.
    key: String,
    /// What it was made of.
    identifier: Value,
}

/// The metrics of one output, and what its name is in their keys.
struct Group<'a> {
    output: usize,
    prefix: Option<String>,
    metrics: Vec<&'a Value>,
}

impl CompileMetrics {
    /// Matches Keras's `metrics` and `weighted_metrics` (null for none) with the outputs, whose
    /// labels are those of the losses.
    pub fn new(
        metrics: &Value,
        weighted_metrics: &Value,
        outputs: &Nest<OutputSpec>,
        losses: &CompileLoss,
    ) -> Result<Self> {
        let mut compiled = Self {
            entries: Vec::new(),
            outputs: outputs.leaves().into_iter().cloned().collect(),
            config: [metrics.clone(), weighted_metrics.clone()],
        };
        let labels = losses.labels();
        let settings = [
            ("metrics", metrics, false),
            ("weighted_metrics", weighted_metrics, true),
        ];
        let mut keys = Keys::default();
        for (argument, setting, weighted) in settings {
            for group in groups(argument, setting, outputs)? {
                let output = group.output;
                let label = labels.get(output).and_then(Option::as_ref);
                for identifier in group.metrics {
                    let metric = compiled.metric(identifier, output, label)?;
                    let prefix = group.prefix.as_deref();
                    compiled.entries.push(Entry {
                        output,
                        weighted,
                        key: keys.next(prefix, metric.name(), weighted),
                        metric,
                        identifier: identifier.clone(),
                    });
                }
            }
        }
        compiled.config = [
            compiled.canonical(metrics),
            compiled.canonical(weighted_metrics),
        ];
        Ok(compiled)
    }

    fn metric(
        &self,
        identifier: &Value,
        output: usize,
        label: Option<&LabelSpec>,
    ) -> Result<Metric> {
        let OutputSpec {
            name,
            shape,
            label: known,
        } = &self.outputs[output];
        let label_shape = match label {
            Some(label) => label.shape(),
            None => known.as_deref(),
        };
        let metric = Metric::from_config(identifier, label_shape, shape)?;
        match label {
            Some(label) if !label.serves(&metric.label()) => Err(Error::InvalidConfig {
                place: format!("metric {}", metric.name()),
                reason: format!(
                    "it compares output {name} with {}, but the loss with {}; use \"accuracy\" \
                     or a metric for such labels",
                    described(&metric.label()),
                    described(label)
                ),
            }),
            _ => Ok(metric),
        }
    }

    /// Every metric of a setting as Keras would write it, the containers as they are.
    fn canonical(&self, setting: &Value) -> Value {
        match setting {
            Value::Array(items) => items.iter().map(|item| self.canonical(item)).collect(),
            Value::Object(_) if is_identifier(setting) => {
                let same = |entry: &&Entry| entry.identifier == *setting;
                let entry = self.entries.iter().find(same);
                entry.map_or_else(|| setting.clone(), |entry| entry.metric.config().clone())
            }
            Value::Object(items) => items
                .iter()
                .map(|(key, item)| (key.clone(), self.canonical(item)))
                .collect(),
            name => name.clone(),
        }
    }

    /// What Keras would write as `metrics` and `weighted_metrics` into a `compile_config`.
    pub fn config(&self) -> &[Value; 2] {
        &self.config
    }

    /// The labels beside each output, in the order of the leaves; none where it has no metric.
    pub fn labels(&self) -> Vec<Option<LabelSpec>> {
        (0..self.outputs.len())
            .map(|output| {
                let entry = self.entries.iter().find(|entry| entry.output == output)?;
                Some(entry.metric.label())
            })
            .collect()
    }

    /// The keys in the logs, in Keras's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Number of sums in the state.
    pub fn state_len(&self) -> usize {
        self.entries
            .iter()
            .map(|entry| entry.metric.state_len())
            .sum()
    }

    /// What a batch adds to the state: float64, `[state_len]`. Labels, outputs and sample weights
    /// are in the order of the leaves.
    pub fn update(
        &self,
        y_true: &[Option<&Tensor>],
        outputs: &[&Output],
        sample_weights: &[Option<&Tensor>],
    ) -> Result<Tensor> {
        let updates = self.entries.iter().map(|entry| {
            let missing = |what: &str| Error::InvalidConfig {
                place: format!("metric {}", entry.key),
                reason: format!("its output has no {what}"),
            };
            let y_true = y_true.get(entry.output).copied().flatten();
            let y_true = y_true.ok_or_else(|| missing("labels"))?;
            let output = outputs.get(entry.output).ok_or_else(|| missing("values"))?;
            let weights = sample_weights.get(entry.output).copied().flatten();
            let weights = weights.filter(|_| entry.weighted);
            entry.metric.update(y_true, output, weights)
        });
        let updates = updates.collect::<Result<Vec<_>>>()?;
        if updates.is_empty() {
            return Ok(Tensor::f_zeros([0], (Kind::Double, tch::Device::Cpu))?);
        }
        Ok(Tensor::f_cat(&updates, 0)?)
    }

    /// The values over all that was added to `state`, by their keys. Of two that Keras gives one
    /// key, the later one is kept, as there.
    pub fn results(&self, state: &[f64]) -> Vec<(String, MetricValue)> {
        let mut results: Vec<(String, MetricValue)> = Vec::new();
        let mut rest = state;
        for entry in &self.entries {
            let (these, others) = rest.split_at(entry.metric.state_len().min(rest.len()));
            rest = others;
            let value = entry.metric.result(these);
            match results.iter_mut().find(|(key, _)| *key == entry.key) {
                Some(taken) => taken.1 = value,
                None => results.push((entry.key.clone(), value)),
            }
        }
        results
    }
}

/// Keras's rules for keys: names that come again are numbered, and weighted ones say so.
#[derive(Debug, Default)]
struct Keys {
    counts: HashMap<String, usize>,
}

impl Keys {
    fn next(&mut self, prefix: Option<&str>, name: &str, weighted: bool) -> String {
        let prefixed = |name: &str| match prefix {
            Some(prefix) => format!("{prefix}_{name}"),
            None => name.to_owned(),
        };
        let plain = prefixed(name);
        let key = if weighted && self.counts.contains_key(&plain) {
            prefixed(&format!("weighted_{name}"))
        } else {
            plain
        };
        let count = self.counts.entry(key.clone()).or_insert(0);
        *count += 1;
        match *count {
            1 => key,
            again => format!("{key}_{}", again - 1),
        }
    }
}

/// The metrics of every output that has some.
fn groups<'a>(
    argument: &str,
    setting: &'a Value,
    outputs: &Nest<OutputSpec>,
) -> Result<Vec<Group<'a>>> {
    match setting {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.is_empty() => return Ok(Vec::new()),
        Value::Object(items) if items.is_empty() => return Ok(Vec::new()),
        setting if !is_identifier(setting) => {}
        setting => {
            return Err(Error::InvalidConfig {
                place: argument.to_owned(),
                reason: format!("{setting} must be a list, or an object by output name"),
            });
        }
    }
    let leaves = outputs.leaves();
    let mut groups = Vec::new();
    if leaves.len() == 1 {
        let mut metrics = Vec::new();
        flatten(setting, &mut metrics);
        groups.push(Group {
            output: 0,
            prefix: None,
            metrics,
        });
        return Ok(groups);
    }
    if outputs.is_flat()
        && let Some(flat) = flat(setting, outputs)
    {
        for (place, name, metrics) in flat {
            add(&mut groups, place, name, metrics)?;
        }
        return Ok(groups);
    }
    let mut next = 0;
    let places = outputs.map(&mut |spec| {
        next += 1;
        (next - 1, spec.name.clone())
    });
    nested(argument, setting, &places, &mut groups)?;
    Ok(groups)
}

/// One entry for each output of a flat list or dict: its place, its name and its metrics; none if
/// the setting is not of that form.
fn flat<'a>(
    setting: &'a Value,
    outputs: &Nest<OutputSpec>,
) -> Option<Vec<(usize, String, &'a Value)>> {
    let names: Vec<&String> = outputs
        .leaves()
        .into_iter()
        .map(|spec| &spec.name)
        .collect();
    // Keras prefers the keys of a dict to the names of the layers, if they are not the same.
    let (order, places): (Vec<&String>, Vec<usize>) = match outputs {
        Nest::Dict(items) => {
            let keys: Vec<_> = items.keys().collect();
            let place = |name: &&String| keys.iter().position(|key| key == name);
            let places: Option<Vec<_>> = names.iter().map(place).collect();
            match places {
                Some(places) => (names, places),
                None => {
                    let places = (0..keys.len()).collect();
                    (keys, places)
                }
            }
        }
        _ => {
            let places = (0..names.len()).collect();
            (names, places)
        }
    };
    let metrics: Vec<&Value> = match setting {
        Value::Array(items) if items.len() == order.len() => items.iter().collect(),
        Value::Object(items)
            if items.len() <= order.len() && items.keys().all(|key| order.contains(&key)) =>
        {
            let metrics = order
                .iter()
                .map(|name| items.get(*name).unwrap_or(&Value::Null));
            metrics.collect()
        }
        _ => return None,
    };
    let entries = places.into_iter().zip(order).zip(metrics);
    Some(
        entries
            .map(|((place, name), metrics)| (place, name.clone(), metrics))
            .collect(),
    )
}

/// A setting that has the structure of the outputs.
fn nested<'a>(
    argument: &str,
    setting: &'a Value,
    places: &Nest<(usize, String)>,
    groups: &mut Vec<Group<'a>>,
) -> Result<()> {
    match (places, setting) {
        (Nest::Leaf((place, name)), metrics) => add(groups, *place, name.clone(), metrics),
        (Nest::List(places), Value::Array(settings)) if places.len() == settings.len() => places
            .iter()
            .zip(settings)
            .try_for_each(|(places, setting)| nested(argument, setting, places, groups)),
        (Nest::Dict(places), Value::Object(settings))
            if places.len() == settings.len()
                && places.keys().all(|key| settings.contains_key(key)) =>
        {
            places
                .iter()
                .try_for_each(|(key, places)| nested(argument, &settings[key], places, groups))
        }
        _ => Err(Error::InvalidConfig {
            place: argument.to_owned(),
            reason: format!(
                "{setting} has neither one entry for each output nor the structure of the outputs"
            ),
        }),
    }
}

/// One metric or a list of them for one output.
fn add<'a>(
    groups: &mut Vec<Group<'a>>,
    output: usize,
    name: String,
    metrics: &'a Value,
) -> Result<()> {
    let metrics = match metrics {
        Value::Null => return Ok(()),
        Value::Array(items) => items.iter().collect(),
        metric => vec![metric],
    };
    groups.push(Group {
        output,
        prefix: Some(name),
        metrics,
    });
    Ok(())
}

/// All metrics of a setting, in Keras's order.
fn flatten<'a>(setting: &'a Value, metrics: &mut Vec<&'a Value>) {
    match setting {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, metrics)),
        Value::Object(items) if !is_identifier(setting) => {
            let mut keys: Vec<_> = items.keys().collect();
            keys.sort();
            keys.into_iter()
                .for_each(|key| flatten(&items[key], metrics));
        }
        metric => metrics.push(metric),
    }
}

fn described(label: &LabelSpec) -> String {
    match label {
        LabelSpec::Class { shape, .. } => format!("class ids of shape {shape:?}"),
        LabelSpec::Values { shape } => format!("values of shape {shape:?}"),
        LabelSpec::Sequence { .. } => "sequences of class ids".to_owned(),
    }
}
