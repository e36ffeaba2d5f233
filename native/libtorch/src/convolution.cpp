// Operators of libtorch that run on oneDNN and have no public C++ function: they are found by their
// names in the dispatcher and called with boxed arguments.

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <cmath>
#include <optional>
#include <vector>

#include "ffi.h"

namespace {

using Sizes = std::vector<int64_t>;

at::Tensor call(const char* name, const char* overload, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).callBoxed(&stack);
  return stack.at(0).toTensor();
}

Sizes two(const int64_t* values) { return Sizes(values, values + 2); }

std::optional<at::Tensor> given(const at::Tensor* tensor) {
  return tensor ? std::optional<at::Tensor>(*tensor) : std::nullopt;
}

}  // namespace

extern "C" {

// Two values for each: rows and columns.
struct FlambeauWindow {
  const int64_t* padding;
  const int64_t* strides;
  const int64_t* dilation;
  int64_t groups;
};

// A kernel [filters, inputs / groups, rows, columns] in the layout that oneDNN wants for inputs of
// `size` [batch, channels, rows, columns].
at::Tensor* flambeau_packed_kernel(const at::Tensor* kernel, const FlambeauWindow* window,
                                   const int64_t* size, char** error) {
  return guarded(error, [&] {
    return call("mkldnn::_reorder_convolution_weight", "",
                {*kernel, two(window->padding), two(window->strides), two(window->dilation),
                 window->groups, std::optional<Sizes>(Sizes(size, size + 4))});
  });
}

// The convolution of x with a packed kernel; with a relu at its end if `relu`, up to `most` unless
// that is infinite.
at::Tensor* flambeau_convolution(const at::Tensor* x, const at::Tensor* kernel,
                                 const at::Tensor* bias, const FlambeauWindow* window, bool relu,
                                 double most, char** error) {
  return guarded(error, [&] {
    c10::List<std::optional<at::Scalar>> scalars;
    bool bounded = relu && std::isfinite(most);
    if (bounded) {
      scalars.push_back(at::Scalar(0.0));
      scalars.push_back(at::Scalar(most));
    }
    const char* end = bounded ? "hardtanh" : relu ? "relu" : "none";
    return call("mkldnn::_convolution_pointwise", "",
                {*x, *kernel, given(bias), two(window->padding), two(window->strides),
                 two(window->dilation), window->groups, end, scalars,
                 std::optional<std::string>("")});
  });
}

// Adds the same to `sum`, of the result's shape, in its place, and then applies a relu if asked for.
at::Tensor* flambeau_convolution_sum(const at::Tensor* x, const at::Tensor* sum,
                                     const at::Tensor* kernel, const at::Tensor* bias,
                                     const FlambeauWindow* window, bool relu, char** error) {
  return guarded(error, [&] {
    auto unary = relu ? std::optional<std::string>("relu") : std::nullopt;
    return call("mkldnn::_convolution_pointwise_", "binary",
                {*sum, *x, *kernel, given(bias), two(window->padding), two(window->strides),
                 two(window->dilation), window->groups, "add",
                 std::optional<at::Scalar>(at::Scalar(1.0)), unary,
                 c10::List<std::optional<at::Scalar>>(), std::optional<std::string>()});
  });
}
}
