//! A dense float32 array in row-major order: what weights and checkpoints are made of.

use crate::{Error, Result};

/// A float32 array in row-major (C) order. An empty `shape` is a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl Array {
    /// Joins a shape and its elements.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number differs from the product of `shape`.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        let array = Array { shape, data };
        array.check("the array")?;
        Ok(array)
    }

    /// An array without axes.
    pub fn scalar(value: f32) -> Self {
        Array {
            shape: Vec::new(),
            data: vec![value],
        }
    }

    /// Refuses an array, called `place` in the error, whose fields contradict each other.
    pub(crate) fn check(&self, place: &str) -> Result<()> {
        if element_count(&self.shape) == Some(self.data.len()) {
            return Ok(());
        }
        let reason = format!(
            "shape {:?} does not hold {} elements",
            self.shape,
            self.data.len()
        );
        Err(Error::invalid(place, reason))
    }

    /// The elements as little-endian bytes.
    pub(crate) fn to_le_bytes(&self) -> Vec<u8> {
        self.data
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
}

/// Product of the axes, or `None` if it overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |count, &axis| count.checked_mul(axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_elements_must_match_the_shape() {
        assert!(Array::new(vec![2, 3], vec![0.0; 6]).is_ok());
        assert!(Array::new(vec![0, 3], vec![]).is_ok());
        let error = Array::new(vec![2, 3], vec![0.0; 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the array cannot be written: shape [2, 3] does not hold 5 elements"
        );
        assert!(Array::new(vec![usize::MAX, 2], vec![]).is_err());
    }
}
