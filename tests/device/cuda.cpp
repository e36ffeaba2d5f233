// A libtorch_cuda.so without a GPU, for tests: device `cuda:0` with memory of its own, in which every
// operator runs on the CPU. As on a GPU, tensors of the two devices do not mix, a device has so much
// memory and no more, and what has no kernel there is an error. So where a model's tensors are can be
// tested on any machine; how fast, and what a GPU's own kernels give, cannot.
//
// FLAMBEAU_STAND_IN_BYTES: how much memory the device has; without it, as much as the host.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

const Device kDevice(DeviceType::CUDA, 0);

// ---- memory ----

struct Block {
  void* data;
  size_t bytes;
};

std::atomic<size_t> in_use{0};

size_t capacity() {
  const char* given = std::getenv("FLAMBEAU_STAND_IN_BYTES");
  return given ? std::strtoull(given, nullptr, 10) : SIZE_MAX;
}

void release(void* block) {
  auto* held = static_cast<Block*>(block);
  in_use -= held->bytes;
  std::free(held->data);
  delete held;
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, kDevice};
    }
    if (in_use + bytes > capacity()) {
      TORCH_CHECK_WITH(
          OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", bytes, " bytes. GPU 0 has ",
          capacity(), " bytes of which ", in_use.load(), " are in use.");
    }
    void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    TORCH_CHECK(data, "the host has no memory for its stand-in of a GPU");
    in_use += bytes;
    return {data, new Block{data, bytes}, &release, kDevice};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

Memory memory;

// ---- devices, streams, events: one device, one stream, nothing is asynchronous ----

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device device) const override {
    check(device);
    return kDevice;
  }
  Device getDevice() const override { return kDevice; }
  void setDevice(Device device) const override { check(device); }
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return stream(); }
  Stream getDefaultStream(Device) const override { return stream(); }
  Stream getStreamFromGlobalPool(Device, bool) const override { return stream(); }
  Stream getNewStream(Device, int) const override { return stream(); }
  Stream exchangeStream(Stream) const override { return stream(); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}

 private:
  static Stream stream() { return Stream(Stream::DEFAULT, kDevice); }
  static void check(Device device) {
    TORCH_CHECK(device.index() <= 0, "CUDA error: invalid device ordinal ", int(device.index()));
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  c10::Allocator* getCUDADeviceAllocator() const override { return &memory; }
  void deviceSynchronize(DeviceIndex) const override {}
  std::string showConfig() const override { return "a stand-in without a GPU"; }
};

using at::CUDAHooksArgs;
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
REGISTER_CUDA_HOOKS(CUDAHooks)

// ---- kernels ----

at::Tensor empty(
    c10::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
    std::optional<Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!device || device->index() <= 0, "CUDA error: invalid device ordinal ", int(device->index()));
  return at::detail::empty_generic(
      size, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(
    c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> type,
    std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>) {
  TORCH_CHECK(!device || device->index() <= 0, "CUDA error: invalid device ordinal ", int(device->index()));
  return at::detail::empty_strided_generic(
      size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(type));
}

// The same memory as a tensor of the host, for this file alone.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) {
    return tensor;
  }
  auto options = at::TensorOptions().dtype(tensor.dtype()).device(c10::kCPU);
  auto host = at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), [](void*) {}, options);
  if (tensor.is_conj()) {
    host = host.conj();
  }
  return tensor.is_neg() ? host._neg_view() : host;
}

at::Tensor& copy(at::Tensor& self, const at::Tensor& source, bool) {
  c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset);
  on_host(self).copy_(on_host(source));
  return self;
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& to, bool) {
  on_host(to).copy_(on_host(source));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& to) {
  at::native::resize_output(to, source.sizes());
  return copy_from(source, to, false);
}

const at::Tensor& resize(
    const at::Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  auto* tensor = self.unsafeGetTensorImpl();
  auto bytes = at::detail::computeStorageNbytesContiguous(
      size, self.dtype().itemsize(), tensor->storage_offset());
  auto& storage = tensor->unsafe_storage();
  if (bytes > storage.nbytes()) {
    auto grown = memory.allocate(bytes);
    std::memcpy(grown.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr_noswap(std::move(grown));
    storage.set_nbytes(bytes);
  }
  tensor->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Preserve) {
    tensor->empty_tensor_restride(*format);
  }
  return self;
}

at::Scalar local_scalar(const at::Tensor& self) { return on_host(self).item(); }

at::Tensor on_device(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.to(kDevice) : tensor;
}

