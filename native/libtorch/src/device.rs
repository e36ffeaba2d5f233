//! GPUs. libtorch's part for them, `libtorch_cuda.so`, lies beside `libtorch_cpu.so` in a build that
//! has one; nothing here is linked against it. It is loaded by its path, before libtorch first looks
//! for GPUs, as it does not look again: when libtorch is [set up](crate::set_up) on a machine with
//! NVIDIA's driver, and at the latest when somebody asks for a GPU.
#![expect(unsafe_code, reason = "a library that is loaded by its path")]

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use thiserror::Error;

/// The part of libtorch that runs on GPUs.
const LIBTORCH_CUDA: &str = "libtorch_cuda.so";

/// Where NVIDIA's driver is found by programs.
const DRIVER: &str = "libcuda.so.1";

/// Why a process has no GPU to compute on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoGpu {
    /// libtorch here has no part for them.
    #[error(
        "libtorch in {} is a build for CPUs (it has no {LIBTORCH_CUDA}): install one for CUDA, of \
         release {}",
        .0.display(), crate::VERSION
    )]
    CpuBuild(PathBuf),
    /// The part does not load.
    #[error("{} does not load: {reason}", .path.display())]
    Unloadable {
        /// The part.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// There is no driver.
    #[error(
        "there is no NVIDIA driver ({0}): install it on the node, or let the container see it \
         (NVIDIA's container runtime)"
    )]
    NoDriver(String),
    /// The one that is named is not there.
    #[error("GPU {index} is not there: libtorch finds {count}, counted from 0")]
    NoSuch {
        /// The one that is named.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// libtorch finds no GPU.
    #[error(
        "libtorch finds no GPU: the container may see none, CUDA_VISIBLE_DEVICES may be empty, or the \
         driver be too old for this libtorch (nvidia-smi tells)"
    )]
    NotFound,
}

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_libtorch_path() -> *mut c_char;
    fn flambeau_free(text: *mut c_char);
    fn flambeau_gpus() -> usize;
    fn flambeau_backward_in_own_thread();
}

/// How many GPUs this process can compute on; never 0.
///
/// # Errors
/// Why there are none.
pub fn gpus() -> Result<usize, NoGpu> {
    loaded().clone()?;
    // SAFETY: the function takes nothing and may be called at any time.
    match unsafe { flambeau_gpus() } {
        0 => Err(driver().err().map_or(NoGpu::NotFound, NoGpu::NoDriver)),
        count => Ok(count),
    }
}

/// Has backward passes that this thread asks for run in it from now on, also those on a GPU. Else
/// libtorch has one thread for all passes on that, and one that waits for another would wait for ever.
pub fn backward_in_own_thread() {
    // SAFETY: the function changes a setting of this thread.
    unsafe { flambeau_backward_in_own_thread() }
}

/// Whether the machine has NVIDIA's driver.
pub fn has_driver() -> bool {
    driver().is_ok()
}

/// Loads the part for GPUs if the machine has a driver.
pub(crate) fn load_with_driver() {
    if has_driver() {
        // Why it failed is told to those who ask for a GPU.
        let _outcome = loaded();
    }
}

/// The part for GPUs is loaded, or why it is not.
fn loaded() -> &'static Result<(), NoGpu> {
    static LOADED: OnceLock<Result<(), NoGpu>> = OnceLock::new();
    LOADED.get_or_init(|| {
        let folder = folder();
        let path = folder.join(LIBTORCH_CUDA);
        if !path.exists() {
            return Err(NoGpu::CpuBuild(folder));
        }
        load(&path).map_err(|reason| NoGpu::Unloadable { path, reason })
    })
}

/// The driver is there, or what the loader says.
fn driver() -> Result<(), String> {
    load(Path::new(DRIVER))
}

/// The folder that libtorch was loaded from; the current one if the loader does not say.
fn folder() -> PathBuf {
    // SAFETY: the function gives null or a string that ends with 0, which nobody else holds or frees.
    let file = unsafe {
        let path = flambeau_libtorch_path();
        if path.is_null() {
            return PathBuf::new();
        }
        let file = CStr::from_ptr(path).to_string_lossy().into_owned();
        flambeau_free(path);
        file
    };
    Path::new(&file)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// Loads a library for good, its symbols for all.
fn load(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: loading runs the library's initializers: libtorch's register its kernels, which they do
    // from any thread; NVIDIA's driver has none that touch others. The message that dlerror gives is
    // this thread's, until its next call of the loader.
    unsafe {
        if !libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            return Ok(());
        }
        let message = libc::dlerror();
        if message.is_null() {
            return Err("the loader does not say why".to_owned());
        }
        Err(CStr::from_ptr(message).to_string_lossy().into_owned())
    }
}
