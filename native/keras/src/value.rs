//! What travels along the edges of a graph: a tensor or strings, with Keras's mask, and with the
//! logits behind a softmax or sigmoid, which is computed only when somebody asks.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flambeau_libtorch::Uploads;
use tch::{Device, Kind, Tensor};

use crate::activations::Activation;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::strings::Strings;

/// One value of a pass.
#[derive(Debug)]
pub struct Value {
    data: Data,
    mask: Option<Mask>,
    /// The tensor without its graph, once somebody asked for it.
    values: OnceCell<Tensor>,
}

/// Keras's `_keras_mask`.
#[derive(Debug)]
struct Mask {
    tensor: Tensor,
    /// Whether a layer took it away, from this value and all its clones.
    taken: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Data {
    Tensor(Tensor),
    /// `activation` (softmax or sigmoid) of `logits`, still to be applied. Keras marks such an
    /// output with `_keras_logits`, and every crossentropy works on those.
    Pending {
        logits: Tensor,
        activation: Activation,
        y: OnceCell<Tensor>,
    },
    Strings(Strings),
}

impl Value {
    /// A tensor that is complete as it is.
    pub fn new(tensor: Tensor) -> Self {
        Self::of(Data::Tensor(tensor))
    }

    fn of(data: Data) -> Self {
        Self {
            data,
            mask: None,
            values: OnceCell::new(),
        }
    }

    /// A value whose last step, `activation` (softmax or sigmoid), is still to be applied.
    pub fn from_logits(logits: Tensor, activation: Activation) -> Self {
        Self::of(Data::Pending {
            logits,
            activation,
            y: OnceCell::new(),
        })
    }

    /// Byte strings.
    pub fn from_strings(strings: Strings) -> Self {
        Self::of(Data::Strings(strings))
    }

    /// The same value with another mask: bool, of the value's first axes; `None` for no mask.
    pub fn with_mask(self, mask: Option<Tensor>) -> Self {
        let mask = mask.map(|tensor| Mask {
            tensor,
            taken: Arc::default(),
        });
        Self { mask, ..self }
    }

    /// Keras's mask: false where a step is padding.
    pub fn mask(&self) -> Option<&Tensor> {
        let mask = self.mask.as_ref()?;
        (!mask.taken.load(Ordering::Relaxed)).then_some(&mask.tensor)
    }

    /// Takes the mask away from this value and all its clones: nobody who looks later sees it.
    /// Keras's MultiHeadAttention does so to what it is called with.
    pub(crate) fn take_mask(&self) {
        if let Some(mask) = &self.mask {
            mask.taken.store(true, Ordering::Relaxed);
        }
    }

    /// The pre-activation values of a softmax or sigmoid (Keras's `_keras_logits`).
    pub fn logits(&self) -> Option<&Tensor> {
        match &self.data {
            Data::Pending { logits, .. } => Some(logits),
            _ => None,
        }
    }

    /// The activation, softmax or sigmoid, that is still to be applied to [`Self::logits`].
    pub fn pending(&self) -> Option<Activation> {
        match &self.data {
            Data::Pending { activation, .. } => Some(*activation),
            _ => None,
        }
    }

    /// The value on `device`, where passes run. Strings stay where they are.
    pub(crate) fn to_device(&self, device: Device) -> Result<Self> {
        if matches!(self.data, Data::Strings(_)) {
            return Ok(self.clone());
        }
        let mask = self.mask().map(|mask| mask.f_to_device(device));
        Ok(Self::new(self.y()?.f_to_device(device)?).with_mask(mask.transpose()?))
    }

    /// The value with a copy of its tensor on a GPU, which is begun; strings stay where they are.
    ///
    /// # Errors
    /// Those of the copy.
    pub fn upload(&self, uploads: &Uploads) -> Result<Self> {
        match &self.data {
            Data::Strings(_) => Ok(self.clone()),
            _ => Ok(Self::new(uploads.start(self.y()?)?)),
        }
    }

    /// The tensor, differentiable.
    ///
    /// # Errors
    /// The value holds strings.
    pub fn y(&self) -> Result<&Tensor> {
        match &self.data {
            Data::Tensor(tensor) => Ok(tensor),
            Data::Pending {
                logits,
                activation,
                y,
            } => fill(y, || activation.apply(logits)),
            Data::Strings(_) => Err(Error::Values {
                reason: "strings were given where numbers are needed: look them up first \
                         (StringLookup, TextVectorization, Hashing)"
                    .to_owned(),
            }),
        }
    }

