//! Keras's losses as on TensorFlow, exact over the rows of several ranks.
//!
//! Every rank reduces its own rows to a few sums ([`Loss::sums`]). The sums of all ranks together
//! give the loss that Keras has on the union of their rows ([`Loss::outcome`]), and the slopes by
//! which each rank's sums enter it, so that the ranks' gradients add up to Keras's:
//!
//! ```text
//! sums (differentiable) -> allreduce of their values -> outcome -> backward of slopes x sums
//! ```
//!
//! Most losses have two sums, of weighted values and of what divides them, which a mask, an ignored
//! class or the weights may change.

pub(crate) mod arguments;
mod circle;
mod compile;
pub(crate) mod crossentropy;
pub(crate) mod ctc;
mod focal;
pub(crate) mod function;
pub(crate) mod hinge;
pub(crate) mod identifier;
pub(crate) mod label;
mod nest;
mod overlap;
pub(crate) mod prediction;
pub(crate) mod reduction;
pub(crate) mod registry;
pub(crate) mod regression;

use serde_json::{Map, Value};
use tch::{Kind, Tensor};

pub use self::compile::{CompileLoss, LossValues};
pub use self::function::Outcome;
pub use self::label::LabelSpec;
pub use self::nest::{Nest, OutputSpec};

use self::arguments::Arguments;
use self::function::Function;
use self::identifier::Identifier;
use self::reduction::{Reduction, Weighing};
use self::registry::{Class, UNNAMED};
use crate::error::{Error, Result};
use crate::value::Value as Output;

/// Arguments that every loss has.
const COMMON: [&str; 3] = ["name", "reduction", "dtype"];

/// A Keras loss of one output.
#[derive(Debug)]
pub struct Loss {
    name: String,
    function: Box<dyn Function>,
    reduction: Reduction,
    /// What it is computed in.
    kind: Kind,
    config: Value,
}

impl Loss {
    /// A loss from a name such as `"mse"` or from Keras's serialization (Keras 3 or 2).
    pub fn from_config(value: &Value) -> Result<Self> {
        match Identifier::read(value, "loss")? {
            Identifier::Name(name) if is_crossentropy(name) => Err(Error::InvalidConfig {
                place: "loss".to_owned(),
                reason: format!(
                    "which one \"{name}\" stands for depends on the labels' shape; name it, such \
                     as \"sparse_categorical_crossentropy\""
                ),
            }),
            Identifier::Name(name) => Self::from_name(name),
            Identifier::Function(name) => {
                let class = Class::by_function(name).ok_or_else(|| unknown(name))?;
                let config = identifier::function(name);
                Self::build(class, name.to_owned(), None, |_| Ok(config))
            }
            Identifier::Object {
                module: Some("keras.metrics"),
                class,
                ..
            } => Err(unknown(&format!("keras.metrics.{class}"))),
            Identifier::Object { class, config, .. } => {
                let class = Class::by_name(class).ok_or_else(|| unknown(class))?;
                let name = class.default_name.to_owned();
                Self::build(class, name, config, |arguments| {
                    object_config(class, arguments)
                })
            }
        }
    }

    /// As [`Self::from_config`] for labels of `label_shape` beside an output of `output_shape`
    /// (both without the batch), by which Keras decides what `"crossentropy"` is.
    pub fn for_shapes(
        value: &Value,
        label_shape: Option<&[i64]>,
        output_shape: &[i64],
    ) -> Result<Self> {
        let name = value.as_str().filter(|name| is_crossentropy(name));
        let function = match (name, label_shape) {
            (None, _) => return Self::from_config(value),
            (Some(_), _) if output_shape.last() == Some(&1) => "binary_crossentropy",
            (Some(_), None) => return Self::from_config(value),
            (Some(_), Some(label)) if is_sparse(label, output_shape) => {
                "sparse_categorical_crossentropy"
            }
            (Some(_), Some(_)) => "categorical_crossentropy",
        };
        let mut loss = Self::from_name(function)?;
        if let Some(name) = name {
            name.clone_into(&mut loss.name);
            loss.config = name.into();
        }
        Ok(loss)
    }

    /// A string is a function, an alias of one, or a class, whose object then has its own name.
    fn from_name(name: &str) -> Result<Self> {
        let config = Value::from(name);
        if let Some(class) = Class::by_function(name).or_else(|| Class::by_alias(name)) {
            return Self::build(class, name.to_owned(), None, |_| Ok(config));
        }
        let class = Class::by_name(name).ok_or_else(|| unknown(name))?;
        Self::build(class, class.default_name.to_owned(), None, |arguments| {
            if class.name == UNNAMED {
                object_config(class, arguments)
            } else {
                Ok(config)
            }
        })
    }

