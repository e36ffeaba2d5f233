//! Rows of the dataset gathered into the tensors of one step.

use crate::block::{Block, Part, Values};
use crate::dataset::{Dataset, Row, RowRef, gather, too_large};
use crate::error::Error;
use flambeau_keras::{Strings, Value};
use flambeau_libtorch::Uploads;
use tch::{Device, Tensor};

/// The tensors of one step on one rank.
#[derive(Debug)]
pub struct Batch {
    /// Rows; never zero.
    pub rows: usize,
    /// For each input of the model, `[rows, ...input]`; the model brings them to its dtypes.
    pub inputs: Vec<Value>,
    /// For each output of the model, `[rows, ...]` i64 class ids or f32 values; none where it has
    /// no loss, and none at all when predicting.
    pub labels: Vec<Option<Tensor>>,
    /// `[rows]` f32.
    pub weights: Option<Tensor>,
}

impl Batch {
    /// The same tensors.
    pub(crate) fn share(&self) -> Self {
        let share = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            rows: self.rows,
            inputs: self.inputs.clone(),
            labels: self.labels.iter().map(share).collect(),
            weights: share(&self.weights),
        }
    }

    /// Begins to copy all of it to a GPU.
    ///
    /// # Errors
    /// [`Error::Torch`], [`Error::Keras`].
    pub(crate) fn upload(&self, uploads: &Uploads) -> Result<Self, Error> {
        let copied = |tensor: &Option<Tensor>| {
            let tensor = tensor.as_ref();
            tensor.map(|tensor| uploads.start(tensor)).transpose()
        };
        let inputs = self.inputs.iter().map(|input| input.upload(uploads));
        Ok(Self {
            rows: self.rows,
            inputs: inputs.collect::<Result<_, _>>()?,
            labels: self.labels.iter().map(copied).collect::<Result<_, _>>()?,
            weights: copied(&self.weights)?,
        })
    }

    /// Has what is computed next wait until all of it is copied.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(crate) fn arrive(&self, uploads: &Uploads) -> Result<(), Error> {
        let inputs = self.inputs.iter().filter_map(|input| input.y().ok());
        let others = self.labels.iter().chain([&self.weights]).flatten();
        for copy in inputs.chain(others) {
            uploads.arrive(copy)?;
        }
        Ok(())
    }

    /// The same rows with labels and weights on `device`; a model takes its inputs there by itself.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(crate) fn to_device(&self, device: Device) -> Result<Self, Error> {
        let moved = |tensor: &Option<Tensor>| {
            let tensor = tensor.as_ref();
            tensor.map(|tensor| tensor.f_to_device(device)).transpose()
        };
        Ok(Self {
            rows: self.rows,
            inputs: self.inputs.clone(),
            labels: self.labels.iter().map(moved).collect::<Result<_, _>>()?,
            weights: moved(&self.weights)?,
        })
    }

    /// Rows `start..start + count`.
    ///
    /// # Errors
    /// [`Error::Torch`], [`Error::Keras`] if there are fewer.
    pub(crate) fn narrow(&self, start: usize, count: usize) -> Result<Self, Error> {
        let (first, rows) = (start as i64, count as i64);
        let narrow = |tensor: &Option<Tensor>| {
            let tensor = tensor.as_ref();
            tensor
                .map(|tensor| tensor.f_narrow(0, first, rows))
                .transpose()
        };
        let inputs = self.inputs.iter().map(|input| input.narrow(first, rows));
        Ok(Self {
            rows: count,
            inputs: inputs.collect::<Result<_, _>>()?,
            labels: self.labels.iter().map(narrow).collect::<Result<_, _>>()?,
            weights: narrow(&self.weights)?,
        })
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let inputs = self.inputs.iter().filter_map(|input| input.y().ok());
        let labels = self.labels.iter().flatten();
        inputs.chain(labels).map(bytes).sum()
    }
}

/// Shapes, without the batch axis, that rows are laid out in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchShape {
    /// Of each of the model's inputs; `None` where the rows say how many elements there are.
    pub inputs: Vec<Vec<Option<i64>>>,
    /// Of the labels of each of its outputs; -1 where the rows say.
    pub labels: Vec<Vec<i64>>,
}

