//! A backward pass that hands gradients over one by one: see `backward.cpp`.
#![expect(unsafe_code, reason = "a function in C++ that calls back")]

use std::any::Any;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tch::{TchError, Tensor};

use crate::ffi::{RawTensor, Result, done, pointer};

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_backward(
        loss: RawTensor,
        leaves: *const RawTensor,
        count: usize,
        ready: extern "C" fn(*mut c_void, usize, RawTensor) -> bool,
        context: *mut c_void,
        error: *mut *mut c_char,
    );
}

/// What the pass calls, and how that went.
struct Caller<'a, E> {
    ready: &'a mut (dyn FnMut(usize, &Tensor) -> std::result::Result<(), E> + Send),
    failed: Option<E>,
    panicked: Option<Box<dyn Any + Send>>,
}

/// Calls `ready` with the gradient of the scalar `loss` by each of `leaves` that it depends on, by
/// its index, as soon as it is whole: while those of layers before it are still to come. Gradients on a
/// GPU are handed over in a thread of libtorch's, while this one waits.
///
/// # Errors
/// Those of `ready`, with which the pass ends, and those of libtorch.
pub fn backward<E: From<TchError> + Send>(
    loss: &Tensor,
    leaves: &[&Tensor],
    ready: &mut (dyn FnMut(usize, &Tensor) -> std::result::Result<(), E> + Send),
) -> std::result::Result<(), E> {
    let pointers: Vec<RawTensor> = leaves.iter().map(|leaf| pointer(leaf)).collect();
    let mut caller = Caller {
        ready,
        failed: None,
        panicked: None,
    };
    let context: *mut Caller<'_, E> = &raw mut caller;
    let passed: Result<()> = done(|error| {
        // SAFETY: the tensors live until the call returns, and `context` is what `call::<E>` takes,
        // which is called within this call only, one call at a time, in whatever thread: all of it can
        // be sent to another.
        unsafe {
            flambeau_backward(
                pointer(loss),
                pointers.as_ptr(),
                pointers.len(),
                call::<E>,
                context.cast(),
                error,
            );
        }
    });
    if let Some(panic) = caller.panicked {
        resume_unwind(panic);
    }
    match caller.failed {
        Some(failed) => Err(failed),
        None => Ok(passed?),
    }
}

/// No panic may cross C++: it goes on behind it.
extern "C" fn call<E>(context: *mut c_void, index: usize, gradient: RawTensor) -> bool {
    // SAFETY: `context` is the caller that `backward` has lent for the time of the pass; nobody else
    // uses it meanwhile, also where this is another thread.
    let caller = unsafe { &mut *context.cast::<Caller<'_, E>>() };
    let called = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: a tensor of the pass, alive during this call; the clone is one of its own.
        let gradient = unsafe { Tensor::clone_from_ptr(gradient.cast_mut().cast()) };
        (caller.ready)(index, &gradient)
    }));
    match called {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => caller.failed = Some(error),
        Err(panic) => caller.panicked = Some(panic),
    }
    false
}
