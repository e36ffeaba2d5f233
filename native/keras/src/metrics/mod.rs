//! Keras's metrics. A metric's state is a few sums, so ranks can add theirs up.
//!
//! A further class is one file and one line in [`CLASSES`]; every loss is a metric too.

mod accuracy;
mod mean;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use serde_json::Value;
use tch::Tensor;

use self::mean::Mean;
use crate::config::{Named, Options};
use crate::error::{Error, Result};
use crate::losses::{Class as LossClass, LabelSpec, Loss};
use crate::output::Output;

/// A Keras metric. The caller holds the state: it starts as zeros, and batches of all ranks and
/// steps are added to it.
pub trait Metric: Debug + Send {
    /// Keras's name, the key in logs.
    fn name(&self) -> &str;

    /// Number of sums in the state.
    fn state_len(&self) -> usize;

    /// What one batch adds to the state: `[state_len]`, f32. `y_true` is what the loss was given.
    fn update(&self, y_true: &Tensor, output: &Output) -> Result<Tensor>;

    /// The metric's value over all that was added to `state`; 0 before anything was.
    fn result(&self, state: &[f64]) -> f64;
}

/// The labels that a metric compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Labels {
    ClassIds,
    Values,
}

impl Labels {
    fn of(loss: &Loss) -> Self {
        match loss.label(&[]) {
            LabelSpec::Class { .. } => Self::ClassIds,
            LabelSpec::Values { .. } => Self::Values,
        }
    }
}

/// A class of `keras.metrics` that is no loss.
#[derive(Debug)]
struct Class {
    name: &'static str,
    function: &'static str,
    labels: Labels,
    build: fn(&Options<'_>, String) -> Result<Box<dyn Metric>>,
}

const CLASSES: [Class; 4] = [
    Class {
        name: "SparseCategoricalAccuracy",
        function: "sparse_categorical_accuracy",
        labels: Labels::ClassIds,
        build: |_, name| Ok(Mean::boxed(name, accuracy::SparseCategorical)),
    },
    Class {
        name: "CategoricalAccuracy",
        function: "categorical_accuracy",
        labels: Labels::Values,
        build: |_, name| Ok(Mean::boxed(name, accuracy::Categorical)),
    },
    Class {
        name: "BinaryAccuracy",
        function: "binary_accuracy",
        labels: Labels::Values,
        build: |options, name| Ok(Mean::boxed(name, accuracy::Binary::from_options(options)?)),
    },
    Class {
        name: "SparseTopKCategoricalAccuracy",
        function: "sparse_top_k_categorical_accuracy",
        labels: Labels::ClassIds,
        build: |options, name| {
            Ok(Mean::boxed(
                name,
                accuracy::SparseTopK::from_options(options)?,
            ))
        },
    },
];

/// A metric from a name such as `"accuracy"` or from Keras's serialization (Keras 3 or 2), for a
/// model of `output_shape` (without the batch) with `loss`. `"accuracy"` is resolved by shapes.
pub fn from_config(value: &Value, loss: &Loss, output_shape: &[i64]) -> Result<Box<dyn Metric>> {
    let named = Named::from_value(value, "metric")?;
    let given = value.as_str();
    let class = match given.map(str::to_lowercase).as_deref() {
        Some("accuracy" | "acc") => accuracy_class(loss, output_shape),
        _ => named.class.as_str(),
    };
    let options = Options::new(format!("metric {class}"), &named.config);
    let (labels, metric) = if let Some(class) = find(class) {
        let name = options
            .str("name", given.unwrap_or(class.function))?
            .to_owned();
        let metric = (class.build)(&options, name)?;
        options.choice("dtype", "float32", &["float32"])?;
        options.finish()?;
        (class.labels, metric)
    } else if let Some(class) = LossClass::find(class) {
        let name = options
            .str("name", given.unwrap_or(class.function))?
            .to_owned();
        let metric = Loss::from_options(class, name.clone(), options)?;
        (Labels::of(&metric), Mean::boxed(name, metric))
    } else {
        return Err(Error::Unsupported {
            place: "metric".into(),
            what: class.into(),
            supported: supported(),
        });
    };
    if labels != Labels::of(loss) {
        return Err(mismatch(metric.name(), labels, loss));
    }
    Ok(metric)
}

/// What Keras takes "accuracy" for: an output of width 1 is binary, labels without the output's
/// last axis are class ids, all else is one-hot.
fn accuracy_class(loss: &Loss, output_shape: &[i64]) -> &'static str {
    match (output_shape.last(), Labels::of(loss)) {
        (Some(1), _) => "BinaryAccuracy",
        (_, Labels::ClassIds) => "SparseCategoricalAccuracy",
        (_, Labels::Values) => "CategoricalAccuracy",
    }
}

fn find(name: &str) -> Option<&'static Class> {
    CLASSES
        .iter()
        .find(|class| class.name == name || class.function == name)
}

fn supported() -> String {
    let functions = CLASSES
        .iter()
        .map(|class| class.function)
        .chain(LossClass::functions());
    std::iter::once("accuracy")
        .chain(functions)
        .collect::<Vec<_>>()
        .join(", ")
}

fn mismatch(metric: &str, labels: Labels, loss: &Loss) -> Error {
    let (wants, gives) = match labels {
        Labels::ClassIds => ("class ids", "values of the output's shape"),
        Labels::Values => ("values of the output's shape", "class ids"),
    };
    Error::InvalidConfig {
        place: format!("metric {metric}"),
        reason: format!(
            "it compares with {wants}, but loss {} takes {gives}; use \"accuracy\" or a metric \
             for such labels",
            loss.name()
        ),
    }
}
