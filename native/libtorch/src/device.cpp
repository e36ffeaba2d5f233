// Where libtorch lies, how many GPUs its part for them finds, and which thread their backward passes run in.

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/AutogradState.h>
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

// Has backward passes that this thread asks for run in it, also those on a GPU, for which libtorch has
// one thread for all that ask.
void flambeau_backward_in_own_thread() noexcept {
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
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
