// Copies from the host to a GPU beside what it computes.

#include <ATen/Functions.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "ffi.h"

namespace {

using at::Tensor;

// A stream of a GPU, of which a thread's calls make use while this lives.
class Entered {
 public:
  explicit Entered(c10::Stream stream)
      : guard_(stream.device_type()), before_(guard_.exchangeStream(stream)) {}
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  ~Entered() { guard_.exchangeStream(before_); }

 private:
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream before_;
};

}  // namespace

extern "C" {

// A stream for copies to GPU `index`, to be given to flambeau_free_stream; or null and a message.
c10::Stream* flambeau_copy_stream(int index, char** error) noexcept {
  c10::Stream* stream = nullptr;
  delete guarded(error, [&] {
    const c10::Device gpu(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
    c10::impl::VirtualGuardImpl guard(c10::kCUDA);
    stream = new c10::Stream(guard.getStreamFromGlobalPool(gpu, /*isHighPriority=*/false));
    return Tensor();
  });
  return stream;
}

void flambeau_free_stream(c10::Stream* stream) noexcept { delete stream; }

// Begins to copy `host` to the stream's GPU, by way of page-locked memory.
Tensor* flambeau_upload(const Tensor* host, const c10::Stream* stream, char** error) noexcept {
  return guarded(error, [&] {
    Entered entered(*stream);
    return host->pin_memory(stream->device()).to(stream->device(), /*non_blocking=*/true);
  });
}

// Has what this thread asks of the GPU from now on wait for all copies begun so far, and keeps the
// memory of `copy`, one of them, until it is done with that.
void flambeau_arrive(const Tensor* copy, const c10::Stream* stream, char** error) noexcept {
  delete guarded(error, [&] {
    c10::impl::VirtualGuardImpl guard(c10::kCUDA);
    const c10::Stream current = guard.getStream(stream->device());
    c10::Event copied(c10::kCUDA);
    copied.record(*stream);
    copied.block(current);
    guard.recordDataPtrOnStream(copy->storage().data_ptr(), current);
    return Tensor();
  });
}
}
