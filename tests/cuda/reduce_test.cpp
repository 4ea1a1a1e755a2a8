// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <set>

#include "compared.h"
#include "local/cuda/axes.h"
#include "local/kernels/reduce.h"
#include "under_test.h"

using namespace dtensor;
using namespace compared;
using local::cpu::Reduction;
using local::cuda::ReductionAxes;
using local::cuda::ReductionPlan;
namespace cpu = local::cpu;
namespace cuda = local::cuda;
namespace kernels = local::kernels;

namespace {

Shape kept_shape(const Shape& shape, const Shape& dims) {
  Shape kept;
  for (int d = 0; d < shape.ndim(); ++d)
    if (std::find(dims.begin(), dims.end(), d) == dims.end()) kept.push_back(shape[d]);
  return kept;
}

// On a device and on the CPU, from a tensor of these strides.
void compare(Reduction kind, const Tensor& on_device, const Tensor& on_host, const Shape& dims, Dtype dtype, const std::string& what,
             const cpu::ReduceOptions& options = {}) {
  const Shape shape = kept_shape(on_host.shape(), dims);
  const Tensor a = Tensor::empty(shape, dtype, kGpu), b = Tensor::empty(shape, dtype);
  kernels::reduce(kind, on_device, dims, a, options);
  kernels::reduce(kind, on_host, dims, b, options);
  check_close(a, b, what + " " + to_string(on_host.shape()) + " over " + to_string(dims));
}

struct Case {
  Shape shape, dims;
};
const Case kCases[] = {{{}, {}},
                       {{0}, {0}},
                       {{1}, {0}},
                       {{7}, {0}},
                       {{31}, {0}},
                       {{33}, {0}},
                       {{257}, {0}},
                       {{1023}, {0}},
                       {{40, 0}, {1}},
                       {{0, 5}, {1}},
                       {{0, 5}, {0}},
                       {{1000, 3}, {1}},
                       {{5, 1000}, {1}},
                       {{1000, 3}, {0}},
                       {{33, 257}, {0}},
                       {{257, 32}, {1}},
                       {{3, 5, 7}, {1}},
                       {{9, 17, 4}, {0, 2}},
                       {{65, 8, 3}, {0, 2}},
                       {{4, 3, 5, 6}, {1, 3}},
                       {{4, 3, 5, 6}, {0, 2}},
                       {{2, 3, 4}, {0, 1, 2}},
                       {{2, 3, 4}, {}},
                       {{2, 1, 300}, {0}}};

}  // namespace

TEST_CASE("axes hold every element once, merged where strides allow and with the smallest stride last") {
  for (const Case& c : kCases) {
    Shape strides = Tensor::empty(c.shape, Dtype::f32).strides();
    const ReductionAxes axes(c.shape, strides, c.dims, true);
    REQUIRE(axes.kept.numel * axes.reduced.numel == c.shape.numel());
    std::set<std::pair<std::int64_t, std::int64_t>> places;
    std::set<std::int64_t> elements;
    for (std::int64_t k = 0; k < axes.kept.numel; ++k)
      for (std::int64_t t = 0; t < axes.reduced.numel; ++t) {
        const auto kept = axes.kept.offsets(k), reduced = axes.reduced.offsets(t);
        places.insert({kept.out, reduced.out});
        elements.insert(kept.in + reduced.in);
      }
    CHECK(static_cast<std::int64_t>(places.size()) == c.shape.numel());
    CHECK(static_cast<std::int64_t>(elements.size()) == c.shape.numel());
  }
  const Shape strides{1, 6};  // a transposed matrix: all of it is one run
  CHECK(ReductionAxes({6, 9}, strides, {0, 1}, false).reduced.count == 1);
  CHECK(ReductionAxes({6, 9}, strides, {0}, false).by_columns() == false);
  CHECK(ReductionAxes({6, 9}, strides, {1}, false).by_columns() == true);
}

TEST_CASE("plans give every term to one block, with whole warps and no more threads than a reduction has") {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{1, 1 << 20}, Shape{1 << 20, 1}, Shape{3, 100000}, Shape{100000, 3}, Shape{4096, 4096}, Shape{100000, 257}})
    for (int dim : {0, 1})
      for (int vector : {2, 4, 8, 16}) {
        const ReductionPlan p(ReductionAxes(shape, Shape{shape[1], 1}, {dim}, false), vector, true);
        CHECK(p.threads() % cuda::kWarp == 0);
        CHECK(p.threads() <= cuda::kReduceThreads);
        CHECK(p.across * p.x >= p.outputs);
        CHECK(p.each * p.splits >= p.terms);
        CHECK((p.splits == 1 || (p.splits - 1) * p.each < p.terms));
      }
}