impl BatchShape {
    /// Copies drawn rows out of the dataset; none for no rows.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Data`] and [`Error::Torch`] if memory runs out.
    pub fn gather(&self, dataset: &Dataset, rows: &[RowRef]) -> Result<Option<Batch>, Error> {
        let mut records = Vec::new();
        self.collect(&dataset.rows(rows, &mut records)?)
    }

    /// Rows `start..end` of one block; none for no rows.
    ///
    /// # Errors
    /// [`Error::Data`] and [`Error::Torch`] if memory runs out.
    pub fn slice(&self, block: &Block, start: usize, end: usize) -> Result<Option<Batch>, Error> {
        let rows: Vec<_> = (start..end).map(|row| Row::Held(block, row)).collect();
        self.collect(&rows)
    }

    fn collect(&self, rows: &[Row<'_>]) -> Result<Option<Batch>, Error> {
        if rows.is_empty() {
            return Ok(None);
        }
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (at, shape) in self.inputs.iter().enumerate() {
            let Some((values, width)) = gather(rows, Part::Input(at))? else {
                return Err(Error::Panic(format!("rows without input {at}")));
            };
            let steps = shape.iter().flatten().product();
            let (values, width) = even(values, width, steps, rows.len(), Part::Input(at))?;
            inputs.push(value(values, rows.len(), &resolved(shape, width))?);
        }
        let mut labels = Vec::with_capacity(self.labels.len());
        for (at, shape) in self.labels.iter().enumerate() {
            let label = match gather(rows, Part::Label(at))? {
                Some((values, width)) => {
                    let known = shape.iter().filter(|&&axis| axis >= 0);
                    let part = Part::Label(at);
                    let (values, width) = even(values, width, known.product(), rows.len(), part)?;
                    let axes = shape.iter().map(|&axis| (axis >= 0).then_some(axis));
                    let axes: Vec<_> = axes.collect();
                    let labels = value(values, rows.len(), &resolved(&axes, width))?;
                    Some(labels.y()?.shallow_clone())
                }
                None => None,
            };
            labels.push(label);
        }
        let weights = match gather(rows, Part::Weights)? {
            Some((values, _)) => Some(value(values, rows.len(), &[])?.y()?.shallow_clone()),
            None => None,
        };
        Ok(Some(Batch {
            rows: rows.len(),
            inputs,
            labels,
            weights,
        }))
    }
}

/// Values whose rows are equally long, and how long: ragged ones are filled up to the longest, and to
/// one step of `step` values at least, so that a batch of empty rows is one of padding alone.
fn even(
    values: Values,
    width: usize,
    step: i64,
    rows: usize,
    part: Part,
) -> Result<(Values, usize), Error> {
    match values {
        Values::Ragged(ragged) => {
            let step = usize::try_from(step).unwrap_or(1);
            ragged
                .padded(step)
                .map_err(|bytes| too_large(rows, part, bytes))
        }
        values => Ok((values, width)),
    }
}

/// Values of `rows` rows in the shape `[rows, ...shape]`.
fn value(values: Values, rows: usize, shape: &[i64]) -> Result<Value, Error> {
    let mut size = vec![i64::try_from(rows).unwrap_or(i64::MAX)];
    size.extend_from_slice(shape);
    let tensor = match values {
        Values::U8(values) => Tensor::f_from_slice(&values),
        Values::F32(values) => Tensor::f_from_slice(&values),
        Values::I32(values) => Tensor::f_from_slice(&values),
        Values::I64(values) => Tensor::f_from_slice(&values),
        Values::Strings(values) => {
            return Ok(Value::from_strings(Strings::new(size, values)?));
        }
        Values::Ragged(_) => return Err(Error::Panic("rows of differing lengths".to_owned())),
    };
    Ok(tensor?.f_view(size.as_slice())?.into())
}

/// A shape whose unknown axis is what `width` values leave for it.
fn resolved(shape: &[Option<i64>], width: usize) -> Vec<i64> {
    let known: i64 = shape.iter().flatten().product();
    let width = i64::try_from(width).unwrap_or(i64::MAX);
    let mut rest = width.checked_div(known).unwrap_or(0);
    let mut open = |axis: &Option<i64>| axis.unwrap_or_else(|| std::mem::replace(&mut rest, 1));
    shape.iter().map(&mut open).collect()
}
