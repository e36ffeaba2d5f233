//! Matrix products that are faster than libtorch's own: see `products.cpp`.
#![expect(unsafe_code, reason = "a function in C++")]

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_use_products();
}

/// Uses oneDNN for matrix products from now on, where that is faster. To be called once.
pub(crate) fn use_products() {
    // SAFETY: libtorch's table of operators may be changed while other threads read it.
    unsafe { flambeau_use_products() }
}
