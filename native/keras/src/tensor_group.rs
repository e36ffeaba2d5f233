//! Tensor parallelism (Shoeybi et al., "Megatron-LM", 2019): the ranks of a group run one model over
//! the same batch, each with a part of the weights of some layers.
//!
//! `graph/splitting` says which layers those are. Between them values are whole, and the same on all
//! ranks to the bit. Three exchanges lead from one to the other, each with its gradient:
//!
//! ```text
//!                 forward                       backward
//! enter           the value itself              sum of the ranks' gradients
//! sum_of_group    sum of the ranks' values      the gradient itself
//! gathered        all parts, side by side       the own part of the gradient
//! ```
//!
//! Every rank must come to the same exchanges in the same order. Forward it is that of the graph. A
//! backward pass of libtorch on the CPU runs in the thread that asks for it, and of what can run it
//! always takes what was recorded last: so graphs that were recorded alike are gone through alike.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flambeau_libtorch::with_gradient;
use tch::Tensor;

use crate::error::{Error, Result};
use crate::flat::{Flat, write_gradient};
use crate::replicas::Failure;

/// A rank's place in a tensor group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorPart {
    /// Which of the ranks it is, from 0 on.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Default for TensorPart {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl TensorPart {
    /// That of a rank that has all of every variable.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The number of ranks, as sizes are counted.
    pub(crate) fn ranks(self) -> i64 {
        i64::try_from(self.count).unwrap_or(i64::MAX)
    }

    /// Whether an axis of this size comes apart into parts of one size, of several ranks.
    pub(crate) fn divides(self, size: i64) -> bool {
        self.count > 1 && size % self.ranks() == 0
    }

    /// The rank's part of an axis; parts differ by one where the size does not divide.
    pub(crate) fn of(self, size: i64) -> Range<i64> {
        let index = i64::try_from(self.index).unwrap_or(0);
        size * index / self.ranks()..size * (index + 1) / self.ranks()
    }

    /// The rank's part of a value that all have, along `axis`.
    pub(crate) fn narrow(self, whole: &Tensor, axis: usize) -> Result<Tensor> {
        let size = whole.size().get(axis).copied().unwrap_or(0);
        let own = self.of(size);
        let axis = i64::try_from(axis).unwrap_or(0);
        Ok(whole.f_narrow(axis, own.start, own.end - own.start)?)
    }
}

/// What a rank of a tensor group holds of a variable that is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The shape of the whole variable.
    pub shape: Vec<i64>,
    /// The axis that is cut.
    pub axis: usize,
    /// What is here of that axis; the other axes are here as a whole.
    pub range: Range<i64>,
}

impl Held {
    /// The shape of what is here.
    pub fn own_shape(&self) -> Vec<i64> {
        let mut shape = self.shape.clone();
        if let Some(size) = shape.get_mut(self.axis) {
            *size = self.range.end - self.range.start;
        }
        shape
    }

    /// What is here of the values of the whole variable, row-major: stretches of its elements in
    /// their order.
    pub fn stretches(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = |sizes: &[i64]| usize::try_from(sizes.iter().product::<i64>()).unwrap_or(0);
        let (before, behind) = self.shape.split_at(self.axis.min(self.shape.len()));
        let (axis, behind) = behind.split_first().unwrap_or((&1, &[]));
        let (rows, width) = (size(before), size(behind));
        let stride = size(&[*axis]) * width;
        let [start, end] =
            [self.range.start, self.range.end].map(|at| usize::try_from(at).unwrap_or(0) * width);
        (0..rows).map(move |row| row * stride + start..row * stride + end)
    }

    /// The values of the whole variable that are here, row-major.
    pub fn take(&self, whole: &[f32]) -> Vec<f32> {
        let stretches = self.stretches().filter_map(|stretch| whole.get(stretch));
        stretches.flatten().copied().collect()
    }

    /// Puts the values that are here, row-major, to their places in the whole variable.
    pub fn put(&self, own: &[f32], whole: &mut [f32]) {
        let mut own = own.iter();
        for stretch in self.stretches() {
            let places = whole.get_mut(stretch).unwrap_or_default();
            places
                .iter_mut()
                .zip(&mut own)
                .for_each(|(place, value)| *place = *value);
        }
    }

