// Where libtorch lies, and how many GPUs its part for them finds.

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "ffi.h"

extern "C" {

// The path of libtorch_cpu.so, to be given back to flambeau_free; null if the loader knows none.
char* flambeau_libtorch_path() noexcept {
  Dl_info found;
  if (!dladdr(reinterpret_cast<void*>(&at::detail::getCUDAHooks), &found) || !found.dli_fname) return nullptr;
  return strdup(found.dli_fname);
}

// How many GPUs there are; 0 too where libtorch_cuda.so was not loaded before libtorch first looked.
size_t flambeau_gpus() noexcept {
  try {
    const int count = at::hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0;
    return count > 0 ? static_cast<size_t>(count) : 0;
  } catch (...) {
    return 0;
  }
}
}
