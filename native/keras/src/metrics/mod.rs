//! Keras's metrics. A metric's state is sums over rows, so ranks can add theirs up: the result over
//! the sums of all ranks is Keras's on the union of their rows.

mod accumulator;
mod accuracy;
mod auc;
mod compile;
mod confusion;
mod correlation;
mod fbeta;
mod iou;
mod mean;
mod r2;
mod registry;
mod thresholds;
mod value;

use serde_json::{Map, Value, json};
use tch::Tensor;

pub use self::compile::CompileMetrics;
pub use self::value::MetricValue;

use self::accumulator::{Accumulator, Batch};
use self::registry::{Class, FunctionMetric};
use crate::error::{Error, Result};
use crate::losses::arguments::{Arguments, nullable};
use crate::losses::identifier::{self, Identifier};
use crate::losses::{LabelSpec, is_sparse};
use crate::value::Value as Output;

/// Arguments that every metric has.
const COMMON: [&str; 2] = ["name", "dtype"];

/// A Keras metric of one output. The caller holds the state: it starts as zeros, and what batches
/// of all ranks and steps give is added to it.
#[derive(Debug)]
pub struct Metric {
    name: String,
    accumulator: Box<dyn Accumulator>,
    config: Value,
}

impl Metric {
    /// A metric from a name such as `"accuracy"` or from Keras's serialization (Keras 3 or 2), for
    /// an output of `output_shape` and, where known, labels of `label_shape` (both without the
    /// batch), by which Keras decides what `"accuracy"` is.
    pub fn from_config(
        value: &Value,
        label_shape: Option<&[i64]>,
        output_shape: &[i64],
    ) -> Result<Self> {
        match Identifier::read(value, "metric")? {
            Identifier::Name(name) => {
                let class = if is_accuracy(name) {
                    let class = accuracy(name, label_shape, output_shape)?;
                    Class::by_name(class)
                } else {
                    Class::by_string(name)
                };
                let class = class.ok_or_else(|| unknown(name))?;
                let arguments = Arguments::new(place(class.name), class.arguments, &COMMON, None)?;
                Ok(Self {
                    name: name.to_owned(),
                    accumulator: class.accumulator(&arguments, output_shape)?,
                    config: name.into(),
                })
            }
            Identifier::Function(name) => {
                let function = FunctionMetric::by_name(name).ok_or_else(|| unknown(name))?;
                let known = function.arguments();
                let arguments = Arguments::new(place(name), known, &COMMON, None)?;
                Ok(Self {
                    name: name.to_owned(),
                    accumulator: function.accumulator(&arguments, output_shape)?,
                    config: identifier::function(name),
                })
            }
            Identifier::Object {
                module: Some("keras.losses"),
                class,
                ..
            } => Err(Error::Unsupported {
                place: "metric".to_owned(),
                what: format!("the loss object {class}, whose mean over batches it would be,"),
                supported: "keras.metrics, which are sums over rows".to_owned(),
            }),
            Identifier::Object {
                class: "MeanMetricWrapper",
                config,
                ..
            } => Self::wrapper(config, output_shape),
            Identifier::Object { class, config, .. } => Self::object(class, config, output_shape),
        }
    }

    fn object(
        class: &str,
        given: Option<&Map<String, Value>>,
        output_shape: &[i64],
    ) -> Result<Self> {
        let class = Class::by_name(class).ok_or_else(|| unknown(class))?;
        let arguments = Arguments::new(place(class.name), class.arguments, &COMMON, given)?;
        let name = name(&arguments, class.default_name)?;
        let accumulator = class.accumulator(&arguments, output_shape)?;
        let default = if class.name.ends_with("IoU") {
            "int64"
        } else {
            "float32"
        };
        let mut config = common(&name, &arguments, default)?;
        config.extend(arguments.config()?);
        if let Some(adjust) = class.adjust {
            adjust(&arguments, &mut config)?;
        }
        Ok(Self {
            name,
            accumulator,
            config: identifier::object("keras.metrics", class.name, config),
        })
    }