// Calls change(tensor) for every tensor of a value, and puts what it gives in its place.
template <typename Change>
void change_each(c10::IValue& value, Change change) {
  if (value.isTensor()) {
    value = change(value.toTensor());
  } else if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (at::Tensor& tensor : tensors) tensor = change(tensor);
    value = tensors;
  } else if (value.isOptionalTensorList()) {
    auto tensors = value.toOptionalTensorVector();
    c10::List<std::optional<at::Tensor>> changed;
    for (auto& tensor : tensors) {
      changed.push_back(tensor ? std::optional<at::Tensor>(change(*tensor)) : std::nullopt);
    }
    value = changed;
  }
}

// Refuses tensors of two devices, as a GPU's kernels do; a number of the host may take part.
void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size();
  // What only the CPU has.
  for (const char* name : {"mkldnn", "_for_cpu", "_add_relu", "aten::histogram"}) {
    TORCH_CHECK_NOT_IMPLEMENTED(
        schema.name().find(name) == std::string::npos, "Could not run '", schema.name(),
        "' with arguments from the 'CUDA' backend.");
  }
  for (size_t at = stack->size() - count; at < stack->size(); ++at) {
    change_each((*stack)[at], [&](const at::Tensor& tensor) {
      TORCH_CHECK(
          !tensor.defined() || tensor.is_cuda() || tensor.dim() == 0,
          "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
          "cpu! (when checking an argument of ", schema.name(), ")");
      return tensor;
    });
  }
  if (schema.is_mutable()) {
    // May resize what it writes to, which is copied there and back.
    at::native::cpu_fallback(op, stack);
    return;
  }
  // Some operators write to arguments without saying so: moving statistics of batch_norm.
  for (size_t at = stack->size() - count; at < stack->size(); ++at) {
    change_each((*stack)[at], on_host);
    if ((*stack)[at].isDevice()) (*stack)[at] = Device(c10::kCPU);
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (size_t at = stack->size() - schema.returns().size(); at < stack->size(); ++at) {
    change_each((*stack)[at], on_device);
  }
}

// A GPU's fused cell of an LSTM, and its gradient: gates i, f, g, o of which the workspace keeps the
// activations.
std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_cell(
    const at::Tensor& input, const at::Tensor& hidden, const at::Tensor& cx,
    const std::optional<at::Tensor>& input_bias, const std::optional<at::Tensor>& hidden_bias) {
  auto gates = input + hidden;
  if (input_bias && input_bias->defined()) gates = gates + *input_bias + *hidden_bias;
  auto parts = gates.chunk(4, 1);
  auto i = parts[0].sigmoid(), f = parts[1].sigmoid(), g = parts[2].tanh(), o = parts[3].sigmoid();
  auto cy = f * cx + i * g;
  return {o * cy.tanh(), cy, at::cat({i, f, g, o}, 1)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_cell_backward(
    const std::optional<at::Tensor>& grad_hy, const std::optional<at::Tensor>& grad_cy,
    const at::Tensor& cx, const at::Tensor& cy, const at::Tensor& workspace, bool has_bias) {
  auto parts = workspace.chunk(4, 1);
  auto i = parts[0], f = parts[1], g = parts[2], o = parts[3], t = cy.tanh();
  auto given = [&](const std::optional<at::Tensor>& slope) {
    return slope && slope->defined() ? *slope : at::zeros_like(cx);
  };
  auto h = given(grad_hy), c = given(grad_cy) + h * o * (1 - t * t);
  auto gates = at::cat(
      {c * g * i * (1 - i), c * cx * f * (1 - f), c * i * (1 - g * g), h * t * o * (1 - o)}, 1);
  return {gates, c * f, has_bias ? gates.sum(0) : at::Tensor()};
}

bool no_cudnn(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t) {
  return false;
}

bool no_cudnn_for_lists(
    const at::Tensor&, const at::Tensor&, c10::IntArrayRef, c10::IntArrayRef, int64_t) {
  return false;
}

constexpr auto kFallback = &run_on_host;

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<kFallback>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("copy_", copy);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("resize_", resize);
  library.impl("_local_scalar_dense", local_scalar);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("unfold", at::native::unfold);
  library.impl("view_as_real", at::native::view_as_real);
  library.impl("view_as_complex", at::native::view_as_complex);
  library.impl("_thnn_fused_lstm_cell", lstm_cell);
  library.impl("_thnn_fused_lstm_cell_backward_impl", lstm_cell_backward);
  library.impl("_use_cudnn_ctc_loss.Tensor", no_cudnn);
  library.impl("_use_miopen_ctc_loss.Tensor", no_cudnn);
  library.impl("_use_cudnn_ctc_loss", no_cudnn_for_lists);
  library.impl("_use_miopen_ctc_loss", no_cudnn_for_lists);
  // Made of kernels that only a GPU has.
  for (const char* name : {"convolution", "convolution_backward", "convolution_overrideable"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<kFallback>());
  }
}

}  // namespace
