//! Keras's losses as on TensorFlow: which labels each wants, and the loss of every row.
//!
//! A further class is one [`Rule`] in a file of its family and one line in [`CLASSES`].

mod crossentropy;
mod regression;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::config::{Named, Options};
use crate::error::{Error, Result};
use crate::output::Output;

/// What one loss class computes.
pub(crate) trait Rule: Debug + Send + Sync {
    /// The labels that go with outputs of `output_shape` (without the batch).
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        LabelSpec::Values {
            shape: output_shape.to_vec(),
        }
    }

    /// The loss of every element but those of the last axis, which Keras reduces itself. The
    /// labels have the kind and the shape that [`LabelSpec`] asks for.
    fn values(&self, y_true: &Tensor, output: &Output) -> Result<Tensor>;
}

/// The labels that a loss wants beside an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSpec {
    /// One class id in `0..classes` (int64), for each position of the output without its last
    /// axis: a single number for the usual output of shape `[classes]`.
    Class {
        /// Number of classes.
        classes: i64,
    },
    /// float32 values of the output's shape (without the batch).
    Values {
        /// That shape; for `[1]`, a plain number is also right.
        shape: Vec<i64>,
    },
}

/// A class of `keras.losses`.
#[derive(Debug)]
pub(crate) struct Class {
    name: &'static str,
    /// Keras's name of the function and of an instance.
    pub(crate) function: &'static str,
    aliases: &'static [&'static str],
    build: fn(&Options<'_>) -> Result<Box<dyn Rule>>,
}

const CLASSES: [Class; 5] = [
    Class {
        name: "SparseCategoricalCrossentropy",
        function: "sparse_categorical_crossentropy",
        aliases: &[],
        build: crossentropy::Sparse::build,
    },
    Class {
        name: "CategoricalCrossentropy",
        function: "categorical_crossentropy",
        aliases: &[],
        build: crossentropy::Categorical::build,
    },
    Class {
        name: "BinaryCrossentropy",
        function: "binary_crossentropy",
        aliases: &["bce", "BCE"],
        build: crossentropy::Binary::build,
    },
    Class {
        name: "MeanSquaredError",
        function: "mean_squared_error",
        aliases: &["mse", "MSE"],
        build: |_| Ok(Box::new(regression::MeanSquaredError)),
    },
    Class {
        name: "MeanAbsoluteError",
        function: "mean_absolute_error",
        aliases: &["mae", "MAE"],
        build: |_| Ok(Box::new(regression::MeanAbsoluteError)),
    },
];

impl Class {
    /// Finds a class by its name, its function's name or an alias.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CLASSES.iter().find(|class| {
            class.name == name || class.function == name || class.aliases.contains(&name)
        })
    }

    /// The names of all functions.
    pub(crate) fn functions() -> impl Iterator<Item = &'static str> {
        CLASSES.iter().map(|class| class.function)
    }
}

/// A Keras loss.
#[derive(Debug)]
pub struct Loss {
    name: String,
    rule: Box<dyn Rule>,
}

impl Loss {
    /// A loss from a name such as `"mse"` or from Keras's serialization (Keras 3 or 2). Reductions
    /// other than Keras's default, the mean over the batch, are errors.
    pub fn from_config(value: &Value) -> Result<Self> {
        let named = Named::from_value(value, "loss")?;
        let class = Class::find(&named.class).ok_or_else(|| Error::Unsupported {
            place: "loss".into(),
            what: named.class.clone(),
            supported: Class::functions().collect::<Vec<_>>().join(", "),
        })?;
        let options = Options::new(format!("loss {}", class.name), &named.config);
        let default = value.as_str().unwrap_or(class.function);
        let name = options.str("name", default)?.to_owned();
        // "auto" is Keras 2's word for it, "mean" another of Keras 3.
        options.choice(
            "reduction",
            "auto",
            &["sum_over_batch_size", "auto", "mean"],
        )?;
        Self::from_options(class, name, options)
    }

    /// A loss of `class`, or the same class of `keras.metrics`; checks that all options are known.
    pub(crate) fn from_options(class: &Class, name: String, options: Options<'_>) -> Result<Self> {
        let rule = (class.build)(&options)?;
        if options.i64("axis", -1)? != -1 {
            return Err(options.invalid("axis must be -1: classes lie on the last axis"));
        }
        options.choice("dtype", "float32", &["float32"])?;
        options.ignore(&["fn"]);
        options.finish()?;
        Ok(Self { name, rule })
    }

    /// Keras's name of the loss.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The labels wanted beside outputs of `output_shape` (without the batch).
    pub fn label(&self, output_shape: &[i64]) -> LabelSpec {
        self.rule.label(output_shape)
    }

    /// The loss of each row, `[N]`; its mean is Keras's loss. `y_true` has one row per output row
    /// and the shape of [`Self::label`], give or take a last axis of 1. Class ids out of range are
    /// an error of libtorch without a row: check them where labels are read.
    pub fn per_row(&self, y_true: &Tensor, output: &Output) -> Result<Tensor> {
        let y = output.logits().map_or_else(|| output.y(), Ok)?;
        let y_true = match self.label(&[]) {
            LabelSpec::Class { .. } => class_ids(y_true, y, &self.name)?,
            LabelSpec::Values { .. } => values_like(y_true, y, &self.name)?,
        };
        mean_per_row(&self.rule.values(&y_true, output)?)
    }
}

/// Labels as class ids, int64, of the shape of `y` without its last axis.
pub(crate) fn class_ids(y_true: &Tensor, y: &Tensor, place: &str) -> Result<Tensor> {
    let mut shape = y.size();
    shape.pop();
    Ok(reshaped(y_true, &shape, place)?.f_to_kind(Kind::Int64)?)
}

/// Labels as float32 values of the shape of `y`.
pub(crate) fn values_like(y_true: &Tensor, y: &Tensor, place: &str) -> Result<Tensor> {
    Ok(reshaped(y_true, &y.size(), place)?.f_to_kind(Kind::Float)?)
}

/// Adds or drops a last axis of 1, as Keras does, to get `shape`.
fn reshaped(y_true: &Tensor, shape: &[i64], place: &str) -> Result<Tensor> {
    let without_one = |shape: &[i64]| match shape {
        [rows @ .., 1] if !rows.is_empty() => rows.to_vec(),
        _ => shape.to_vec(),
    };
    let actual = y_true.size();
    if without_one(&actual) != without_one(shape) {
        return Err(Error::ShapeMismatch {
            place: place.to_owned(),
            reason: format!("labels have shape {actual:?}, but this output needs {shape:?}"),
        });
    }
    Ok(y_true.f_reshape(shape)?)
}

/// The mean of each row's values, `[N]`.
pub(crate) fn mean_per_row(values: &Tensor) -> Result<Tensor> {
    if values.dim() < 2 {
        return Ok(values.shallow_clone());
    }
    Ok(values.f_flatten(1, -1)?.f_mean_dim(1, false, Kind::Float)?)
}
