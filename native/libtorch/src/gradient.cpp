// A value whose gradient Rust knows.

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <stdexcept>

#include "ffi.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A function of Rust, freed with the graph that holds it.
class Backward final : public torch::CustomClassHolder {
 public:
  using Call = Tensor* (*)(void*, const Tensor*);
  using Free = void (*)(void*);

  Backward(Call call, Free free, void* context) : call_(call), free_(free), context_(context) {}
  Backward(const Backward&) = delete;
  Backward& operator=(const Backward&) = delete;
  ~Backward() override { free_(context_); }

  Tensor operator()(const Tensor& slope) const {
    std::unique_ptr<Tensor> gradient(call_(context_, &slope));
    if (!gradient) throw std::runtime_error("stopped");
    return *gradient;
  }

 private:
  Call call_;
  Free free_;
  void* context_;
};

struct WithGradient : torch::autograd::Function<WithGradient> {
  static Tensor forward(AutogradContext* context, const Tensor&, const Tensor& y,
                        c10::intrusive_ptr<Backward> backward) {
    context->saved_data["backward"] = at::IValue::make_capsule(std::move(backward));
    return y.detach();
  }

  static variable_list backward(AutogradContext* context, variable_list slopes) {
    auto backward = context->saved_data["backward"].toCapsule();
    return {static_cast<Backward&>(*backward)(slopes[0]), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// The values of y, whose gradient by x is call(context, slope), a new tensor of x's shape, where
// slope is the gradient by the result; null ends the backward pass. free(context) is called once,
// with the graph or when this fails.
Tensor* flambeau_with_gradient(const Tensor* x, const Tensor* y, Backward::Call call,
                               Backward::Free free, void* context, char** error) {
  return guarded(error, [&] {
    auto backward = c10::make_intrusive<Backward>(call, free, context);
    return WithGradient::apply(*x, *y, std::move(backward));
  });
}

// Whether both are one value of one graph.
bool flambeau_is_same(const Tensor* a, const Tensor* b) noexcept { return a->is_same(*b); }
}
