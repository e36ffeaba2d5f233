//! Keras's `noise_shape`: the axes along which random factors differ.

use serde_json::Value as Json;

use crate::error::Result;
use crate::scope::Scope;

/// Sizes of the factors' axes, lined up with the input's last ones; axes of 1 are broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoiseShape {
    /// A factor for each element.
    Whole,
    /// `None` where the size is that of the input's axis.
    Sizes(Vec<Option<i64>>),
}

impl NoiseShape {
    /// Reads option `noise_shape`; absent or null is a factor for each element.
    pub(super) fn read(scope: &Scope<'_>) -> Result<Self> {
        let options = scope.options;
        let Some(value) = options.value("noise_shape") else {
            return Ok(Self::Whole);
        };
        let size = |axis: &Json| match axis {
            Json::Null => Some(None),
            axis => axis.as_i64().filter(|&n| n > 0).map(Some),
        };
        let sizes = value
            .as_array()
            .and_then(|axes| axes.iter().map(size).collect());
        let sizes: Vec<Option<i64>> = sizes.ok_or_else(|| {
            options.invalid(format!(
                "noise_shape = {value} must be a list of positive integers and nulls"
            ))
        })?;
        let input = scope.input()?;
        let fits = match input.rank().checked_sub(sizes.len()) {
            // A shorter shape has no place for null: Keras counts those from the first axis.
            Some(missing) => input.dims[missing..]
                .iter()
                .zip(&sizes)
                .all(|pair| match pair {
                    (_, None) => missing == 0,
                    (_, Some(1)) | (None, _) => true,
                    (size, wanted) => size == wanted,
                }),
            None => false,
        };
        if !fits {
            return Err(options.invalid(format!(
                "noise_shape = {value} must broadcast to the input {input}"
            )));
        }
        Ok(Self::Sizes(sizes))
    }

    /// The shape for an input of these sizes.
    pub(super) fn of(&self, size: &[i64]) -> Vec<i64> {
        match self {
            Self::Whole => size.to_vec(),
            Self::Sizes(sizes) => {
                let sizes = sizes.iter().zip(size);
                sizes.map(|(own, size)| own.unwrap_or(*size)).collect()
            }
        }
    }
}
