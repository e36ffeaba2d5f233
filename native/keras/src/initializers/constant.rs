//! The value of Keras's Constant: a number, or an array that is broadcast to the variable.

use serde_json::Value;

use crate::config::{Given, Options};
use crate::error::Result;

/// An array of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Constant {
    pub(super) fn number(value: f64) -> Self {
        Self {
            shape: Vec::new(),
            values: vec![value],
        }
    }

    /// The array with every number changed.
    pub(super) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            shape: self.shape.clone(),
            values: self.values.iter().map(|&value| change(value)).collect(),
        }
    }

    /// Reads `value`: a number, nested lists of numbers, or Keras's serialization of an array.
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        let value = match options.given("value") {
            Given::Absent => return Ok(Self::number(0.0)),
            Given::Null => &Value::Null,
            Given::Value(value) => value,
        };
        let is_array = matches!(
            value.get("class_name").and_then(Value::as_str),
            Some("__numpy__" | "__tensor__")
        );
        let array = if is_array {
            &value["config"]["value"]
        } else {
            value
        };
        let mut constant = Self {
            shape: Vec::new(),
            values: Vec::new(),
        };
        if constant.read(array, 0).is_none() {
            let reason = format!("value = {value} must be a number or nested lists of numbers");
            return Err(options.invalid(reason));
        }
        Ok(constant)
    }

    /// Appends the numbers of `value`, nested `depth` deep; `None` if it is none of them or lists
    /// differ in length.
    fn read(&mut self, value: &Value, depth: usize) -> Option<()> {
        match value {
            Value::Array(items) => {
                if self.values.is_empty() && self.shape.len() == depth {
                    self.shape.push(items.len());
                }
                if self.shape.get(depth) != Some(&items.len()) {
                    return None;
                }
                items.iter().try_for_each(|item| self.read(item, depth + 1))
            }
            _ if self.shape.len() == depth => {
                self.values.push(value.as_f64()?);
                Some(())
            }
            _ => None,
        }
    }

    /// The elements of the array broadcast to `shape`, row-major; `None` if it cannot be.
    pub(super) fn broadcast(&self, shape: &[i64]) -> Option<impl Iterator<Item = f64> + '_> {
        let sizes: Vec<usize> = shape
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect::<Option<_>>()?;
        let missing = sizes.len().checked_sub(self.shape.len())?;
        let fits = |(own, size): (&usize, &usize)| own == size || *own == 1;
        if !self.shape.iter().zip(&sizes[missing..]).all(fits) {
            return None;
        }
        let element = move |position: usize| {
            let (mut rest, mut index, mut stride) = (position, 0, 1);
            for (axis, size) in sizes.iter().enumerate().rev() {
                let at = rest % size;
                rest /= size;
                if let Some(own) = axis.checked_sub(missing).map(|axis| self.shape[axis]) {
                    if own > 1 {
                        index += at * stride;
                    }
                    stride *= own;
                }
            }
            self.values[index]
        };
        let count = shape.iter().product::<i64>();
        Some((0..usize::try_from(count).ok()?).map(element))
    }
}
