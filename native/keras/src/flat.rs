//! Raw access to the memory of flat f32 tensors, so that optimizers and allreduce work on slices.
#![expect(unsafe_code, reason = "libtorch hands out memory only as raw pointers")]

use std::cell::Cell;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// A contiguous one-dimensional f32 tensor in the host's memory, owned here and never resized; and,
/// where libtorch computes with it on a GPU, a copy there, which is always as new.
#[derive(Debug)]
pub(crate) struct Flat {
    host: Tensor,
    gpu: Option<Tensor>,
    /// Whether only the GPU has the newest values.
    stale: Cell<bool>,
    len: usize,
}

impl Flat {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Result<Self> {
        let host = Tensor::f_zeros([len as i64], (Kind::Float, Device::Cpu))?;
        Ok(Self {
            host,
            gpu: None,
            stale: Cell::new(false),
            len,
        })
    }

    /// Has libtorch compute with the values on `device`. Views made before are of no use then.
    pub(crate) fn set_device(&mut self, device: Device) -> Result<()> {
        self.as_slice()?;
        self.gpu = match device {
            Device::Cpu => None,
            gpu => Some(self.host.f_to_device(gpu)?),
        };
        Ok(())
    }

    /// A tensor of `shape` that shares the memory that libtorch computes with, from element `offset` on.
    pub(crate) fn view(&self, offset: usize, shape: &[i64]) -> Result<Tensor> {
        let count = shape.iter().product();
        Ok(self
            .gpu
            .as_ref()
            .unwrap_or(&self.host)
            .f_narrow(0, offset as i64, count)?
            .f_view(shape)?
            .f_detach()?)
    }

    /// The values, brought from the GPU if they are newer there.
    ///
    /// # Errors
    /// The GPU fails.
    pub(crate) fn as_slice(&self) -> Result<&[f32]> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if let (true, Some(gpu)) = (self.stale.get(), &self.gpu) {
            // Nobody holds a slice of the host's memory: it became stale in a call of `set`, which had
            // `&mut self`, and slices are made behind this.
            self.host.f_data()?.f_copy_(gpu)?;
            self.stale.set(false);
        }
        // SAFETY: `zeros` made a contiguous CPU tensor of `len` f32, which lives as long as
        // `self`. libtorch writes to it only above and inside calls that write to a view of it; views
        // are lent as `&Tensor` by the store that owns `self`, nobody writes through them, and
        // writes through `change` need `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(self.host.data_ptr().cast::<f32>(), self.len) })
    }

    /// Has `change` change the values `range`, which it is given.
    ///
    /// # Errors
    /// The GPU fails.
    pub(crate) fn change<T>(
        &mut self,
        range: Range<usize>,
        change: impl FnOnce(&mut [f32]) -> T,
    ) -> Result<T> {
        self.as_slice()?;
        let values = if self.len == 0 {
            &mut []
        } else {
            // SAFETY: as in `as_slice`; `&mut self` excludes every other slice, and libtorch reads
            // views of this memory only inside calls, none of which runs during the borrow: tensors
            // are not `Sync`, and the store that lends the views is mutably borrowed too.
            unsafe { std::slice::from_raw_parts_mut(self.host.data_ptr().cast::<f32>(), self.len) }
        };
        let changed = change(&mut values[range.clone()]);
        if let Some(gpu) = &self.gpu {
            narrow(gpu, &range)?.f_copy_(&narrow(&self.host, &range)?)?;
        }
        Ok(changed)
    }

    /// Replaces the values `range` by those of a tensor of as many elements, wherever it is.
    ///
    /// # Errors
    /// libtorch fails.
    pub(crate) fn set(&mut self, range: Range<usize>, value: &Tensor) -> Result<()> {
        let mut own = narrow(self.gpu.as_ref().unwrap_or(&self.host), &range)?;
        own.f_copy_(&value.f_reshape([-1])?)?;
        self.stale.set(self.gpu.is_some());
        Ok(())
    }
}

/// Elements `range`, to be written to. What a pass has kept of them for its way back does not count as
/// changed: layers assign new values while they run.
fn narrow(flat: &Tensor, range: &Range<usize>) -> Result<Tensor> {
    Ok(flat
        .f_data()?
        .f_narrow(0, range.start as i64, range.len() as i64)?)
}

/// Copies a gradient, whatever its strides, into `out` in row-major order; an undefined one (of a
/// variable that the loss does not depend on) gives zeros.
///
/// # Errors
/// [`Error::LengthMismatch`] if `out` is not of its size.
pub(crate) fn write_gradient(tensor: &Tensor, out: &mut [f32]) -> Result<()> {
    if !tensor.defined() {
        out.fill(0.0);
        return Ok(());
    }
    in_shape_of(tensor, out, |target| Ok(target.f_copy_(tensor)?))
}

/// Adds a gradient to a variable's stretch of the gradients.
///
/// # Errors
/// As [`write_gradient`].
pub(crate) fn add_gradient(tensor: &Tensor, out: &mut [f32]) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let gradient = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    in_shape_of(tensor, out, |target| {
        let _sum = target.f_add_(&gradient)?;
        Ok(())
    })
}

/// Has `write` write to `out` as a tensor in the shape of a gradient.
fn in_shape_of(
    gradient: &Tensor,
    out: &mut [f32],
    write: impl FnOnce(&mut Tensor) -> Result<()>,
) -> Result<()> {
    if gradient.numel() != out.len() {
        return Err(Error::LengthMismatch {
            what: "a variable's gradient".to_owned(),
            expected: out.len(),
            actual: gradient.numel(),
        });
    }
    // SAFETY: the blob covers exactly `out`, which is borrowed mutably for as long as `target`
    // lives; what writes to it converts, and keeps no reference.
    let mut target = unsafe {
        Tensor::f_from_blob(
            out.as_mut_ptr().cast::<u8>(),
            &gradient.size(),
            &[],
            Kind::Float,
            Device::Cpu,
        )?
    };
    write(&mut target)
}