    fn build(
        class: &'static Class,
        name: String,
        given: Option<&Map<String, Value>>,
        config: impl FnOnce(&Arguments<'_>) -> Result<Value>,
    ) -> Result<Self> {
        let place = format!("loss {}", class.name);
        let arguments = Arguments::new(place, class.arguments, &COMMON, given)?;
        let named = arguments.read("name", "a string or null", |value| {
            arguments::nullable(value, |value| value.as_str().map(str::to_owned))
        })?;
        Ok(Self {
            name: named.unwrap_or(name),
            function: (class.build)(&arguments)?,
            reduction: Reduction::read(&arguments)?,
            kind: arguments.kind()?,
            config: config(&arguments)?,
        })
    }

    /// Keras's name of the loss.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What Keras would write for it into a `compile_config`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The labels wanted beside outputs of `output_shape` (without the batch).
    pub fn label(&self, output_shape: &[i64]) -> LabelSpec {
        self.function.label(output_shape)
    }

    /// Whether it compares every row of a batch with all others. Its sums are then those of Keras
    /// only where one rank has the whole batch.
    pub fn compares_rows(&self) -> bool {
        self.function.compares_rows()
    }

    /// Whether the reduction is none: then Keras minimises the sum of the values and logs their
    /// mean, and allows neither regularizers nor losses of other shapes beside it.
    pub fn is_unreduced(&self) -> bool {
        self.reduction == Reduction::None
    }

    /// Number of [`Self::sums`] for outputs of `output_shape` (without the batch).
    pub fn sum_count(&self, output_shape: &[i64]) -> usize {
        let batchwise = self.function.batchwise();
        batchwise.map_or(2, |function| function.sum_count(output_shape))
    }

    /// What the rows of one rank add to the loss: float64, `[sum_count]`, differentiable; no rows
    /// add zeros. `y_true` has one row per output row and the shape of [`Self::label`], give or
    /// take a last axis of 1. `sample_weight` has the shape that Keras takes: one for each row, or
    /// for each step of outputs that have several. Class ids out of range are an error of libtorch
    /// without a row: check them where labels are read.
    pub fn sums(
        &self,
        y_true: &Tensor,
        output: &Output,
        sample_weight: Option<&Tensor>,
    ) -> Result<Tensor> {
        let size = output.size();
        let label = self.label(size.get(1..).unwrap_or_default());
        let (y_true, y) = label.fit(y_true, output, self.kind, &self.name)?;
        let weighing = Weighing {
            reduction: self.reduction,
            sample_weight,
            mask: output.mask(),
            place: &self.name,
        };
        match self.function.batchwise() {
            Some(function) => function.sums(&y_true, &y, &weighing),
            None => weighing.sums(&self.function.elements(&y_true, &y)?),
        }
    }

    /// The loss over all ranks, given the sums of theirs.
    pub fn outcome(&self, totals: &[f64]) -> Outcome {
        match (self.function.batchwise(), totals) {
            (Some(function), totals) => function.outcome(totals, self.reduction),
            (None, &[sum, divisor]) => self.reduction.outcome(sum, divisor),
            (None, _) => Outcome::default(),
        }
    }
}

/// What Keras calls sparse labels: those that lack the output's last axis or have it as 1.
pub(crate) fn is_sparse(label_shape: &[i64], output_shape: &[i64]) -> bool {
    label_shape.len() < output_shape.len()
        || label_shape.last() == Some(&1) && output_shape.last().is_some_and(|&width| width > 1)
}

fn is_crossentropy(name: &str) -> bool {
    matches!(name.to_lowercase().as_str(), "crossentropy" | "ce")
}

fn object_config(class: &Class, arguments: &Arguments<'_>) -> Result<Value> {
    let mut config = Map::new();
    let name = arguments.value("name")?;
    let name = if name.is_null() {
        class.default_name.into()
    } else {
        name
    };
    config.insert("name".to_owned(), name);
    let reduction = match arguments.value("reduction")? {
        // Keras 2's word, or nothing.
        Value::String(auto) if auto == "auto" => "sum_over_batch_size".into(),
        Value::Null if !arguments.is_given("reduction") => "sum_over_batch_size".into(),
        reduction => reduction,
    };
    config.insert("reduction".to_owned(), reduction);
    if arguments.is_given("dtype") {
        config.insert("dtype".to_owned(), arguments.value("dtype")?);
    }
    config.extend(arguments.config()?);
    Ok(identifier::object("keras.losses", class.name, config))
}

fn unknown(name: &str) -> Error {
    Error::Unsupported {
        place: "loss".to_owned(),
        what: name.to_owned(),
        supported: Class::names().collect::<Vec<_>>().join(", "),
    }
}
