//! What is known of a value before it is there: its axes, some of unknown size, and its dtype.

use crate::dtype::DType;

/// Axes and dtype of a value, as Keras's `KerasTensor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Sizes of the axes, the batch first; `None` where a size is known only when data come.
    pub dims: Vec<Option<i64>>,
    /// Type of the elements.
    pub dtype: DType,
}

/// A spec, or why there is none for such inputs; the graph adds the layer's name.
pub(crate) type SpecResult = std::result::Result<Spec, String>;

impl Spec {
    /// A spec of these axes and this dtype.
    pub fn new(dims: impl Into<Vec<Option<i64>>>, dtype: DType) -> Self {
        Self {
            dims: dims.into(),
            dtype,
        }
    }

    /// Number of axes, with the batch.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The same axes with another dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self::new(self.dims.clone(), dtype)
    }

    /// The same dtype with other axes.
    pub fn with_dims(&self, dims: impl Into<Vec<Option<i64>>>) -> Self {
        Self::new(dims, self.dtype)
    }

    /// The position of `axis`, which may count from the end.
    ///
    /// # Errors
    /// There is no such axis.
    pub(crate) fn axis(&self, axis: i64) -> std::result::Result<usize, String> {
        position(axis, self.rank()).ok_or_else(|| format!("has no axis {axis} in shape {self}"))
    }

    /// The size of `axis`.
    ///
    /// # Errors
    /// There is no such axis, or its size is not known before data come.
    pub(crate) fn size(&self, axis: i64) -> std::result::Result<i64, String> {
        let at = self.axis(axis)?;
        self.dims[at].ok_or_else(|| {
            format!("needs to know the size of axis {axis}, which is not given in shape {self}")
        })
    }

    /// Demands `rank` axes.
    ///
    /// # Errors
    /// Names what was expected and found.
    pub(crate) fn require_rank(&self, rank: usize) -> std::result::Result<(), String> {
        if self.rank() == rank {
            return Ok(());
        }
        let found = self.rank();
        Err(format!(
            "needs an input of {rank} axes, got {found}: shape {self}"
        ))
    }

    /// Demands floating-point elements, which Keras does not make of integers itself.
    ///
    /// # Errors
    /// Names the dtype found.
    pub(crate) fn require_float(&self) -> std::result::Result<(), String> {
        if self.dtype.is_float() {
            return Ok(());
        }
        let dtype = self.dtype;
        Err(format!(
            "needs floating-point numbers, got {dtype}: put a Rescaling before it, or declare \
             the input as float32"
        ))
    }

    /// Elements of one row, that is of all axes but the first; `None` if a size is unknown.
    pub fn row_elements(&self) -> Option<i64> {
        let rows = self.dims.get(1..)?;
        rows.iter()
            .try_fold(1_i64, |count, dim| count.checked_mul((*dim)?))
    }
}

/// As Keras prints a shape: `(None, 28, 28)`.
impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(")?;
        for (at, dim) in self.dims.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match dim {
                Some(size) => write!(f, "{size}")?,
                None => f.write_str("None")?,
            }
        }
        f.write_str(if self.rank() == 1 { ",)" } else { ")" })
    }
}

/// The position of `axis` among `rank` axes, counted from the end if negative.
pub(crate) fn position(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let at = if axis < 0 { axis + rank } else { axis };
    usize::try_from(at).ok().filter(|_| at < rank)
}

/// Whether two tensors may have one shape: as many axes, and no two known sizes that differ.
pub(crate) fn alike(a: &[Option<i64>], b: &[Option<i64>]) -> bool {
    let mut pairs = a.iter().zip(b);
    a.len() == b.len() && pairs.all(|(a, b)| a.is_none() || b.is_none() || a == b)
}

/// The axes of two operands under NumPy's broadcasting; `None` if they do not fit. An unknown size
/// beside a known one above 1 is that one.
pub(crate) fn broadcast(a: &[Option<i64>], b: &[Option<i64>]) -> Option<Vec<Option<i64>>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Option<i64>], i: usize| match (i + dims.len()).checked_sub(rank) {
        Some(at) => dims[at],
        None => Some(1),
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (Some(1), other) | (other, Some(1)) => Some(other),
            (Some(x), Some(y)) => (x == y).then_some(Some(x)),
            (None, known) | (known, None) => Some(known),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_print_as_in_keras() {
        let spec = |dims: &[Option<i64>]| Spec::new(dims, DType::FLOAT32).to_string();
        assert_eq!(spec(&[None, Some(28), Some(1)]), "(None, 28, 1)");
        assert_eq!(spec(&[None]), "(None,)");
        assert_eq!(spec(&[]), "()");
    }

    #[test]
    fn broadcasting_keeps_what_is_known() {
        let dims = |a: &[Option<i64>], b: &[Option<i64>]| broadcast(a, b);
        assert_eq!(
            dims(&[None, Some(3)], &[Some(3)]),
            Some(vec![None, Some(3)])
        );
        assert_eq!(
            dims(&[None, Some(1)], &[Some(4)]),
            Some(vec![None, Some(4)])
        );
        assert_eq!(dims(&[None], &[Some(1)]), Some(vec![None]));
        assert_eq!(dims(&[None], &[Some(5)]), Some(vec![Some(5)]));
        assert_eq!(dims(&[Some(2)], &[Some(3)]), None);
    }

    #[test]
    fn axes_count_from_both_ends() {
        let spec = Spec::new([None, Some(3)], DType::FLOAT32);
        assert_eq!(spec.axis(-1), Ok(1));
        assert!(spec.axis(2).unwrap_err().contains("(None, 3)"));
        assert!(spec.size(0).unwrap_err().contains("axis 0"));
    }
}
