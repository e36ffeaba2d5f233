// Max-pooling over three axes with TensorFlow's gradient (MaxPooling3dGradOp in
// tensorflow/core/kernels/pooling_ops_3d.cc): each of several equal maxima gets the whole gradient,
// where libtorch gives it to the first.

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "ffi.h"

namespace {

using at::Tensor;
using Sizes = std::vector<int64_t>;
using torch::autograd::AutogradContext;

// [rows, depth, height, width, channels], one after the other in memory.
Tensor channels_last(const Tensor& x) { return x.permute({0, 2, 3, 4, 1}).contiguous(); }

// Adds the gradient of one row's outputs to that of its inputs.
template <typename T>
void add_gradient(const T* x, const T* y, const T* slope, T* gradient, at::IntArrayRef from,
                  at::IntArrayRef to, const Sizes& size, const Sizes& strides,
                  const Sizes& padding) {
  const int64_t channels = from[4];
  int64_t first[3], last[3];
  auto bound = [&](int axis, int64_t window) {
    int64_t start = window * strides[axis] - padding[axis];
    first[axis] = std::max<int64_t>(start, 0);
    last[axis] = std::min(start + size[axis], from[axis + 1]);
  };
  for (int64_t a = 0; a < to[1]; ++a) {
    bound(0, a);
    for (int64_t b = 0; b < to[2]; ++b) {
      bound(1, b);
      for (int64_t c = 0; c < to[3]; ++c, y += channels, slope += channels) {
        bound(2, c);
        for (int64_t i = first[0]; i < last[0]; ++i) {
          for (int64_t j = first[1]; j < last[1]; ++j) {
            for (int64_t k = first[2]; k < last[2]; ++k) {
              const int64_t at = ((i * from[2] + j) * from[3] + k) * channels;
              for (int64_t l = 0; l < channels; ++l) {
                gradient[at + l] += x[at + l] == y[l] ? slope[l] : T(0);
              }
            }
          }
        }
      }
    }
  }
}

struct MaxPool3d : torch::autograd::Function<MaxPool3d> {
  static Tensor forward(AutogradContext* context, const Tensor& x, Sizes size, Sizes strides,
                        Sizes padding) {
    auto y = at::max_pool3d(x, size, strides, padding);
    context->save_for_backward({x, y});
    context->saved_data["size"] = size;
    context->saved_data["strides"] = strides;
    context->saved_data["padding"] = padding;
    return y;
  }

  static torch::autograd::variable_list backward(AutogradContext* context,
                                                 torch::autograd::variable_list slopes) {
    // A GPU has no kernel for it: its tensors go by way of the host.
    auto saved = context->get_saved_variables();
    const auto device = saved[0].device();
    auto x = channels_last(saved[0].cpu()), y = channels_last(saved[1].cpu());
    auto slope = channels_last(slopes[0].cpu());
    auto gradient = at::zeros_like(x);
    auto numbers = [&](const char* name) { return context->saved_data[name].toIntVector(); };
    auto size = numbers("size"), strides = numbers("strides"), padding = numbers("padding");
    int64_t in = x.numel() / std::max<int64_t>(x.size(0), 1);
    int64_t out = y.numel() / std::max<int64_t>(x.size(0), 1);
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "max_pool3d", [&] {
      auto from = x.const_data_ptr<scalar_t>(), to = y.const_data_ptr<scalar_t>();
      auto slopes = slope.const_data_ptr<scalar_t>();
      auto gradients = gradient.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          add_gradient(from + row * in, to + row * out, slopes + row * out, gradients + row * in,
                       x.sizes(), y.sizes(), size, strides, padding);
        }
      });
    });
    return {gradient.to(device).permute({0, 4, 1, 2, 3}), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

// The largest elements of windows over the last three axes of x, [rows, channels, depth, height,
// width] in floating point; three values for each of `size`, `strides` and `padding`.
extern "C" at::Tensor* flambeau_max_pool3d(const Tensor* x, const int64_t* size,
                                           const int64_t* strides, const int64_t* padding,
                                           char** error) {
  return guarded(error, [&] {
    auto three = [](const int64_t* values) { return Sizes(values, values + 3); };
    return MaxPool3d::apply(*x, three(size), three(strides), three(padding));
  });
}
