//! Losses and metrics of given outputs: `score CASE`.
//!
//! The folder CASE holds `cases.json` and `tensors.safetensors`. A case has a `kind`:
//!
//! * `loss`: `config`, `activation` and `parts`, the rows of each rank; the tensors `i/x` (before the
//!   activation), `i/y_true` and, if there are any, `i/weights` and `i/mask`. Given are `i/value`
//!   over all ranks and `i/gradient` for x.
//! * `metric`: the same, the parts being batches. Given is `i/value`, a vector or a number.
//! * `compile`: `loss`, `loss_weights`, `metrics`, `weighted_metrics` and `outputs`, a nest of
//!   `{"name", "shape", "label"}`; the tensors are `i/o/x` and so on for output o. Given are
//!   `i/value`, the losses of [total, parts..], `i/o/gradient` and `i/metrics/KEY`.
//!
//! `results.json` has for every case its `error`, or the `config` that Keras would write, and the
//! names of losses and metrics. Numbers are in `scores.safetensors`.

use std::error::Error;
use std::path::Path;

use flambeau_keras::activations::Activation;
use flambeau_keras::losses::{Nest, OutputSpec};
use flambeau_keras::metrics::MetricValue;
use flambeau_keras::{CompileLoss, CompileMetrics, Loss, Metric, Value as Output};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

type Named = Vec<(String, Tensor)>;
type Failure = Box<dyn Error>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    kind: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    activation: Option<String>,
    #[serde(default)]
    parts: Vec<i64>,
    #[serde(default)]
    loss: Value,
    #[serde(default)]
    loss_weights: Value,
    #[serde(default)]
    metrics: Value,
    #[serde(default)]
    weighted_metrics: Value,
    #[serde(default)]
    outputs: Value,
}

/// The tensors of one output.
struct Given<'a> {
    x: &'a Tensor,
    y_true: Option<&'a Tensor>,
    weights: Option<&'a Tensor>,
    mask: Option<&'a Tensor>,
    activation: Option<&'a str>,
}

/// Those of some rows.
struct Rows {
    x: Tensor,
    y_true: Option<Tensor>,
    weights: Option<Tensor>,
    output: Output,
}

fn main() -> Result<(), Failure> {
    flambeau_libtorch::set_up();
    tch::set_num_threads(1);
    let folder = std::env::args_os().nth(1).ok_or("usage: score CASE")?;
    let folder = Path::new(&folder);
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    let tensors = Tensor::read_safetensors(folder.join("tensors.safetensors"))?;
    let tensors: std::collections::HashMap<_, _> = tensors.into_iter().collect();
    let (mut results, mut scores) = (Vec::new(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        let given = |prefix: &str| -> Result<Given<'_>, Failure> {
            let tensor = |name: &str| tensors.get(&format!("{index}/{prefix}{name}"));
            Ok(Given {
                x: tensor("x").ok_or(format!("case {index} has no tensor x"))?,
                y_true: tensor("y_true"),
                weights: tensor("weights"),
                mask: tensor("mask"),
                activation: case.activation.as_deref(),
            })
        };
        let scored = match case.kind.as_str() {
            "loss" => loss(case, &given("")?),
            "metric" => metric(case, &given("")?),
            "compile" => compile(case, &|output| given(&format!("{output}/"))),
            kind => return Err(format!("unknown kind {kind}").into()),
        };
        match scored {
            Ok((result, named)) => {
                results.push(result);
                let named = named.into_iter();
                scores.extend(named.map(|(name, tensor)| (format!("{index}/{name}"), tensor)));
            }
            Err(error) => results.push(json!({"error": error.to_string()})),
        }
    }
    std::fs::write(folder.join("results.json"), serde_json::to_vec(&results)?)?;
    Tensor::write_safetensors(&scores, folder.join("scores.safetensors"))?;
    Ok(())
}