TEST_CASE("every kind of reduction of every dtype gives the CPU's numbers for every shape and alignment") {
  const Reduction kinds[] = {Reduction::sum,          Reduction::product,      Reduction::max,        Reduction::min, Reduction::absolute_sum,
                             Reduction::absolute_max, Reduction::absolute_min, Reduction::square_sum, Reduction::all, Reduction::any};
  for (int d = 0; d < kDtypeCount; ++d) {
    const auto dtype = static_cast<Dtype>(d);
    int number = 0;
    for (const Case& c : kCases)
      for (Reduction kind : kinds) {
        const bool logical = kind == Reduction::all || kind == Reduction::any, product = kind == Reduction::product;
        if (dtype == Dtype::boolean && !logical && kind != Reduction::max && kind != Reduction::min) continue;
        const Tensor x = random(c.shape, dtype, static_cast<std::uint64_t>(++number), product ? 0.9 : -9, product ? 1.1 : 9);
        const Dtype result = logical ? Dtype::boolean : dtype;
        compare(kind, there(x, number % 3), x, c.dims, result, to_string(dtype) + " kind " + std::to_string(static_cast<int>(kind)));
      }
  }
}

TEST_CASE("reductions of transposed, expanded and cut tensors give the CPU's numbers") {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f64, Dtype::i32, Dtype::u8}) {
    const Tensor x = random({12, 33, 20}, dtype, 3, -9, 9), y = there(x);
    for (const Shape& dims : {Shape{0}, Shape{1}, Shape{2}, Shape{0, 1}, Shape{0, 2}, Shape{1, 2}, Shape{0, 1, 2}}) {
      compare(Reduction::sum, y.transpose(0, 2), x.transpose(0, 2), dims, dtype, "transposed");
      compare(Reduction::max, y.permute({1, 2, 0}), x.permute({1, 2, 0}), dims, dtype, "permuted");
      compare(Reduction::sum, y.narrow(2, 1, 9).narrow(1, 3, 17), x.narrow(2, 1, 9).narrow(1, 3, 17), dims, dtype, "cut");
      compare(Reduction::sum, y.narrow(1, 0, 1).expand({12, 50, 20}), x.narrow(1, 0, 1).expand({12, 50, 20}), dims, dtype, "expanded");
    }
  }
}

TEST_CASE("few outputs of many terms take two passes and the same sum however often it is taken") {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64}) {
    const Tensor x = random({2, 150001}, dtype, 5, -9, 9), y = there(x), t = there(random({150001, 2}, dtype, 6, -9, 9));
    compare(Reduction::sum, y, x, {1}, dtype == Dtype::bf16 ? Dtype::f32 : dtype, "long rows");
    compare(Reduction::max, y, x, {0, 1}, dtype, "all");
    compare(Reduction::sum, t, t.to(Device::cpu()), {0}, dtype == Dtype::bf16 ? Dtype::f32 : dtype, "long columns");
    test::queued();
    const Tensor a = Tensor::empty({2}, Dtype::f64, kGpu), b = Tensor::empty({2}, Dtype::f64, kGpu);
    kernels::reduce(Reduction::sum, y, Shape{1}, a);
    CHECK_TOLD(test::queued("launch reduce") == 2);
    kernels::reduce(Reduction::sum, y, Shape{1}, b);
    CHECK(numbers(a) == numbers(b));
  }
}

TEST_CASE("results do not depend on alignment") {
  for (const Shape& dims : {Shape{0}, Shape{1}, Shape{0, 1}}) {
    const Tensor x = random({70, 520}, Dtype::f32, 8);
    const Shape shape = kept_shape(x.shape(), dims);
    const Tensor a = Tensor::empty(shape, Dtype::f32, kGpu), b = Tensor::empty(shape, Dtype::f32, kGpu);
    kernels::reduce(Reduction::sum, there(x), dims, a);
    kernels::reduce(Reduction::sum, there(x, 1), dims, b);
    CHECK(numbers(a) == numbers(b));
  }
}

TEST_CASE("sums of one dtype into another, divisors and roots give the CPU's numbers") {
  const Tensor count = Tensor::of(std::vector<double>{7}, {}), there_count = there(count);
  for (int from = 0; from < kDtypeCount; ++from)
    for (int to = 0; to < kDtypeCount; ++to) {
      if (static_cast<Dtype>(to) == Dtype::boolean || (info(static_cast<Dtype>(from)).floating && !info(static_cast<Dtype>(to)).floating)) continue;
      const Tensor x = random({5, 40}, static_cast<Dtype>(from), 4, 0, 9), y = there(x);
      for (bool with_count : {false, true}) {
        const Tensor a = Tensor::empty({5}, static_cast<Dtype>(to), kGpu), b = Tensor::empty({5}, static_cast<Dtype>(to));
        kernels::reduce(Reduction::square_sum, y, Shape{1}, a, {.divisor = 40, .count = with_count ? &there_count : nullptr, .root = true});
        kernels::reduce(Reduction::square_sum, x, Shape{1}, b, {.divisor = 40, .count = with_count ? &count : nullptr, .root = true});
        check_close(a, b, to_string(static_cast<Dtype>(from)) + " to " + to_string(static_cast<Dtype>(to)));
      }
    }
}

TEST_CASE("NaN wins in extremes wherever it lies") {
  for (std::int64_t at : {0, 1, 5, 299}) {
    const Tensor x = random({300}, Dtype::f32, 2);
    x.values<float>()[static_cast<std::size_t>(at)] = std::nanf("");
    for (Reduction kind : {Reduction::max, Reduction::min, Reduction::absolute_max}) compare(kind, there(x), x, {0}, Dtype::f32, "NaN");
  }
}