    /// The tensor without its graph: for metrics and predictions.
    ///
    /// # Errors
    /// As [`Self::y`].
    pub fn values(&self) -> Result<&Tensor> {
        fill(&self.values, || match &self.data {
            Data::Pending {
                logits,
                activation,
                y,
            } if y.get().is_none() => {
                let _guard = tch::no_grad_guard();
                activation.apply(logits)
            }
            _ => Ok(self.y()?.f_detach()?),
        })
    }

    /// The strings.
    ///
    /// # Errors
    /// The value holds numbers.
    pub fn strings(&self) -> Result<&Strings> {
        match &self.data {
            Data::Strings(strings) => Ok(strings),
            _ => Err(Error::Values {
                reason: "numbers were given where strings are needed".to_owned(),
            }),
        }
    }

    /// What this value depends on variables by: the tensor, or the logits of a pending activation.
    pub fn end(&self) -> Option<&Tensor> {
        let (Data::Tensor(tensor) | Data::Pending { logits: tensor, .. }) = &self.data else {
            return None;
        };
        tensor.requires_grad().then_some(tensor)
    }

    /// The same value with another tensor for its [`Self::end`].
    pub(crate) fn continued(&self, tensor: Tensor) -> Self {
        let value = match &self.data {
            Data::Pending { activation, .. } => Self::from_logits(tensor, *activation),
            _ => Self::new(tensor),
        };
        Self {
            mask: self.mask.clone(),
            ..value
        }
    }

    /// Rows `start..start + count`.
    ///
    /// # Errors
    /// There are fewer rows.
    pub fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        if let Data::Strings(strings) = &self.data {
            let index = |n: i64| usize::try_from(n).unwrap_or(0);
            return Ok(Self::from_strings(
                strings.narrow(index(start), index(count))?,
            ));
        }
        let mask = self.mask();
        let mask = mask
            .map(|mask| mask.f_narrow(0, start, count))
            .transpose()?;
        Ok(Self::new(self.y()?.f_narrow(0, start, count)?).with_mask(mask))
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::Tensor(tensor) | Data::Pending { logits: tensor, .. } => {
                DType::Tensor(tensor.kind())
            }
            Data::Strings(_) => DType::String,
        }
    }

    /// Kind of the tensor; that of float32 for strings, which no loss takes.
    pub fn kind(&self) -> Kind {
        self.dtype().kind().unwrap_or(Kind::Float)
    }

    /// Sizes of the axes.
    pub fn size(&self) -> Vec<i64> {
        match &self.data {
            Data::Tensor(tensor) | Data::Pending { logits: tensor, .. } => tensor.size(),
            Data::Strings(strings) => strings.shape().to_vec(),
        }
    }
}

impl Clone for Mask {
    fn clone(&self) -> Self {
        Self {
            tensor: self.tensor.shallow_clone(),
            taken: Arc::clone(&self.taken),
        }
    }
}

/// Shares the tensors; no element is copied.
impl Clone for Value {
    fn clone(&self) -> Self {
        let share = |cell: &OnceCell<Tensor>| {
            cell.get().map_or_else(OnceCell::new, |tensor| {
                OnceCell::from(tensor.shallow_clone())
            })
        };
        let data = match &self.data {
            Data::Tensor(tensor) => Data::Tensor(tensor.shallow_clone()),
            Data::Pending {
                logits,
                activation,
                y,
            } => Data::Pending {
                logits: logits.shallow_clone(),
                activation: *activation,
                y: share(y),
            },
            Data::Strings(strings) => Data::Strings(strings.clone()),
        };
        Self {
            data,
            mask: self.mask.clone(),
            values: share(&self.values),
        }
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::new(tensor)
    }
}

fn fill(cell: &OnceCell<Tensor>, make: impl FnOnce() -> Result<Tensor>) -> Result<&Tensor> {
    if let Some(tensor) = cell.get() {
        return Ok(tensor);
    }
    let tensor = make()?;
    Ok(cell.get_or_init(|| tensor))
}
