//! What `tch` leaves out of libtorch: where tensors get their memory, convolutions with what follows
//! them, faster matrix products, a pooling with TensorFlow's gradient, gradients that Rust knows, GPUs.

mod backward;
pub mod convolution;
mod device;
mod ffi;
mod gradient;
mod heap;
mod pooling;
mod products;
mod upload;

use std::sync::Once;

use tch::{Device, Kind, TchError, Tensor};

pub use backward::backward;
pub use device::{NoGpu, backward_in_own_thread, gpus, has_driver};
pub use gradient::{is_same, with_gradient};
pub use heap::{KeptMemory, trim_process_heap};
pub use pooling::max_pool3d;
pub use upload::Uploads;

/// The release that the bindings are generated from and this library is linked against.
pub const VERSION: &str = "2.11.0";

/// Sets up libtorch for this process, which is done once: tensors get a heap of their own, matrix
/// products are oneDNN's where those are faster, and GPUs can be used where there are any.
pub fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        device::load_with_driver();
        heap::use_heap();
        products::use_products();
    });
}

/// Makes libtorch throw a C++ exception, which must come back as an error.
///
/// # Errors
/// Always.
pub fn refuse_mismatched_shapes() -> Result<(), TchError> {
    let square = |n: i64| Tensor::f_zeros([n, n], (Kind::Float, Device::Cpu));
    let _product = square(2)?.f_matmul(&square(3)?)?;
    Ok(())
}