    /// What is here of a whole value.
    pub(crate) fn of(&self, whole: &Tensor) -> Result<Tensor> {
        let axis = i64::try_from(self.axis).unwrap_or(0);
        let len = self.range.end - self.range.start;
        let whole = whole.f_view(self.shape.as_slice())?;
        Ok(whole.f_narrow(axis, self.range.start, len)?)
    }
}

/// The ranks of a tensor group, this one among them, as a pass sees them.
pub trait TensorGroup: Debug + Send {
    /// Replaces `values` by their sums over the group, which must be the same bits on all ranks.
    ///
    /// # Errors
    /// Another rank is lost.
    fn sum(&mut self, values: &mut [f32]) -> Result<(), Failure>;

    /// Fills `values`, a stretch of one length for each rank, in which the other ranks' are zeros,
    /// with what those have in theirs.
    ///
    /// # Errors
    /// Another rank is lost.
    fn gather(&mut self, values: &mut [f32]) -> Result<(), Failure> {
        self.sum(values)
    }
}

/// The group of a pass, which its graph holds too.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    ranks: Arc<Mutex<dyn TensorGroup>>,
    /// What an exchange of the backward pass failed with.
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Group {
    pub(crate) fn new(ranks: Arc<Mutex<dyn TensorGroup>>) -> Self {
        Self {
            ranks,
            failure: Arc::default(),
        }
    }

    /// `x`, which all ranks have, on its way into layers of which each has a part.
    pub(crate) fn enter(&self, x: &Tensor) -> Result<Tensor> {
        if !x.requires_grad() {
            return Ok(x.shallow_clone());
        }
        let group = self.clone();
        let backward = move |slope: &Tensor| group.keep_failure(group.sum(slope));
        Ok(with_gradient(x, &x.f_detach()?, backward)?)
    }

    /// The sum of what all ranks have, in float32 whatever the dtype.
    pub(crate) fn sum_of_group(&self, x: &Tensor) -> Result<Tensor> {
        let sum = self.sum(&x.f_detach()?)?;
        if !x.requires_grad() {
            return Ok(sum);
        }
        Ok(with_gradient(x, &sum, |slope| Some(slope.shallow_clone()))?)
    }

    /// The parts of all ranks side by side along `axis`, where `x` is that of `part`.
    pub(crate) fn gathered(&self, x: &Tensor, axis: usize, part: TensorPart) -> Result<Tensor> {
        let whole = self.gather(&x.f_detach()?, axis, part)?;
        if !x.requires_grad() {
            return Ok(whole);
        }
        let group = self.clone();
        let backward = move |slope: &Tensor| group.keep_failure(part.narrow(slope, axis));
        Ok(with_gradient(x, &whole, backward)?)
    }

    /// What an exchange of the backward pass failed with.
    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }

    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = Flat::zeros(x.numel())?;
        values.change(0..x.numel(), |values| {
            write_gradient(x, values)?;
            lock(&self.ranks).sum(values).map_err(Error::Group)
        })??;
        like(x, &values.view(0, &x.size())?)
    }

    fn gather(&self, x: &Tensor, axis: usize, part: TensorPart) -> Result<Tensor> {
        let len = x.numel();
        let mut values = Flat::zeros(len * part.count)?;
        let own = len * part.index..len * (part.index + 1);
        values.change(0..len * part.count, |values| {
            write_gradient(x, &mut values[own])?;
            lock(&self.ranks).gather(values).map_err(Error::Group)
        })??;
        let mut size = x.size();
        let parts = values.view(0, &[&[part.ranks()], size.as_slice()].concat())?;
        if let Some(size) = size.get_mut(axis) {
            *size *= part.ranks();
        }
        let axis = i64::try_from(axis).unwrap_or(0);
        like(x, &parts.f_movedim_int(0, axis)?.f_reshape(size)?)
    }

    /// The gradient, or none and the reason for [`Self::failure`].
    fn keep_failure(&self, gradient: Result<Tensor>) -> Option<Tensor> {
        match gradient {
            Ok(gradient) => Some(gradient),
            Err(Error::Group(failure)) => {
                *lock(&self.failure) = Some(failure);
                None
            }
            Err(error) => {
                *lock(&self.failure) = Some(Box::new(error));
                None
            }
        }
    }
}

/// float32 values in the dtype and on the device of `x`.
fn like(x: &Tensor, values: &Tensor) -> Result<Tensor> {
    Ok(values.f_to_kind(x.f_kind()?)?.f_to_device(x.device())?)
}

/// Whoever panicked with the lock has ended the pass.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