impl Given<'_> {
    /// Rows `from..from + count`, x as a leaf of its own graph.
    fn rows(&self, from: i64, count: i64) -> Rows {
        let part = |tensor: &Tensor| tensor.narrow(0, from, count).copy();
        let x = part(self.x).set_requires_grad(true);
        let raw = x.shallow_clone();
        let output = match self.activation {
            Some("softmax") => Output::from_logits(raw, Activation::Softmax(-1)),
            Some("sigmoid") => Output::from_logits(raw, Activation::Sigmoid),
            _ => Output::new(raw),
        };
        let mask = self.mask.map(|mask| part(mask).to_kind(Kind::Bool));
        Rows {
            x,
            y_true: self.y_true.map(part),
            weights: self.weights.map(part),
            output: output.with_mask(mask),
        }
    }

    fn output_shape(&self) -> Vec<i64> {
        self.x.size()[1..].to_vec()
    }

    fn label_shape(&self) -> Option<Vec<i64>> {
        self.y_true.map(|labels| labels.size()[1..].to_vec())
    }
}

/// Where each part of `parts` rows begins.
fn starts(parts: &[i64]) -> impl Iterator<Item = (i64, i64)> + '_ {
    parts.iter().scan(0, |next, &count| {
        let from = *next;
        *next += count;
        Some((from, count))
    })
}

fn loss(case: &Case, given: &Given<'_>) -> Result<(Value, Named), Failure> {
    let shape = given.output_shape();
    let loss = Loss::for_shapes(&case.config, given.label_shape().as_deref(), &shape)?;
    let count = loss.sum_count(&shape);
    let mut totals = vec![0.0; count];
    let mut ranks = Vec::new();
    for (from, rows) in starts(&case.parts) {
        let rows = given.rows(from, rows);
        let y_true = rows.y_true.as_ref().ok_or("no labels")?;
        let sums = loss.sums(y_true, &rows.output, rows.weights.as_ref())?;
        add(&mut totals, &sums)?;
        ranks.push((sums, rows.x));
    }
    let outcome = loss.outcome(&totals);
    let gradients = gradients(&ranks, &outcome.slopes)?;
    let named = vec![
        ("value".to_owned(), Tensor::from_slice(&[outcome.value])),
        ("gradient".to_owned(), gradients),
    ];
    Ok((
        json!({"config": loss.config(), "names": [loss.name()]}),
        named,
    ))
}

/// Adds the sums of a rank to those of the others.
fn add(totals: &mut [f64], sums: &Tensor) -> Result<(), Failure> {
    let sums = Vec::<f64>::try_from(sums.detach())?;
    if sums.len() != totals.len() {
        return Err(format!("{} sums, expected {}", sums.len(), totals.len()).into());
    }
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total += sum;
    }
    Ok(())
}

/// The gradients of all ranks for their own rows.
fn gradients(ranks: &[(Tensor, Tensor)], slopes: &[f64]) -> Result<Tensor, Failure> {
    let slopes = Tensor::from_slice(slopes);
    let gradients = ranks.iter().map(|(sums, x)| {
        let minimised = (sums * &slopes).sum(Kind::Double);
        let gradient = Tensor::f_run_backward(&[minimised], &[x], true, false)?;
        Ok(gradient[0].shallow_clone())
    });
    Ok(Tensor::cat(
        &gradients.collect::<Result<Vec<_>, Failure>>()?,
        0,
    ))
}

fn metric(case: &Case, given: &Given<'_>) -> Result<(Value, Named), Failure> {
    let shape = given.output_shape();
    let metric = Metric::from_config(&case.config, given.label_shape().as_deref(), &shape)?;
    let mut state = vec![0.0; metric.state_len()];
    for (from, rows) in starts(&case.parts) {
        let rows = given.rows(from, rows);
        let y_true = rows.y_true.as_ref().ok_or("no labels")?;
        add(
            &mut state,
            &metric.update(y_true, &rows.output, rows.weights.as_ref())?,
        )?;
    }
    let named = vec![("value".to_owned(), number(metric.result(&state)))];
    Ok((
        json!({"config": metric.config(), "names": [metric.name()]}),
        named,
    ))
}

