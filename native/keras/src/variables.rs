//! A model's variables: trainable ones in one flat f32 buffer with a shaped view per variable, so
//! that allreduce and optimizers see one slice while libtorch sees tensors; the others in a second
//! one, or in tensors of their own if they are not f32.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::flat::Flat;
use crate::tensor_group::Held;

/// One variable of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Keras's path without the model's name, such as `conv2d/kernel`.
    pub path: String,
    /// Index of the layer in the model.
    pub layer: usize,
    /// Keras's name within the layer, such as `kernel`.
    pub name: String,
    /// Keras's shape (HWIO for convolutions, `[in, units]` for Dense).
    pub shape: Vec<i64>,
    /// Position of the first element in the store.
    pub offset: usize,
    /// Which part of the variable this is, if a tensor group has split it: the shape is the part's.
    pub held: Option<Held>,
}

impl Variable {
    /// The shape in `usize`, as files have it.
    pub fn sizes(&self) -> Vec<usize> {
        self.shape
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(0))
            .collect()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.sizes().iter().product()
    }

    /// Whether the variable holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements it takes in the store.
    pub fn span(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Variables of one kind (trainable or not) in Keras's order, in one flat buffer.
#[derive(Debug)]
pub struct VariableStore {
    variables: Vec<Variable>,
    trainable: bool,
    tensors: Vec<Tensor>,
    flat: Flat,
}

impl VariableStore {
    /// A store of zeros. `variables` are laid out in their order; their offsets are set here. With
    /// `trainable` the tensors are leaves that require gradients.
    pub fn zeros(mut variables: Vec<Variable>, trainable: bool) -> Result<Self> {
        let mut len = 0_usize;
        for variable in &mut variables {
            variable.offset = len;
            len = len.saturating_add(variable.len());
        }
        let mut store = Self {
            flat: Flat::zeros(len)?,
            tensors: Vec::new(),
            variables,
            trainable,
        };
        store.view()?;
        Ok(store)
    }

    /// Makes the shaped views anew.
    fn view(&mut self) -> Result<()> {
        let view = |variable: &Variable| {
            let view = self.flat.view(variable.offset, &variable.shape)?;
            Ok(view.f_set_requires_grad(self.trainable)?)
        };
        self.tensors = self.variables.iter().map(view).collect::<Result<_>>()?;
        Ok(())
    }

    /// Has libtorch compute with the variables on `device`.
    pub(crate) fn set_device(&mut self, device: Device) -> Result<()> {
        self.flat.set_device(device)?;
        self.view()
    }

    /// The variables, in Keras's order.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The shaped view of variable `index` on the flat buffer: read it, never write through it.
    pub fn tensor(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }

    /// All shaped views, in the order of [`Self::variables`].
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// All values, variable after variable, each in row-major order.
    ///
    /// # Errors
    /// They are on a GPU, which fails.
    pub fn as_slice(&self) -> Result<&[f32]> {
        self.flat.as_slice()
    }

    /// Has `change` change all values between two passes (never between forward and backward).
    ///
    /// # Errors
    /// They are on a GPU, which fails.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
        self.flat.change(0..self.len(), change)
    }

    /// The values of variable `index`, row-major.
    ///
    /// # Errors
    /// They are on a GPU, which fails.
    pub fn values(&self, index: usize) -> Result<&[f32]> {
        Ok(&self.as_slice()?[self.variables[index].span()])
    }

    /// Replaces the values of variable `index`; an error if the count differs.
    pub fn set(&mut self, index: usize, values: &[f32]) -> Result<()> {
        let variable = &self.variables[index];
        if values.len() != variable.len() {
            return Err(Error::LengthMismatch {
                what: format!("value of variable {}", variable.path),
                expected: variable.len(),
                actual: values.len(),
            });
        }
        let span = variable.span();
        self.flat.change(span, |own| own.copy_from_slice(values))
    }

    /// Each variable's place in the slice.
    pub fn spans(&self) -> Vec<Range<usize>> {
        self.variables.iter().map(Variable::span).collect()
    }

    /// Number of elements over all variables.
    pub fn len(&self) -> usize {
        self.variables.last().map_or(0, |last| last.span().end)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A variable as its layer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub(crate) usize);

/// Where a variable is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Index in the trainable store.
    Trainable(usize),
    /// Index in the store of f32 variables that gradients do not change.
    Fixed(usize),
    /// Index among the variables of other dtypes.
    Other(usize),
    /// Not here: index among the variables of other stages of the model.
    Elsewhere(usize),
}

/// All variables of a model, found by handle.
#[derive(Debug)]
pub struct Variables {
    slots: Vec<Slot>,
    pub(crate) trainable: VariableStore,
    pub(crate) fixed: VariableStore,
    others: Vec<(Variable, Tensor)>,
    elsewhere: Vec<Variable>,
    /// In the place of what is elsewhere.
    nothing: Tensor,
    device: Device,
}

