//! What training minimises and measures: the losses and metrics of every output, and the weights of
//! classes.

use crate::batch::Batch;
use crate::error::Error;
use flambeau_keras::losses::{CompileLoss, LabelSpec, LossValues, Nest, OutputSpec};
use flambeau_keras::metrics::CompileMetrics;
use flambeau_keras::{Model, Value};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Losses, metrics and class weights of a model.
#[derive(Debug)]
pub struct Objective {
    losses: CompileLoss,
    metrics: CompileMetrics,
    class_weights: Option<Tensor>,
    labels: Vec<Option<LabelSpec>>,
}

/// What a user asked for, in the structures that Keras's `compile` takes; null for nothing.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Losses.
    pub loss: Json,
    /// Weights of the outputs' losses.
    pub loss_weights: Json,
    /// Metrics that do not look at weights.
    pub metrics: Json,
    /// Metrics that do.
    pub weighted_metrics: Json,
    /// Weight of each class by its id.
    pub class_weight: BTreeMap<String, f64>,
}

impl Objective {
    /// Matches what was asked for with the model's outputs.
    ///
    /// # Errors
    /// [`Error::Keras`] names the loss or metric; [`Error::Config`] for class weights that do not
    /// fit.
    pub fn new(model: &Model, asked: &Asked) -> Result<Self, Error> {
        let outputs = outputs(model);
        let losses = CompileLoss::new(&asked.loss, &asked.loss_weights, &outputs)?;
        let metrics =
            CompileMetrics::new(&asked.metrics, &asked.weighted_metrics, &outputs, &losses)?;
        // An output without a loss may have a metric, whose labels it then needs.
        let measured = metrics.labels().into_iter();
        let labels: Vec<_> = losses
            .labels()
            .into_iter()
            .zip(measured)
            .map(|(loss, metric)| loss.or(metric))
            .collect();
        let class_weights = class_weights(&asked.class_weight, &labels)?;
        Ok(Self {
            losses,
            metrics,
            class_weights,
            labels,
        })
    }

    /// The labels beside each output; none where it has neither loss nor metric.
    pub fn labels(&self) -> &[Option<LabelSpec>] {
        &self.labels
    }

    /// Keras's `compile_config` of it, without the optimizer.
    pub fn compile_config(&self) -> Json {
        let [loss, loss_weights] = self.losses.config();
        let [metrics, weighted_metrics] = self.metrics.config();
        json!({
            "loss": loss, "loss_weights": loss_weights, "metrics": metrics,
            "weighted_metrics": weighted_metrics, "run_eagerly": false, "steps_per_execution": 1,
            "jit_compile": false,
        })
    }

    /// Number of [`Self::loss_sums`].
    pub fn loss_count(&self) -> usize {
        self.losses.sum_count()
    }

    /// Number of a batch's sums for the metrics.
    pub fn metric_count(&self) -> usize {
        self.metrics.state_len()
    }

    /// Names of the losses that are logged beside the total.
    pub fn loss_names(&self) -> Vec<String> {
        self.losses.names()
    }

    /// What this rank's rows add to the losses: float64, differentiable.
    ///
    /// # Errors
    /// [`Error::Keras`].
    pub fn loss_sums(&self, batch: &Batch, outputs: &[Value]) -> Result<Tensor, Error> {
        let weights = self.weights(batch)?;
        let weights: Vec<_> = outputs.iter().map(|_| weights.as_ref()).collect();
        let outputs: Vec<_> = outputs.iter().collect();
        Ok(self.losses.sums(&labels(batch), &outputs, &weights)?)
    }

    /// The losses over all ranks.
    pub fn loss_values(&self, sums: &[f64]) -> LossValues {
        self.losses.values(sums)
    }

