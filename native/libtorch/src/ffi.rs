//! Tensors and errors on their way from and to C++.
#![expect(unsafe_code, reason = "pointers from C++")]

use std::ffi::{CStr, c_char, c_void};

use tch::{TchError, Tensor};

/// What calls of libtorch give.
pub(crate) type Result<T> = std::result::Result<T, TchError>;

/// An `at::Tensor*`.
pub(crate) type RawTensor = *const c_void;

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_free(text: *mut c_char);
}

/// The `at::Tensor*` of a tensor.
pub(crate) fn pointer(tensor: &Tensor) -> RawTensor {
    tensor.as_ptr().cast()
}

/// The tensor that a call gives, or its error: see `ffi.h`.
pub(crate) fn owned(call: impl FnOnce(*mut *mut c_char) -> *mut c_void) -> Result<Tensor> {
    let mut error = std::ptr::null_mut();
    let tensor = call(&raw mut error);
    if !tensor.is_null() {
        // SAFETY: the call gave an `at::Tensor` made by `new`, which is what tch owns and deletes.
        return Ok(unsafe { Tensor::from_ptr(tensor.cast()) });
    }
    match message(error) {
        Some(message) => Err(TchError::Torch(message)),
        None => Err(TchError::Torch("an operator gave no tensor".to_owned())),
    }
}

/// The end of a call that gives nothing, or its error.
pub(crate) fn done(call: impl FnOnce(*mut *mut c_char)) -> Result<()> {
    let mut error = std::ptr::null_mut();
    call(&raw mut error);
    message(error).map_or(Ok(()), |message| Err(TchError::Torch(message)))
}

/// The message that a call has left, if it failed.
fn message(error: *mut c_char) -> Option<String> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the call left a string that ends with 0, which nobody else holds or frees.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        flambeau_free(error);
        Some(message)
    }
}
