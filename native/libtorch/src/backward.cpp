// A backward pass that hands gradients over one by one, as soon as each is whole.

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/autograd.h>

#include <mutex>
#include <stdexcept>
#include <vector>

#include "ffi.h"

namespace {

using at::Tensor;

// The hooks of one pass, which are gone with it, also when it fails.
class Hooks {
 public:
  ~Hooks() {
    for (auto& [leaf, hook] : hooks_) leaf.remove_hook(hook);
  }

  template <typename Hook>
  void add(const Tensor& leaf, Hook hook) {
    hooks_.emplace_back(leaf, leaf.register_hook(hook));
  }

 private:
  std::vector<std::pair<Tensor, unsigned>> hooks_;
};

}  // namespace

// Calls ready(context, i, gradient) with the gradient of the scalar `loss` by each of `count` leaves
// i that it depends on, in the order in which they are known, one call at a time, in this thread or in
// that of the leaf's device; ends if that gives false. Returns 0, or
// leaves a message in *error: see ffi.h.
extern "C" void flambeau_backward(const Tensor* loss, const Tensor* const* leaves, size_t count,
                                  bool (*ready)(void*, size_t, const Tensor*), void* context,
                                  char** error) noexcept {
  delete guarded(error, [&] {
    Hooks hooks;
    std::mutex calls;
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < count; ++i) {
      inputs.push_back(*leaves[i]);
      hooks.add(*leaves[i], [=, &calls](const Tensor& gradient) {
        std::lock_guard<std::mutex> one(calls);
        if (!ready(context, i, &gradient)) throw std::runtime_error("stopped");
      });
    }
    torch::autograd::grad({*loss}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false,
                          /*allow_unused=*/true);
    return Tensor();
  });
}
