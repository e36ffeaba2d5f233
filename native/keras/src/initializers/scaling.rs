//! Keras's VarianceScaling: the spread of the values follows from the variable's shape.

use serde_json::Value;

use super::distribution::{Distribution, TRUNCATED_STDDEV};
use crate::config::{Given, Options};
use crate::error::Result;

/// A VarianceScaling with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VarianceScaling {
    scale: f64,
    fan: Fan,
    shape: Shape,
    /// Axes of inputs and of outputs, if both are given.
    axes: Option<(Vec<i64>, Vec<i64>)>,
}

/// By how many units the scale is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fan {
    In,
    Out,
    Average,
}

/// The distribution, whose spread is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Uniform,
    Normal,
    TruncatedNormal,
}

impl VarianceScaling {
    /// A form with fixed `scale`, `fan` and `shape`, and the axes of `options`.
    pub(super) fn new(scale: f64, fan: Fan, shape: Shape, options: &Options<'_>) -> Result<Self> {
        let inputs = axes(options, "input_axes")?;
        let outputs = axes(options, "output_axes")?;
        Ok(Self {
            scale,
            fan,
            shape,
            // Keras ignores one without the other.
            axes: inputs.zip(outputs),
        })
    }

    /// Sets the axes of inputs and of outputs unless they are set.
    pub(super) fn set_axes(&mut self, inputs: Vec<usize>, outputs: Vec<usize>) {
        let axes = |axes: Vec<usize>| axes.into_iter().map(|axis| axis as i64).collect();
        self.axes
            .get_or_insert_with(|| (axes(inputs), axes(outputs)));
    }

    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        let scale = options.number("scale", 1.0)?;
        if scale <= 0.0 || scale.is_nan() {
            return Err(options.invalid(format!("scale = {scale} must be above 0")));
        }
        let fan = match options.choice("mode", "fan_in", &["fan_in", "fan_out", "fan_avg"])? {
            "fan_out" => Fan::Out,
            "fan_avg" => Fan::Average,
            _ => Fan::In,
        };
        let name = options.str("distribution", "truncated_normal")?;
        let shape = match name.to_lowercase().as_str() {
            "uniform" => Shape::Uniform,
            "untruncated_normal" => Shape::Normal,
            "normal" | "truncated_normal" => Shape::TruncatedNormal,
            _ => {
                let supported = "uniform, normal, truncated_normal, untruncated_normal";
                return Err(options.unsupported("distribution", &name.into(), supported));
            }
        };
        Self::new(scale, fan, shape, options)
    }

    /// The distribution of a variable of `shape`; `None` if it lacks one of the axes.
    pub(super) fn of(&self, shape: &[i64]) -> Option<Distribution> {
        let (fan_in, fan_out) = match &self.axes {
            Some((inputs, outputs)) => (size(shape, inputs)?, size(shape, outputs)?),
            None => fans(shape),
        };
        let n = match self.fan {
            Fan::In => fan_in,
            Fan::Out => fan_out,
            Fan::Average => f64::midpoint(fan_in, fan_out),
        };
        let variance = self.scale / n.max(1.0);
        let (mean, stddev) = (0.0, variance.sqrt());
        Some(match self.shape {
            Shape::Uniform => {
                let high = (3.0 * variance).sqrt();
                Distribution::Uniform { low: -high, high }
            }
            Shape::Normal => Distribution::Normal { mean, stddev },
            Shape::TruncatedNormal => Distribution::TruncatedNormal {
                mean,
                stddev: stddev / TRUNCATED_STDDEV,
            },
        })
    }
}

/// A list of axes; `None` if it is absent or null.
fn axes(options: &Options<'_>, key: &str) -> Result<Option<Vec<i64>>> {
    let Given::Value(value) = options.given(key) else {
        return Ok(None);
    };
    let axes = value.as_array().and_then(|items| {
        let axes = items.iter().map(Value::as_i64);
        axes.collect::<Option<Vec<_>>>()
    });
    axes.map(Some)
        .ok_or_else(|| options.invalid(format!("{key} = {value} must be a list of integers")))
}

/// Product of the sizes along `axes`, which count from the end if they are negative.
fn size(shape: &[i64], axes: &[i64]) -> Option<f64> {
    let rank = i64::try_from(shape.len()).ok()?;
    axes.iter().try_fold(1.0, |product, &axis| {
        let axis = if axis < 0 { axis + rank } else { axis };
        let size = shape.get(usize::try_from(axis).ok()?)?;
        Some(product * *size as f64)
    })
}

/// Keras's `compute_fans`: the last two axes are inputs and outputs, those before them a receptive
/// field.
fn fans(shape: &[i64]) -> (f64, f64) {
    let product = |axes: &[i64]| axes.iter().product::<i64>() as f64;
    match shape {
        [] => (1.0, 1.0),
        [n] => (product(&[*n]), product(&[*n])),
        [field @ .., inputs, outputs] => (
            product(&[*inputs]) * product(field),
            product(&[*outputs]) * product(field),
        ),
    }
}