/// A variable to be allocated.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) handle: Handle,
    pub(crate) variable: Variable,
    pub(crate) kind: Kind,
    pub(crate) trainable: bool,
    /// Whether it gets no memory, as it is of another stage of the model.
    pub(crate) elsewhere: bool,
}

impl Variables {
    /// Zeros for every variable that is here. `wanted` is in Keras's order of layers and names every handle
    /// from 0 on once.
    pub(crate) fn allocate(wanted: Vec<Wanted>) -> Result<Self> {
        let mut slots = vec![Slot::Other(usize::MAX); wanted.len()];
        let (mut trainable, mut fixed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut absent = Vec::new();
        for Wanted {
            handle,
            variable,
            kind,
            trainable: learns,
            elsewhere,
        } in wanted
        {
            slots[handle.0] = if elsewhere {
                absent.push(variable);
                Slot::Elsewhere(absent.len() - 1)
            } else if kind != Kind::Float {
                let zeros = Tensor::f_zeros(variable.shape.as_slice(), (kind, Device::Cpu))?;
                others.push((variable, zeros));
                Slot::Other(others.len() - 1)
            } else if learns {
                trainable.push(variable);
                Slot::Trainable(trainable.len() - 1)
            } else {
                fixed.push(variable);
                Slot::Fixed(fixed.len() - 1)
            };
        }
        Ok(Self {
            slots,
            trainable: VariableStore::zeros(trainable, true)?,
            fixed: VariableStore::zeros(fixed, false)?,
            others,
            elsewhere: absent,
            nothing: Tensor::new(),
            device: Device::Cpu,
        })
    }

    /// Has libtorch compute with all of them on `device`.
    pub(crate) fn set_device(&mut self, device: Device) -> Result<()> {
        self.trainable.set_device(device)?;
        self.fixed.set_device(device)?;
        for (_, tensor) in &mut self.others {
            *tensor = tensor.f_to_device(device)?;
        }
        self.device = device;
        Ok(())
    }

    /// Where libtorch computes with them.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Where the variable is kept.
    pub fn slot(&self, handle: Handle) -> Slot {
        self.slots[handle.0]
    }

    /// Whether the variable has a value here, and not in another stage of the model.
    pub fn is_here(&self, handle: Handle) -> bool {
        !matches!(self.slot(handle), Slot::Elsewhere(_))
    }

    /// The variable's value, of its shape; an undefined tensor if it is elsewhere.
    pub fn tensor(&self, handle: Handle) -> &Tensor {
        match self.slot(handle) {
            Slot::Trainable(index) => self.trainable.tensor(index),
            Slot::Fixed(index) => self.fixed.tensor(index),
            Slot::Other(index) => &self.others[index].1,
            Slot::Elsewhere(_) => &self.nothing,
        }
    }

    /// Path, name and shape of the variable.
    pub fn variable(&self, handle: Handle) -> &Variable {
        match self.slot(handle) {
            Slot::Trainable(index) => &self.trainable.variables()[index],
            Slot::Fixed(index) => &self.fixed.variables()[index],
            Slot::Other(index) => &self.others[index].0,
            Slot::Elsewhere(index) => &self.elsewhere[index],
        }
    }

    /// Replaces the value of a variable by what is held of `whole`, of as many elements as the whole
    /// variable.
    ///
    /// # Errors
    /// Their number differs, or libtorch fails.
    pub(crate) fn set_whole(&mut self, handle: Handle, whole: &Tensor) -> Result<()> {
        match &self.variable(handle).held {
            Some(held) => self.set(handle, &held.of(whole)?),
            None => self.set(handle, whole),
        }
    }

    /// Replaces the value of a variable by `value`, of the same number of elements. That of a variable
    /// which is elsewhere is left to those who have it.
    ///
    /// # Errors
    /// Their number differs, or libtorch fails.
    pub fn set(&mut self, handle: Handle, value: &Tensor) -> Result<()> {
        let variable = self.variable(handle);
        if value.numel() != variable.len() {
            return Err(Error::LengthMismatch {
                what: format!("value of variable {}", variable.path),
                expected: variable.len(),
                actual: value.numel(),
            });
        }
        let _guard = tch::no_grad_guard();
        let span = variable.span();
        match self.slot(handle) {
            Slot::Trainable(_) => self.trainable.flat.set(span, value),
            Slot::Fixed(_) => self.fixed.flat.set(span, value),
            Slot::Other(index) => {
                let tensor = &mut self.others[index].1;
                let value = value.f_reshape(tensor.size().as_slice())?;
                tensor.f_copy_(&value)?;
                Ok(())
            }
            Slot::Elsewhere(_) => Ok(()),
        }
    }
}
