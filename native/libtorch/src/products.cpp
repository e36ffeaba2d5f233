// Matrix products by oneDNN. libtorch leaves products of float32 to MKL, which uses AVX-512 on
// Intel's processors only: on others oneDNN takes half the time (2 to 2.4 times on Zen 5).

#include <ATen/CPUFunctions.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <exception>

namespace at::native {
// ATen/native/mkldnn/Matmul.h, which libtorch does not install, though it exports the function:
// result = beta * result + alpha * a b, of matrices or batches of them.
void mkldnn_matmul(const Tensor& a, const Tensor& b, const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace {

using at::Scalar;
using at::Tensor;

// Multiplications below which finding oneDNN's code for the sizes takes longer than it saves.
constexpr int64_t kWorthwhile = int64_t{1} << 20;

// Whether each matrix is rows or columns one after the other, as oneDNN takes them.
bool dense(const Tensor& x) {
  int64_t rows = x.size(-2), columns = x.size(-1);
  int64_t down = x.stride(-2), right = x.stride(-1);
  bool plain = (right == 1 && down >= columns) || (down == 1 && right >= rows);
  return plain && (x.dim() == 2 || x.stride(0) >= rows * columns);
}

bool suits(const Tensor& a, const Tensor& b, int64_t axes) {
  auto fits = [axes](const Tensor& x) {
    return x.dim() == axes && x.scalar_type() == at::kFloat && x.layout() == at::kStrided &&
           x.device().is_cpu() && dense(x);
  };
  if (!fits(a) || !fits(b) || a.size(-1) != b.size(-2)) return false;
  if (axes == 3 && a.size(0) != b.size(0)) return false;
  int64_t thinnest = std::min({a.size(-2), a.size(-1), b.size(-1)});
  return thinnest >= 16 && a.numel() * b.size(-1) >= kWorthwhile;
}

// Memory for the product of a and b.
Tensor result_of(const Tensor& a, const Tensor& b) {
  auto size = a.sizes().vec();
  size.back() = b.size(-1);
  return at::cpu::empty(size, a.scalar_type());
}

Tensor product(const Tensor& a, const Tensor& b) {
  auto result = result_of(a, b);
  at::native::mkldnn_matmul(a, b, result, 0, 1);
  return result;
}

Tensor sum_and_product(const Tensor& c, const Tensor& a, const Tensor& b, float beta,
                       float alpha) {
  auto result = result_of(a, b);
  result.copy_(c.expand(result.sizes()));
  at::native::mkldnn_matmul(a, b, result, beta, alpha);
  return result;
}

bool added(const Tensor& c, const Scalar& beta, const Scalar& alpha) {
  return c.scalar_type() == at::kFloat && c.device().is_cpu() && !beta.isComplex() &&
         !alpha.isComplex() && beta.toDouble() != 0;
}

Tensor mm(const Tensor& a, const Tensor& b) {
  return suits(a, b, 2) ? product(a, b) : at::cpu::mm(a, b);
}

Tensor bmm(const Tensor& a, const Tensor& b) {
  return suits(a, b, 3) ? product(a, b) : at::cpu::bmm(a, b);
}

Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, const Scalar& beta,
             const Scalar& alpha) {
  if (!suits(a, b, 2) || !added(c, beta, alpha)) return at::cpu::addmm(c, a, b, beta, alpha);
  return sum_and_product(c, a, b, beta.toFloat(), alpha.toFloat());
}

Tensor baddbmm(const Tensor& c, const Tensor& a, const Tensor& b, const Scalar& beta,
               const Scalar& alpha) {
  if (!suits(a, b, 3) || !added(c, beta, alpha)) return at::cpu::baddbmm(c, a, b, beta, alpha);
  return sum_and_product(c, a, b, beta.toFloat(), alpha.toFloat());
}

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

// Replaces libtorch's products where that is faster. Call it once.
extern "C" void flambeau_use_products() noexcept try {
  if (__builtin_cpu_is("intel")) return;
  // Without AVX-512 libtorch refuses to let oneDNN multiply float32.
  auto x = at::cpu::empty({16, 16}, at::kFloat).zero_();
  product(x, x);
  // libtorch warns of every kernel that is replaced.
  Silent silent;
  c10::WarningUtils::WarningHandlerGuard guard(&silent);
  // Never destroyed: threads may multiply while the process ends.
  auto* library = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__,
                                     __LINE__);
  library->impl("mm", &mm);
  library->impl("bmm", &bmm);
  library->impl("addmm", &addmm);
  library->impl("baddbmm", &baddbmm);
} catch (const std::exception&) {
  // What was not replaced stays libtorch's own.
}
