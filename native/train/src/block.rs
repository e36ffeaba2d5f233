//! Rows decoded out of a record batch, in our own memory: the unit the dataset caches.

use tch::Tensor;

use crate::error::Error;
use flambeau_keras::{Strings, Value};

/// Values of some columns, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// From one binary column: bytes stay bytes, a quarter of the memory of floats.
    U8(Vec<u8>),
    /// Numbers of inputs and labels that are floating point.
    F32(Vec<f32>),
    /// Ids, exact.
    I64(Vec<i64>),
    /// Byte strings.
    Strings(Vec<Box<[u8]>>),
}

/// A number of rows with inputs, labels and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Rows held.
    pub rows: usize,
    /// For each input of the model, `rows` times its width.
    pub inputs: Vec<Values>,
    /// For each output of the model, `rows` times the width of its labels; none where it has no
    /// loss, and none at all when predicting.
    pub labels: Vec<Option<Values>>,
    /// One weight per row, if there is a weight column.
    pub weights: Option<Vec<f32>>,
}

impl Block {
    /// Bytes this block keeps in memory.
    pub fn bytes(&self) -> usize {
        let labels = self.labels.iter().flatten();
        let values: usize = self.inputs.iter().chain(labels).map(Values::bytes).sum();
        values + self.weights.as_ref().map_or(0, |weights| weights.len() * 4)
    }
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Strings(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes kept in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len() * 4,
            Self::I64(values) => values.len() * 8,
            Self::Strings(values) => {
                let header = size_of::<Box<[u8]>>();
                values.iter().map(|value| value.len() + header).sum()
            }
        }
    }

    /// The rows at `rows`, `width` values each.
    pub fn pick(&self, rows: &[usize], width: usize) -> Self {
        match self {
            Self::U8(values) => Self::U8(pick(values, rows, width)),
            Self::F32(values) => Self::F32(pick(values, rows, width)),
            Self::I64(values) => Self::I64(pick(values, rows, width)),
            Self::Strings(values) => Self::Strings(pick(values, rows, width)),
        }
    }

    /// Rows of several blocks, given as each block's values and the row, in one value of shape
    /// `[rows, ...shape]`; `first` says what kind they are.
    ///
    /// # Errors
    /// [`Error::Torch`] if memory runs out; [`Error::Keras`] for a shape that does not fit.
    pub fn gather(first: &Self, rows: &[(&Self, usize)], shape: &[i64]) -> Result<Value, Error> {
        let width = crate::columns::elements(shape);
        let mut size = vec![i64::try_from(rows.len()).unwrap_or(i64::MAX)];
        size.extend_from_slice(shape);
        macro_rules! tensor {
            ($kind:ident) => {{
                let values = gather(rows, width, |values| match values {
                    Self::$kind(values) => values,
                    _ => &[],
                });
                Tensor::f_from_slice(&values)?
                    .f_view(size.as_slice())?
                    .into()
            }};
        }
        Ok(match first {
            Self::U8(_) => tensor!(U8),
            Self::F32(_) => tensor!(F32),
            Self::I64(_) => tensor!(I64),
            Self::Strings(_) => {
                let values = gather(rows, width, |values| match values {
                    Self::Strings(values) => values,
                    _ => &[],
                });
                Value::from_strings(Strings::new(size, values)?)
            }
        })
    }
}

fn pick<T: Clone>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    let row = |row: &usize| &values[row * width..(row + 1) * width];
    rows.iter().flat_map(row).cloned().collect()
}

fn gather<'a, T: Clone + 'a>(
    rows: &[(&'a Values, usize)],
    width: usize,
    values: impl Fn(&'a Values) -> &'a [T],
) -> Vec<T> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for (column, row) in rows {
        out.extend_from_slice(&values(column)[row * width..(row + 1) * width]);
    }
    out
}
