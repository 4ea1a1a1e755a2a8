// SPDX-License-Identifier: Apache-2.0
// products.h without a GPU: sums in double, rounded once, of operands that are rounded to TF32 where they may be. What cuBLASLt would refuse, and what it would read or write beyond a matrix, is an error.
#include "emulated_blaslt.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "local/cuda/launch.h"
#include "local/cuda/products.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(std::string("cuBLASLt would refuse the product: ") + what);
}
void check(const ProductMatrix& m, std::int64_t rows, std::int64_t columns, const ProductShape& s) {
  require(m.ld >= (m.transposed ? rows : columns), "the leading dimension is below the row's length");
  require(m.batch >= 0, "matrices of a batch go backwards");
  require(m.alignment > 0 && m.alignment <= 256 && (m.alignment & (m.alignment - 1)) == 0, "an alignment is no power of two up to 256");
  require(s.count == 1 || m.batch < (std::int64_t{1} << 40), "matrices of a batch are too far apart");
}
void check_written(const ProductMatrix& m, const ProductShape& s) {
  check(m, s.m, s.n, s);
  require(!m.transposed, "a transposed addend or result");
  require(s.count == 1 || m.batch >= (s.m - 1) * m.ld + s.n, "matrices of the addend or result overlap");
}
void check_aligned(const void* address, int alignment) {
  require(address != nullptr, "a null pointer");
  require(reinterpret_cast<std::uintptr_t>(address) % static_cast<std::uintptr_t>(alignment) == 0, "an address is less aligned than was said");
}

std::mutex refusal_mutex;
std::function<bool(const ProductShape&)> refusal;
bool refusal_when_run = false;
bool is_refused(const ProductShape& s, bool when_run) {
  const std::lock_guard lock(refusal_mutex);
  return refusal && refusal_when_run == when_run && refusal(s);
}

double tanh_gelu(double x) { return 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))); }

double rounded_to_tf32(double x) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  return static_cast<double>(std::bit_cast<float>((bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu));
}
template <class T>
double at(const void* data, const ProductMatrix& m, std::int64_t x, std::int64_t i, std::int64_t j, bool tf32 = false) {
  const auto value = static_cast<double>(load(static_cast<const T*>(data)[x * m.batch + (m.transposed ? j * m.ld + i : i * m.ld + j)]));
  return tf32 ? rounded_to_tf32(value) : value;
}

template <class T, class Out>
void run(const ProductShape& s, const ProductPointers& p, double alpha, double beta) {
  for (std::int64_t x = 0; x < s.count; ++x)
    for (std::int64_t i = 0; i < s.m; ++i)
      for (std::int64_t j = 0; j < s.n; ++j) {
        double sum = 0;
        for (std::int64_t q = 0; q < s.k; ++q) sum += at<T>(p.a, s.a, x, i, q, s.tf32) * at<T>(p.b, s.b, x, q, j, s.tf32);
        sum *= alpha;
        if (s.has_c && beta != 0) sum += beta * at<Out>(p.c, s.c, x, i, j);
        if (s.has_bias) sum += static_cast<double>(load(static_cast<const Out*>(p.bias)[j]));
        if (s.keeps_sum) static_cast<Out*>(p.sum)[i * s.n + j] = convert<Out>(sum);
        if (s.gelu) sum = tanh_gelu(sum);
        static_cast<Out*>(p.out)[x * s.out.batch + i * s.out.ld + j] = convert<Out>(sum);
      }
}

}  // namespace

void emulated::refuse_products(std::function<bool(const ProductShape&)> refused, bool when_run) {
  const std::lock_guard lock(refusal_mutex);
  refusal = std::move(refused);
  refusal_when_run = when_run;
}

class ProductLibrary {};
class ProductPlan {
 public:
  ProductShape shape;
};

std::shared_ptr<ProductLibrary> make_product_library() { return std::make_shared<ProductLibrary>(); }

std::shared_ptr<const ProductPlan> plan_product(ProductLibrary& /*library*/, const ProductShape& s, const ProductPointers& first) {
  require(info(s.dtype).floating, "operands are not floating");
  require(s.out_dtype == s.dtype || (s.out_dtype == Dtype::f32 && (s.dtype == Dtype::bf16 || s.dtype == Dtype::f16)), "dtypes do not go together");
  require(!s.tf32 || s.dtype == Dtype::f32, "TF32 of operands that are not f32");
  require(s.m > 0 && s.n > 0 && s.k > 0 && s.count > 0 && s.count <= kMostProducts, "a size is out of range");
  require(!s.has_bias || (s.dtype != Dtype::f64 && first.bias != nullptr), "a bias that is not there, or in f64");
  require(!s.gelu || (s.dtype != Dtype::f64 && s.out_dtype == s.dtype && !s.has_c), "gelu in f64, or with an addend");
  require(!s.keeps_sum || (s.gelu && s.count == 1 && s.n % 8 == 0 && first.sum != nullptr), "a sum that is not kept row by row of 8");
  check(s.a, s.m, s.k, s);
  check(s.b, s.k, s.n, s);
  check_written(s.out, s);
  if (s.has_c) check_written(s.c, s);
  if (is_refused(s, false)) return nullptr;
  // One shape for which there is no algorithm, so that the way without one is run too.
  if (s.m == 29 && s.n == 31 && s.k == 37) return nullptr;
  auto plan = std::make_shared<ProductPlan>();
  plan->shape = s;
  return plan;
}

std::size_t workspace_of(const ProductPlan& plan) noexcept { return plan.shape.k > 100 ? 1024 : 0; }

bool run_product(ProductLibrary& /*library*/, const ProductPlan& plan, const ProductPointers& p, double alpha, double beta, Stream stream) {
  const ProductShape& s = plan.shape;
  check_aligned(p.a, s.a.alignment);
  check_aligned(p.b, s.b.alignment);
  check_aligned(p.out, s.out.alignment);
  if (s.has_c) check_aligned(p.c, s.c.alignment);
  require(!s.has_c || p.c != p.out || s.c == s.out, "a result in the place of an addend that lies otherwise");
  require(!s.has_bias || p.bias != nullptr, "a bias that is not there");
  if (s.has_bias) check_aligned(p.bias, 16);
  if (s.keeps_sum) check_aligned(p.sum, 16);
  require(workspace_of(plan) == 0 || p.workspace != nullptr, "no workspace");
  if (is_refused(s, true)) return false;
  emulated::queue("product", stream, [s, p, alpha, beta] {
    visit_floating(s.dtype, [&]<class T>(std::type_identity<T>) {
      if (kIs16Bit<T> && s.out_dtype == Dtype::f32) run<T, float>(s, p, alpha, beta);
      else run<T, T>(s, p, alpha, beta);
    });
  });
  return true;
}

}  // namespace dtensor::local::cuda