fn number(value: MetricValue) -> Tensor {
    match value {
        MetricValue::Scalar(value) => Tensor::from(value),
        MetricValue::Vector(values) => Tensor::from_slice(&values),
    }
}

fn compile<'a>(
    case: &Case,
    given: &dyn Fn(usize) -> Result<Given<'a>, Failure>,
) -> Result<(Value, Named), Failure> {
    let outputs = nest(&case.outputs)?;
    let losses = CompileLoss::new(&case.loss, &case.loss_weights, &outputs)?;
    let metrics = CompileMetrics::new(&case.metrics, &case.weighted_metrics, &outputs, &losses)?;
    let count = outputs.leaves().len();
    let mut totals = vec![0.0; losses.sum_count()];
    let mut state = vec![0.0; metrics.state_len()];
    let mut ranks = Vec::new();
    for (from, rows) in starts(&case.parts) {
        let rows = (0..count).map(|output| Ok(given(output)?.rows(from, rows)));
        let rows = rows.collect::<Result<Vec<_>, Failure>>()?;
        let y_true: Vec<_> = rows.iter().map(|rows| rows.y_true.as_ref()).collect();
        let weights: Vec<_> = rows.iter().map(|rows| rows.weights.as_ref()).collect();
        let values: Vec<_> = rows.iter().map(|rows| &rows.output).collect();
        let sums = losses.sums(&y_true, &values, &weights)?;
        add(&mut totals, &sums)?;
        add(&mut state, &metrics.update(&y_true, &values, &weights)?)?;
        drop((y_true, weights, values));
        ranks.push((sums, rows));
    }
    let values = losses.values(&totals);
    let mut named = vec![(
        "value".to_owned(),
        Tensor::from_slice(&[&[values.total], &values.parts[..]].concat()),
    )];
    let slopes = Tensor::from_slice(&values.slopes);
    for (sums, rows) in &ranks {
        (sums * &slopes).sum(Kind::Double).backward();
        for rows in rows {
            if !rows.x.grad().defined() {
                (&rows.x * 0.0).sum(Kind::Float).backward();
            }
        }
    }
    for output in 0..count {
        let gradients: Vec<_> = ranks
            .iter()
            .map(|(_, rows)| rows[output].x.grad())
            .collect();
        named.push((format!("{output}/gradient"), Tensor::cat(&gradients, 0)));
    }
    let results = metrics.results(&state);
    let keys: Vec<_> = results.iter().map(|(key, _)| key.clone()).collect();
    let results = results.into_iter();
    named.extend(results.map(|(key, value)| (format!("metrics/{key}"), number(value))));
    let [loss, loss_weights] = losses.config();
    let [plain, weighted] = metrics.config();
    let result = json!({
        "names": losses.names(),
        "metrics": keys,
        "config": {"loss": loss, "loss_weights": loss_weights, "metrics": plain,
            "weighted_metrics": weighted},
    });
    Ok((result, named))
}

/// A nest from JSON, in which what has a `shape` is an output.
fn nest(value: &Value) -> Result<Nest<OutputSpec>, Failure> {
    Ok(match value {
        Value::Array(items) => Nest::List(items.iter().map(nest).collect::<Result<_, _>>()?),
        Value::Object(items) if !items.contains_key("shape") => {
            let items = items
                .iter()
                .map(|(key, item)| Ok((key.clone(), nest(item)?)));
            Nest::Dict(items.collect::<Result<_, Failure>>()?)
        }
        output => Nest::Leaf(OutputSpec {
            name: output["name"].as_str().ok_or("no name")?.to_owned(),
            shape: serde_json::from_value(output["shape"].clone())?,
            label: serde_json::from_value(output["label"].clone())?,
        }),
    })
}
