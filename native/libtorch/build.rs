//! Compiles what is C++ here against libtorch.

use std::path::PathBuf;

const SOURCES: [&str; 9] = [
    "src/backward.cpp",
    "src/convolution.cpp",
    "src/device.cpp",
    "src/ffi.cpp",
    "src/gradient.cpp",
    "src/heap.cpp",
    "src/pooling.cpp",
    "src/products.cpp",
    "src/upload.cpp",
];

fn main() {
    println!("cargo::rerun-if-changed=src/ffi.h");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from);
    let libtorch =
        libtorch.expect("LIBTORCH is not set: run make setup, and cargo below this checkout");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .flag("-isystem")
        .flag(libtorch.join("include"))
        .files(SOURCES)
        .compile("flambeau_libtorch");
}
