//! Max-pooling over three axes with TensorFlow's gradient: see `pooling.cpp`.
#![expect(unsafe_code, reason = "a function in C++")]

use std::ffi::{c_char, c_void};

use tch::{TchError, Tensor};

use crate::ffi::{RawTensor, Result, owned, pointer};

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_max_pool3d(
        x: RawTensor,
        size: *const i64,
        strides: *const i64,
        padding: *const i64,
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

/// The largest elements of windows over the last three axes of `x`, `[rows, channels, depth, height,
/// width]` in floating point. Where elements are equally large each of them gets the whole
/// gradient. Padding never wins.
///
/// # Errors
/// The windows have not three axes or do not fit, or memory runs out.
pub fn max_pool3d(x: &Tensor, size: &[i64], strides: &[i64], padding: &[i64]) -> Result<Tensor> {
    if [size, strides, padding].iter().any(|axes| axes.len() != 3) {
        let found = format!("windows {size:?}, strides {strides:?}, padding {padding:?}");
        return Err(TchError::Shape(format!("not three axes: {found}")));
    }
    // SAFETY: the tensor and arrays, of three elements, live until the call returns.
    owned(|error| unsafe {
        let (strides, padding) = (strides.as_ptr(), padding.as_ptr());
        flambeau_max_pool3d(pointer(x), size.as_ptr(), strides, padding, error)
    })
}
