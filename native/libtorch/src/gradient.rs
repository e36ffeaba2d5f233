//! A value whose gradient Rust knows: see `gradient.cpp`.
#![expect(unsafe_code, reason = "functions in C++, one that calls back")]

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

use crate::ffi::{RawTensor, Result, owned, pointer};

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_with_gradient(
        x: RawTensor,
        y: RawTensor,
        call: extern "C" fn(*mut c_void, RawTensor) -> *mut c_void,
        free: extern "C" fn(*mut c_void),
        context: *mut c_void,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn flambeau_is_same(a: RawTensor, b: RawTensor) -> bool;
}

/// The gradient by a value's origin, given that by the value; `None` ends the backward pass with an
/// error.
type Backward = Box<dyn FnMut(&Tensor) -> Option<Tensor> + Send>;

/// The values of `y` as a function of `x`: `backward` makes the gradient by `x`, of its shape, of
/// that by the result. It is called in the thread of the backward pass: for values on the CPU that
/// which asked for it, for those on a GPU one of libtorch's; if it gives `None` or panics, the pass ends with an error.
///
/// # Errors
/// Memory runs out.
pub fn with_gradient(
    x: &Tensor,
    y: &Tensor,
    backward: impl FnMut(&Tensor) -> Option<Tensor> + Send + 'static,
) -> Result<Tensor> {
    let backward: Box<Backward> = Box::new(Box::new(backward));
    let context = Box::into_raw(backward).cast::<c_void>();
    // SAFETY: the tensors live until the call returns; `context` is what `call` and `free` take,
    // and the callee owns it from here on.
    owned(|error| unsafe {
        flambeau_with_gradient(pointer(x), pointer(y), call, free, context, error)
    })
}

/// Whether both are one value of one graph, and not only of the same memory.
pub fn is_same(a: &Tensor, b: &Tensor) -> bool {
    // SAFETY: both live until the call returns.
    unsafe { flambeau_is_same(pointer(a), pointer(b)) }
}

extern "C" fn call(context: *mut c_void, slope: RawTensor) -> *mut c_void {
    // SAFETY: `context` is the function that `with_gradient` made, alive until `free`, and a
    // backward pass calls it once at a time.
    let backward = unsafe { &mut *context.cast::<Backward>() };
    // No panic may cross C++.
    let gradient = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: a tensor of the pass, alive during this call; the clone is one of its own.
        let slope = unsafe { Tensor::clone_from_ptr(slope.cast_mut().cast()) };
        backward(&slope)
    }));
    let Ok(Some(mut gradient)) = gradient else {
        return std::ptr::null_mut();
    };
    let pointer = gradient.as_mut_ptr();
    // The caller owns what the pointer leads to.
    std::mem::forget(gradient);
    pointer.cast()
}

extern "C" fn free(context: *mut c_void) {
    // SAFETY: `context` is the box that `with_gradient` leaked, and this is called once. A panic of
    // what it drops would end in `catch_unwind`, as none may cross C++.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe {
        drop(Box::from_raw(context.cast::<Backward>()));
    }));
    drop(dropped);
}