    /// `MeanMetricWrapper`, which holds a function and its arguments.
    fn wrapper(given: Option<&Map<String, Value>>, output_shape: &[i64]) -> Result<Self> {
        const WRAPPER: &str = "MeanMetricWrapper";
        let wrapped = given.and_then(|given| given.get("fn"));
        let wrapped = wrapped.ok_or_else(|| Error::InvalidConfig {
            place: place(WRAPPER),
            reason: "fn is missing".to_owned(),
        })?;
        let Identifier::Function(function_name) = Identifier::read(wrapped, &place(WRAPPER))?
        else {
            return Err(Error::Unsupported {
                place: place(WRAPPER),
                what: format!("fn = {wrapped}"),
                supported: "functions of keras.losses and keras.metrics".to_owned(),
            });
        };
        let function = FunctionMetric::by_name(function_name);
        let function = function.ok_or_else(|| unknown(function_name))?;
        let common_arguments = ["name", "dtype", "fn"];
        let place = format!("{} of {function_name}", place(WRAPPER));
        let arguments = Arguments::new(place, function.arguments(), &common_arguments, given)?;
        let name = name(&arguments, "mean_metric_wrapper")?;
        let accumulator = function.accumulator(&arguments, output_shape)?;
        let mut config = common(&name, &arguments, "float32")?;
        config.insert("fn".to_owned(), identifier::function(function_name));
        let rest = given.into_iter().flatten();
        let rest = rest.filter(|(key, _)| !common_arguments.contains(&key.as_str()));
        config.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
        Ok(Self {
            name,
            accumulator,
            config: identifier::object("keras.metrics", WRAPPER, config),
        })
    }

    /// Keras's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What Keras would write for it into a `compile_config`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The labels that it compares with.
    pub fn label(&self) -> LabelSpec {
        self.accumulator.label()
    }

    /// Number of sums in the state.
    pub fn state_len(&self) -> usize {
        self.accumulator.state_len()
    }

    /// What a batch adds to the state: float64, `[state_len]`. `y_true` is what the loss was given,
    /// and so are the weights for Keras's `weighted_metrics`; its `metrics` have none.
    pub fn update(
        &self,
        y_true: &Tensor,
        output: &Output,
        sample_weight: Option<&Tensor>,
    ) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let size = output.size();
        let batch = Batch::new(y_true, output, &size, sample_weight, &self.name);
        self.accumulator.update(&batch)
    }

    /// The value over all that was added to `state`.
    pub fn result(&self, state: &[f64]) -> MetricValue {
        self.accumulator.result(state)
    }
}

/// Whether a string stands for the accuracy that fits the shapes.
fn is_accuracy(name: &str) -> bool {
    matches!(name.to_lowercase().as_str(), "accuracy" | "acc")
}

/// What Keras takes "accuracy" for: an output of width 1 is binary, labels without the output's
/// last axis are class ids, all else is one-hot.
fn accuracy(name: &str, label_shape: Option<&[i64]>, output_shape: &[i64]) -> Result<&'static str> {
    match (output_shape.last(), label_shape) {
        (None | Some(1), _) => Ok("BinaryAccuracy"),
        (_, Some(label)) if is_sparse(label, output_shape) => Ok("SparseCategoricalAccuracy"),
        (_, Some(_)) => Ok("CategoricalAccuracy"),
        (_, None) => Err(Error::InvalidConfig {
            place: "metric".to_owned(),
            reason: format!(
                "which one \"{name}\" stands for depends on the labels' shape, and this output \
                 has no loss to tell; name it, such as \"categorical_accuracy\""
            ),
        }),
    }
}

fn place(class: &str) -> String {
    format!("metric {class}")
}

fn name(arguments: &Arguments<'_>, default: &str) -> Result<String> {
    let given = arguments.read("name", "a string or null", |value| {
        nullable(value, |value| value.as_str().map(str::to_owned))
    })?;
    Ok(given.unwrap_or_else(|| default.to_owned()))
}

/// The arguments of all metrics, as Keras writes them.
fn common(
    name: &str,
    arguments: &Arguments<'_>,
    default_dtype: &str,
) -> Result<Map<String, Value>> {
    let dtype = match arguments.value("dtype")? {
        Value::Null => default_dtype.into(),
        Value::String(int) if int == "int" => "int64".into(),
        policy @ Value::Object(_) => policy.pointer("/config/name").cloned().unwrap_or(policy),
        dtype => dtype,
    };
    let config = json!({"name": name, "dtype": dtype});
    Ok(config.as_object().cloned().unwrap_or_default())
}

fn unknown(name: &str) -> Error {
    Error::Unsupported {
        place: "metric".to_owned(),
        what: name.to_owned(),
        supported: std::iter::once("accuracy")
            .chain(Class::names().filter(|name| !matches!(*name, "Mean" | "Sum")))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
