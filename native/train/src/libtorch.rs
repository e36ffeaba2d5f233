//! libtorch as a library in somebody else's process: its version, its memory, its exceptions.
#![expect(unsafe_code, reason = "mallopt is a C function")]

use crate::error::Error;
use std::sync::Once;
use tch::{Device, Kind, Tensor};

/// The release that the bindings are generated from and this library is linked against.
pub const VERSION: &str = "2.11.0";

/// Blocks up to this size come from the heap, not from `mmap`. glibc's own limit for it.
const MMAP_THRESHOLD: libc::c_int = 32 << 20;
/// The heap gives memory back to the system only above this much free space at its top.
const TRIM_THRESHOLD: libc::c_int = 256 << 20;

/// Raises glibc's thresholds once per process, because a training step frees and asks for the same
/// few megabytes again and again, and page faults would cost more than the arithmetic. The whole
/// JVM shares them; they change only when free memory goes back to the system.
pub fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(target_env = "gnu")]
        // SAFETY: mallopt takes two integers, changes tunables of the allocator under its own
        // lock, and may be called at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        }
    });
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
