//! Convolutions that run on oneDNN with what follows them: see `convolution.cpp`.
#![expect(unsafe_code, reason = "tch has no binding for these operators")]

use std::ffi::{c_char, c_void};

use tch::Tensor;

use crate::ffi::{RawTensor, Result, owned, pointer};

/// The windows of a convolution: for rows and for columns each.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Zeros before the first and after the last.
    pub padding: [i64; 2],
    /// From one window to the next.
    pub strides: [i64; 2],
    /// From one element of a window to the next.
    pub dilation: [i64; 2],
    /// Into how many groups of channels the inputs fall.
    pub groups: i64,
}

/// `FlambeauWindow`.
#[repr(C)]
struct RawWindow {
    padding: *const i64,
    strides: *const i64,
    dilation: *const i64,
    groups: i64,
}

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_packed_kernel(
        kernel: RawTensor,
        window: *const RawWindow,
        size: *const i64,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn flambeau_convolution(
        x: RawTensor,
        kernel: RawTensor,
        bias: RawTensor,
        window: *const RawWindow,
        relu: bool,
        most: f64,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn flambeau_convolution_sum(
        x: RawTensor,
        sum: RawTensor,
        kernel: RawTensor,
        bias: RawTensor,
        window: *const RawWindow,
        relu: bool,
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

impl Window {
    fn raw(&self) -> RawWindow {
        RawWindow {
            padding: self.padding.as_ptr(),
            strides: self.strides.as_ptr(),
            dilation: self.dilation.as_ptr(),
            groups: self.groups,
        }
    }
}

/// A kernel `[filters, inputs / groups, rows, columns]` as oneDNN wants it for inputs of `size`,
/// `[batch, channels, rows, columns]`; inputs of other sizes are convolved too.
///
/// # Errors
/// This libtorch has no oneDNN, or not for such a kernel.
pub fn packed_kernel(kernel: &Tensor, window: &Window, size: [i64; 4]) -> Result<Tensor> {
    let raw = window.raw();
    // SAFETY: the tensors and arrays live until the call returns, and `size` has four elements.
    owned(|error| unsafe { flambeau_packed_kernel(pointer(kernel), &raw, size.as_ptr(), error) })
}

/// What is left of the results of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// All of them.
    Linear,
    /// Those from 0 up to a greatest one, which may be infinite.
    Relu(f64),
}

/// The convolution of `x`, channels second, with a packed kernel.
///
/// # Errors
/// The shapes do not fit, or memory runs out.
pub fn convolution(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    end: End,
) -> Result<Tensor> {
    let raw = window.raw();
    let bias = bias.map_or(std::ptr::null(), pointer);
    let (relu, most) = match end {
        End::Linear => (false, 0.0),
        End::Relu(most) => (true, most),
    };
    // SAFETY: the tensors and arrays live until the call returns; a null bias is none.
    owned(|error| unsafe {
        flambeau_convolution(pointer(x), pointer(kernel), bias, &raw, relu, most, error)
    })
}

/// Adds the convolution of `x` to `sum`, in its memory, and then cuts that to what a relu leaves, if
/// there is one. `sum` must not share memory with `x`.
///
/// # Errors
/// As [`convolution`].
pub fn convolution_sum(
    x: &Tensor,
    sum: &mut Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    relu: bool,
) -> Result<Tensor> {
    let raw = window.raw();
    let bias = bias.map_or(std::ptr::null(), pointer);
    // SAFETY: the tensors and arrays live until the call returns; a null bias is none.
    owned(|error| unsafe {
        let (x, sum, kernel) = (pointer(x), pointer(sum), pointer(kernel));
        flambeau_convolution_sum(x, sum, kernel, bias, &raw, relu, error)
    })
}
