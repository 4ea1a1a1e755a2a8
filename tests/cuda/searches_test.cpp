// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "compared.h"
#include "local/kernels/reduce.h"

using namespace dtensor;
using namespace compared;
namespace cpu = local::cpu;
namespace kernels = local::kernels;

namespace {

struct Case {
  Shape shape, dims;
};
const Case kCases[] = {{{1}, {0}},       {{7}, {0}},       {{257}, {0}},  {{70000}, {0}},   {{5, 33}, {1}},       {{5, 33}, {0}},
                       {{1000, 3}, {0}}, {{3, 1000}, {1}}, {{0, 4}, {1}}, {{2, 3, 4}, {1}}, {{9, 17, 4}, {0, 2}}, {{6, 50, 40}, {0, 1, 2}},
                       {{4, 30000}, {1}}};

Shape kept_shape(const Shape& shape, const Shape& dims) {
  Shape kept;
  for (int d = 0; d < shape.ndim(); ++d)
    if (std::find(dims.begin(), dims.end(), d) == dims.end()) kept.push_back(shape[d]);
  return kept;
}

}  // namespace

TEST_CASE("the first of the largest and smallest elements is where the CPU finds it, among many equal ones") {
  for (int t = 0; t < kDtypeCount; ++t)
    for (const Case& c : kCases)
      for (bool transposed : {false, true}) {
        const auto dtype = static_cast<Dtype>(t);
        const Tensor base = random(c.shape, Dtype::i64, 3, 0, 5).to(dtype);  // few values: ties everywhere
        const int last = c.shape.ndim() - 1;
        const Tensor x = transposed ? base.transpose(0, last) : base, y = transposed ? there(base, 1).transpose(0, last) : there(base);
        if (transposed && c.dims.ndim() == 1 && c.shape.ndim() > 1 && x.shape()[static_cast<int>(c.dims[0])] == 0) continue;
        const Shape kept = kept_shape(x.shape(), c.dims);
        const Tensor a = Tensor::empty(kept, Dtype::i64, kGpu), b = Tensor::empty(kept, Dtype::i64);
        for (bool largest : {false, true}) {
          kernels::arg_extreme(x, c.dims, largest, b);
          kernels::arg_extreme(y, c.dims, largest, a);
          check_close(a, b, to_string(dtype) + to_string(c.shape) + (transposed ? " transposed" : ""));
        }
      }
}

TEST_CASE("the first NaN is the extreme") {
  const Tensor x = random({3, 500}, Dtype::f32, 1);
  auto v = x.values<float>();
  v[7] = v[300] = v[500 + 499] = std::nanf("");
  const Tensor a = Tensor::empty({3}, Dtype::i64, kGpu), b = Tensor::empty({3}, Dtype::i64);
  kernels::arg_extreme(x, Shape{1}, true, b);
  kernels::arg_extreme(there(x), Shape{1}, true, a);
  check_close(a, b, "NaN");
  CHECK(numbers(a)[0] == 7);
}

TEST_CASE("first_equal gives the CPU's global index, where local order is not global order as well") {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64, Dtype::u8}) {
    const Tensor x = random({6, 40, 9}, Dtype::i64, 2, 0, 30).to(dtype), value = random({6}, Dtype::i64, 4, 0, 40).to(dtype);
    const std::vector<cpu::GlobalIndices> indices{{{{90, 10}, {5, 25}, {70, 5}}, 100}, {{{50, 4}, {0, 5}}, 1}};
    const Tensor a = Tensor::empty({6}, Dtype::i64, kGpu), b = Tensor::empty({6}, Dtype::i64);
    kernels::first_equal(x, value, Shape{1, 2}, std::span<const cpu::GlobalIndices>(indices), b);
    kernels::first_equal(there(x), there(value), Shape{1, 2}, std::span<const cpu::GlobalIndices>(indices), a);
    check_close(a, b, to_string(dtype));
  }
}

TEST_CASE("variance and deviation give the CPU's numbers, for numbers far from 0 as well") {
  for (Dtype dtype : kFloating)
    for (const Case& c : kCases)
      for (double offset : {0.0, 1000.0}) {
        if (offset != 0 && dtype != Dtype::f32 && dtype != Dtype::f64) continue;
        const Tensor x = random(c.shape, dtype, 5, offset - 1, offset + 1);
        const Shape kept = kept_shape(c.shape, c.dims);
        const Tensor a = Tensor::empty(kept, dtype, kGpu), b = Tensor::empty(kept, dtype);
        for (double correction : {0.0, 1.0}) {
          kernels::variance(x, c.dims, correction, correction != 0, b);
          kernels::variance(there(x, 1), c.dims, correction, correction != 0, a);
          check_close(a, b, to_string(dtype) + to_string(c.shape), offset != 0 && dtype == Dtype::f32 ? 1e-3 : dtype == Dtype::f64 ? 1e-9 : 0);
        }
      }
}
