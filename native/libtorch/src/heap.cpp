// A heap for tensors: see heap.rs, which holds it.

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

namespace {

using Allocate = void* (*)(size_t);
using Free = void (*)(void*);

class Heap final : public c10::Allocator {
 public:
  Heap(Allocate allocate, Free free) : allocate_(allocate), free_(free) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* block = bytes ? allocate_(bytes) : nullptr;
    TORCH_CHECK(block || !bytes, "not enough memory for a tensor of ", bytes, " bytes");
    return {block, block, free_, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return free_; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  Allocate allocate_;
  Free free_;
};

}  // namespace

// Tensors get their memory from `allocate` from now on, which gives null if there is none, and give
// it to `free`, which is called with null too. Call it once. The heap is never destroyed: threads
// may have tensors while the process ends.
extern "C" void flambeau_use_heap(Allocate allocate, Free free) {
  c10::SetCPUAllocator(new Heap(allocate, free));
}
