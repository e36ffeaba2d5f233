//! A model's variables: one flat f32 buffer with a shaped view per variable, so that allreduce and
//! optimizers see one slice while libtorch sees tensors.

use std::ops::Range;

use tch::Tensor;

use crate::error::{Error, Result};
use crate::flat::Flat;

/// One variable of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Keras's path without the model's name, such as `conv2d/kernel`.
    pub path: String,
    /// Index of the layer in the model's config.
    pub layer: usize,
    /// Keras's name within the layer, such as `kernel`.
    pub name: String,
    /// Keras's shape (HWIO for convolutions, `[in, units]` for Dense).
    pub shape: Vec<i64>,
    /// Position of the first element in the store.
    pub offset: usize,
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
    tensors: Vec<Tensor>,
    flat: Flat,
}

impl VariableStore {
    /// A store of zeros. `variables` are laid out in their order; their offsets are set here. With
    /// `trainable` the tensors are leaves that require gradients.
    pub fn zeros(mut variables: Vec<Variable>, trainable: bool) -> Result<Self> {
        let mut len = 0;
        for variable in &mut variables {
            variable.offset = len;
            len += variable.len();
        }
        let flat = Flat::zeros(len)?;
        let tensors = variables
            .iter()
            .map(|variable| {
                let view = flat.view(variable.offset, &variable.shape)?;
                Ok(view.f_set_requires_grad(trainable)?)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            variables,
            tensors,
            flat,
        })
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
    pub fn as_slice(&self) -> &[f32] {
        self.flat.as_slice()
    }

    /// All values, to be changed between two passes (never between forward and backward).
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.flat.as_mut_slice()
    }

    /// The values of variable `index`, row-major.
    pub fn values(&self, index: usize) -> &[f32] {
        &self.as_slice()[self.variables[index].span()]
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
        self.as_mut_slice()[span].copy_from_slice(values);
        Ok(())
    }

    /// Each variable's place in the slice.
    pub fn spans(&self) -> Vec<Range<usize>> {
        self.variables.iter().map(Variable::span).collect()
    }

    /// Number of elements over all variables.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