    /// What this rank's rows add to the metrics.
    ///
    /// # Errors
    /// [`Error::Keras`].
    pub fn metric_sums(&self, batch: &Batch, outputs: &[Value]) -> Result<Vec<f64>, Error> {
        let _no_grad = tch::no_grad_guard();
        let weights = self.weights(batch)?;
        let weights: Vec<_> = outputs.iter().map(|_| weights.as_ref()).collect();
        let outputs: Vec<_> = outputs.iter().collect();
        let sums = self.metrics.update(&labels(batch), &outputs, &weights)?;
        Ok(Vec::try_from(sums)?)
    }

    /// The metrics over all that was added up, by Keras's names: numbers or lists.
    pub fn metric_values(&self, sums: &[f64]) -> Vec<(String, Json)> {
        let results = self.metrics.results(sums).into_iter();
        results.map(|(name, value)| (name, value.into())).collect()
    }

    /// The rows' weights, times those of their classes.
    fn weights(&self, batch: &Batch) -> Result<Option<Tensor>, Error> {
        let Some(table) = &self.class_weights else {
            return Ok(batch.weights.as_ref().map(Tensor::shallow_clone));
        };
        let Some(labels) = batch.labels.first().and_then(Option::as_ref) else {
            return Ok(None);
        };
        // Keras's `class_weight_to_sample_weights`: one-hot labels are their class.
        let one_hot = labels.dim() > 1 && labels.size().last().is_some_and(|&width| width > 1);
        let ids = if one_hot && labels.is_floating_point() {
            labels.f_argmax(-1, false)?
        } else {
            labels.f_round()?.f_to_kind(Kind::Int64)?.f_reshape([-1])?
        };
        let table = table.f_to_device(ids.device())?;
        let known = ids.f_clamp(0, table.size1()? - 1)?;
        let inside = known.f_eq_tensor(&ids)?;
        let ones = Tensor::f_ones_like(&table.f_index_select(0, &known)?)?;
        Ok(Some(
            table
                .f_index_select(0, &known)?
                .f_where_self(&inside, &ones)?,
        ))
    }
}

/// The model's outputs as losses know them. Sizes that only data tell are -1.
fn outputs(model: &Model) -> Nest<OutputSpec> {
    let specs = model.outputs().iter().map(|output| OutputSpec {
        name: output.name.clone(),
        shape: output
            .spec
            .dims
            .iter()
            .skip(1)
            .map(|dim| dim.unwrap_or(-1))
            .collect(),
        label: None,
    });
    let mut specs: Vec<_> = specs.map(Nest::Leaf).collect();
    if specs.len() == 1 {
        return specs.swap_remove(0);
    }
    Nest::List(specs)
}

fn labels(batch: &Batch) -> Vec<Option<&Tensor>> {
    batch.labels.iter().map(Option::as_ref).collect()
}

/// Weights by class id; classes that are not named weigh 1.
fn class_weights(
    weights: &BTreeMap<String, f64>,
    labels: &[Option<LabelSpec>],
) -> Result<Option<Tensor>, Error> {
    if weights.is_empty() {
        return Ok(None);
    }
    let wrong = |reason: &str| Error::Config(format!("classWeight: {reason}"));
    let [Some(LabelSpec::Class { .. } | LabelSpec::Values { .. })] = labels else {
        return Err(wrong(
            "it is for a model with one output and labels that are classes",
        ));
    };
    let mut table = Vec::new();
    for (class, &weight) in weights {
        let id: usize = class.parse().map_err(|_| {
            wrong(&format!(
                "'{class}' is no class id: give whole numbers from 0 on"
            ))
        })?;
        if id >= 1 << 20 {
            return Err(wrong(&format!("class id {id} is too large")));
        }
        if table.len() <= id {
            table.resize(id + 1, 1.0_f32);
        }
        #[expect(clippy::cast_possible_truncation, reason = "Keras computes in float32")]
        let weight = weight as f32;
        table[id] = weight;
    }
    Ok(Some(Tensor::f_from_slice(&table)?))
}
