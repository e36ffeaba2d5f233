//! Copies from the host to a GPU beside what it computes: see `upload.cpp`.
#![expect(unsafe_code, reason = "functions in C++")]

use std::ffi::{c_char, c_int, c_void};

use tch::{Device, Tensor};

use crate::ffi::{RawTensor, Result, done, owned, pointer};

/// A `c10::Stream*`.
type RawStream = *mut c_void;

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_copy_stream(index: c_int, error: *mut *mut c_char) -> RawStream;
    fn flambeau_free_stream(stream: RawStream);
    fn flambeau_upload(host: RawTensor, stream: RawStream, error: *mut *mut c_char) -> *mut c_void;
    fn flambeau_arrive(copy: RawTensor, stream: RawStream, error: *mut *mut c_char);
}

/// The way of batches to a GPU, which they take while it computes.
#[derive(Debug)]
pub struct Uploads {
    stream: RawStream,
}

// SAFETY: a stream is three numbers that nobody changes, and libtorch's calls with one may be made in
// any thread.
unsafe impl Send for Uploads {}
// SAFETY: as above.
unsafe impl Sync for Uploads {}

impl Uploads {
    /// That to a GPU; none to the CPU, where tensors are already.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn to(device: Device) -> Result<Option<Self>> {
        let Device::Cuda(index) = device else {
            return Ok(None);
        };
        let index = c_int::try_from(index).unwrap_or(c_int::MAX);
        let mut stream = std::ptr::null_mut();
        done(|error| {
            // SAFETY: the function takes a number.
            stream = unsafe { flambeau_copy_stream(index, error) };
        })?;
        Ok(Some(Self { stream }))
    }

    /// Begins to copy a tensor of the host.
    ///
    /// # Errors
    /// The GPU or the host has no memory for it, or the GPU fails.
    pub fn start(&self, host: &Tensor) -> Result<Tensor> {
        // SAFETY: the tensor lives until the call returns, the stream as long as `self`.
        owned(|error| unsafe { flambeau_upload(pointer(host), self.stream, error) })
    }

    /// Has what this thread does next on the GPU wait for a copy that was begun in any thread.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn arrive(&self, copy: &Tensor) -> Result<()> {
        // SAFETY: as in `start`.
        done(|error| unsafe { flambeau_arrive(pointer(copy), self.stream, error) })
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // SAFETY: made in `to`, or null, and freed once.
        unsafe { flambeau_free_stream(self.stream) };
    }
}
