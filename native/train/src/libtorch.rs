//! libtorch as a library in somebody else's process: its version, its memory, its exceptions.
#![expect(unsafe_code, reason = "mallopt and malloc_trim are C functions")]

use crate::error::Error;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// The release that the bindings are generated from and this library is linked against.
pub const VERSION: &str = "2.11.0";

/// Blocks of fewer bytes never come from `mmap`. glibc's own limit for it.
const MMAP_THRESHOLD: libc::c_int = 32 << 20;
/// The heap gives memory back to the system only above this much free space at its top.
const TRIM_THRESHOLD: libc::c_int = 1 << 30;
/// glibc's default of blocks that come from `mmap`, and go back to the system when they are freed.
const MMAP_MAX: libc::c_int = 65_536;

/// How many sessions live in this process.
static SESSIONS: Mutex<usize> = Mutex::new(0);

/// Freed memory stays with the process while one of these lives, because a training step frees and
/// asks for the same blocks again and again, and page faults would cost as much as the arithmetic.
/// The whole JVM shares the allocator. What is free when the last one goes is given back.
#[derive(Debug)]
pub(crate) struct KeptMemory(());

impl KeptMemory {
    /// Keeps freed memory from now on.
    pub(crate) fn begin() -> Self {
        let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        *sessions += 1;
        if *sessions == 1 {
            tune(0);
        }
        Self(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        *sessions -= 1;
        if *sessions == 0 {
            tune(MMAP_MAX);
            #[cfg(target_env = "gnu")]
            // SAFETY: malloc_trim works under the allocator's own locks and may be called at any
            // time; it gives back only pages that nobody has.
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }
}

/// Tells the allocator how many blocks may come from `mmap`.
fn tune(mmap_max: libc::c_int) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers, changes tunables of the allocator under its own lock, and
    // may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, mmap_max);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    }
}

/// Makes libtorch throw a C++ exception, which must come back as an error.
///
/// # Errors
/// Always [`Error::Torch`].
pub fn refuse_mismatched_shapes() -> Result<(), Error> {
    let square = |n: i64| Tensor::f_zeros([n, n], (Kind::Float, Device::Cpu));
    let _product = square(2)?.f_matmul(&square(3)?)?;
    Ok(())
}
