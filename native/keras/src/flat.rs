//! Raw access to the memory of flat f32 tensors, so that optimizers and allreduce work on slices.
#![expect(unsafe_code, reason = "libtorch hands out memory only as raw pointers")]

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// A contiguous one-dimensional f32 tensor in CPU memory, owned here and never resized.
#[derive(Debug)]
pub(crate) struct Flat {
    tensor: Tensor,
    len: usize,
}

impl Flat {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Result<Self> {
        let tensor = Tensor::f_zeros([len as i64], (Kind::Float, Device::Cpu))?;
        Ok(Self { tensor, len })
    }

    /// A tensor of `shape` that shares the memory from element `offset` on.
    pub(crate) fn view(&self, offset: usize, shape: &[i64]) -> Result<Tensor> {
        let count = shape.iter().product();
        Ok(self
            .tensor
            .f_narrow(0, offset as i64, count)?
            .f_view(shape)?
            .f_detach()?)
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `zeros` made a contiguous CPU tensor of `len` f32, which lives as long as
        // `self`. libtorch writes to it only inside calls that write to a view of it; views are
        // lent as `&Tensor` by the store that owns `self`, nobody writes through them, and
        // writes through `as_mut_slice` need `&mut self`.
        unsafe { std::slice::from_raw_parts(self.tensor.data_ptr().cast::<f32>(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: as in `as_slice`; `&mut self` excludes every other slice, and libtorch reads
        // views of this memory only inside calls, none of which runs during the borrow: tensors
        // are not `Sync`, and the store that lends the views is mutably borrowed too.
        unsafe { std::slice::from_raw_parts_mut(self.tensor.data_ptr().cast::<f32>(), self.len) }
    }
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
    let gradient = tensor.f_to_kind(Kind::Float)?;
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
