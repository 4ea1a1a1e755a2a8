// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>

#include "compared.h"
#include "local/kernels/softmax.h"

using namespace dtensor;
using namespace compared;
namespace kernels = local::kernels;

namespace {

struct Case {
  Shape shape;
  int dim;
};
// Rows of neighbours in registers, rows too long for that, rows across memory.
const Case kCases[] = {{{}, 0},         {{0, 5}, 1},     {{5, 0}, 1},  {{1}, 0},        {{3, 1}, 1},       {{300, 3}, 1},    {{7, 31}, 1},
                       {{2, 32}, 1},    {{5, 33}, 1},    {{9, 64}, 1}, {{3, 255}, 1},   {{3, 1000}, 1},    {{2, 4099}, 1},   {{2, 8200}, 1},
                       {{1, 17000}, 1}, {{16400, 3}, 0}, {{31, 5}, 0}, {{4, 33, 7}, 1}, {{2, 257, 32}, 1}, {{3, 2, 5, 4}, 2}};

}  // namespace

TEST_CASE("softmax, log_softmax and their gradients give the CPU's numbers for every length, dim, dtype and alignment") {
  for (Dtype dtype : kFloating)
    for (const Case& c : kCases)
      for (bool logarithm : {false, true}) {
        const std::string what = to_string(dtype) + to_string(c.shape) + " dim " + std::to_string(c.dim) + (logarithm ? " log" : "");
        const Tensor x = random(c.shape, dtype, 1, -6, 6), g = random(c.shape, dtype, 2);
        const Tensor y = Tensor::empty(c.shape, dtype), dx = Tensor::empty(c.shape, dtype);
        kernels::softmax(x, c.dim, logarithm, y);
        kernels::softmax_backward(g, y, c.dim, logarithm, dx);
        for (std::int64_t offset : {0, 1}) {
          const Tensor a = there(random(c.shape, dtype, 3), offset), b = Tensor::empty(c.shape, dtype, kGpu);
          kernels::softmax(there(x, offset), c.dim, logarithm, a);
          kernels::softmax_backward(there(g, offset), there(y), c.dim, logarithm, b);
          check_close(a, y, what);
          check_close(b, dx, what + " gradient", dtype == Dtype::f32 ? 1e-4 : 0);
        }
      }
}

TEST_CASE("an infinite largest element gives the CPU's NaN, and -inf elsewhere a zero") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (std::int64_t n : {3, 9000})
    for (int kind = 0; kind < 3; ++kind) {
      const Tensor x = random({1, n}, Dtype::f32, 4), y = Tensor::empty({1, n}, Dtype::f32), a = Tensor::empty({1, n}, Dtype::f32, kGpu);
      auto v = x.values<float>();
      if (kind == 0) v[1] = kInf;
      if (kind == 1) std::fill(v.begin(), v.end(), -kInf);
      if (kind == 2) v[0] = -kInf;
      for (bool logarithm : {false, true}) {
        kernels::softmax(x, 1, logarithm, y);
        kernels::softmax(there(x), 1, logarithm, a);
        check_close(a, y, "kind " + std::to_string(kind));
      }
    }
}

TEST_CASE("sums of exponentials and their logarithms over any dims and strides give the CPU's numbers") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (Dtype dtype : kFloating)
    for (const Shape& shape : {Shape{5, 7, 3}, Shape{0, 3, 2}, Shape{40, 33, 5}, Shape{1, 1, 30000}, Shape{30000, 1, 2}})
      for (const Shape& dims : {Shape{0}, Shape{1}, Shape{2}, Shape{0, 2}, Shape{0, 1, 2}, Shape{}}) {
        const Tensor base = random(shape, dtype, 5, -4, 4), x = base.transpose(0, 1), y = there(base).transpose(0, 1);
        Shape kept;
        for (int d = 0; d < 3; ++d)
          if (std::find(dims.begin(), dims.end(), d) == dims.end()) kept.push_back(x.shape()[d]);
        const Tensor a = Tensor::empty(kept, dtype, kGpu), b = Tensor::empty(kept, dtype);
        const std::string what = to_string(dtype) + to_string(shape) + " over " + to_string(dims);
        kernels::log_sum_exp(x, dims, b);
        kernels::log_sum_exp(y, dims, a);
        check_close(a, b, what);
        const Tensor shift = random(kept, Dtype::f32, 6);
        if (shift.numel() > 1) shift.values<float>()[1] = static_cast<float>(kInf);
        const Dtype computed = dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32;
        const Tensor sa = Tensor::empty(kept, computed, kGpu), sb = Tensor::empty(kept, computed);
        kernels::exp_sum(x, shift, dims, sb);
        kernels::exp_sum(y, there(shift), dims, sa);
        check_close(sa, sb, what + " shifted");
      }
}

TEST_CASE("the logarithm of a sum of exponentials holds for infinite terms") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& values :
       {std::vector<float>{-kInf, -kInf}, {-kInf, 1000}, {kInf, 0}, {-1000, -kInf}, {-2000, 500}, {std::nanf(""), 1}}) {
    const Tensor x = Tensor::of(values, {2, 1}), a = Tensor::empty({1}, Dtype::f32, kGpu), b = Tensor::empty({1}, Dtype::f32);
    kernels::log_sum_exp(x, Shape{0}, b);
    kernels::log_sum_exp(there(x), Shape{0}, a);
    check_close(a, b, "terms");
    const Tensor row = x.view({1, 2});
    kernels::log_sum_exp(there(row), Shape{1}, a);
    check_close(a, b, "row");
  }
}
