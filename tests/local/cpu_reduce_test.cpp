// SPDX-License-Identifier: Apache-2.0
// Reductions against plain double-precision loops over the elements' coordinates.
#include "local/cpu/reduce.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace dtensor;
namespace cpu = dtensor::local::cpu;
using cpu::Reduction;

namespace {

Tensor random_tensor(const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> value(-2, 2);
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& v : values) v = value(random);
  return Tensor::of(values, shape);
}
double at(const Tensor& t, std::int64_t offset) { return t.raw_as<double>()[offset]; }

bool has(const Shape& dims, int d) {
  for (std::int64_t k : dims)
    if (k == d) return true;
  return false;
}

// Elements of each group, by coordinates.
std::vector<std::vector<double>> groups(const Tensor& x, const Shape& dims) {
  std::int64_t outputs = 1;
  for (int d = 0; d < x.ndim(); ++d)
    if (!has(dims, d)) outputs *= x.shape()[d];
  std::vector<std::vector<double>> result(static_cast<std::size_t>(outputs));
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    std::int64_t rest = i, out = 0, weight = 1, offset = 0;
    for (int d = x.ndim() - 1; d >= 0; --d) {
      const std::int64_t k = rest % x.shape()[d];
      rest /= x.shape()[d];
      offset += k * x.strides()[d];
      if (has(dims, d)) continue;
      out += k * weight;
      weight *= x.shape()[d];
    }
    result[static_cast<std::size_t>(out)].push_back(at(x, offset));
  }
  return result;
}

double expected(Reduction kind, const std::vector<double>& g) {
  double r = 0;
  if (kind == Reduction::product || kind == Reduction::all) r = 1;
  if (kind == Reduction::max) r = -HUGE_VAL;
  if (kind == Reduction::min || kind == Reduction::absolute_min) r = HUGE_VAL;
  for (double v : g) {
    switch (kind) {
      case Reduction::sum:
        r += v;
        break;
      case Reduction::product:
        r *= v;
        break;
      case Reduction::max:
        r = std::fmax(r, v);
        break;
      case Reduction::min:
        r = std::fmin(r, v);
        break;
      case Reduction::absolute_sum:
        r += std::fabs(v);
        break;
      case Reduction::absolute_max:
        r = std::fmax(r, std::fabs(v));
        break;
      case Reduction::absolute_min:
        r = std::fmin(r, std::fabs(v));
        break;
      case Reduction::square_sum:
        r += v * v;
        break;
      case Reduction::all:
        r = v != 0 ? r : 0;
        break;
      case Reduction::any:
        r = v != 0 ? 1 : r;
        break;
    }
  }
  return r;
}

constexpr Reduction kKinds[]{Reduction::sum,          Reduction::product,      Reduction::max,        Reduction::min, Reduction::absolute_sum,
                             Reduction::absolute_max, Reduction::absolute_min, Reduction::square_sum, Reduction::all, Reduction::any};
Shape kept(const Tensor& x, const Shape& dims) {
  Shape s;
  for (int d = 0; d < x.ndim(); ++d)
    if (!has(dims, d)) s.push_back(x.shape()[d]);
  return s;
}

}  // namespace

TEST_CASE("every reduction over every set of dims of strided tensors equals a loop over coordinates") {
  const Tensor base = random_tensor({4, 5, 70}, 1);
  const std::vector<Tensor> inputs{base,
                                   base.permute({2, 0, 1}),
                                   base.narrow(2, 3, 37),
                                   base.transpose(0, 1),
                                   random_tensor({3, 1, 4}, 2).expand({3, 5, 4}),
                                   random_tensor({0, 3, 2}, 3)};
  for (const Tensor& x : inputs) {
    for (int mask = 0; mask < 8; ++mask) {
      Shape dims;
      for (int d = 0; d < 3; ++d)
        if ((mask >> d & 1) != 0) dims.push_back(d);
      const auto g = groups(x, dims);
      for (Reduction kind : kKinds) {
        const Tensor out = Tensor::empty(kept(x, dims), Dtype::f64);
        cpu::reduce(kind, x, dims, out);
        for (std::size_t i = 0; i < g.size(); ++i) {
          const double got = at(out, static_cast<std::int64_t>(i)), wanted = expected(kind, g[i]);
          REQUIRE((got == wanted || std::fabs(got - wanted) <= 1e-12 * (1 + std::fabs(wanted))));
        }
      }
    }
  }
}

TEST_CASE("a reduction of every dtype is that of the converted values") {
  const Tensor x = random_tensor({9, 33}, 4);
  for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean}) {
    const Tensor narrow = (dtype == Dtype::u8 || dtype == Dtype::boolean ? random_tensor({9, 33}, 5).to(Dtype::i32).to(Dtype::boolean) : x).to(dtype),
                 wide = narrow.to(Dtype::f64);
    const Dtype result = info(dtype).floating ? Dtype::f32 : Dtype::i64;
    for (int d = 0; d < 2; ++d) {
      for (Reduction kind : {Reduction::sum, Reduction::max, Reduction::min, Reduction::square_sum, Reduction::any, Reduction::all}) {
        const auto g = groups(wide, {d});
        const Tensor out = Tensor::empty(kept(x, {d}), result);
        cpu::reduce(kind, narrow, {d}, out);
        const Tensor got = out.to(Dtype::f64);
        for (std::size_t i = 0; i < g.size(); ++i)
          CHECK(at(got, static_cast<std::int64_t>(i)) == doctest::Approx(expected(kind, g[i])).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("the f32 sum of a million tenths is right to six digits along rows and columns") {
  const std::int64_t n = 1000000;
  const Tensor ones = Tensor::empty({n, 2}, Dtype::f32);
  ones.fill_(0.1);
  const Tensor out = Tensor::empty({2}, Dtype::f32);
  cpu::reduce(Reduction::sum, ones, {0}, out);
  CHECK(out.values<const float>()[0] == doctest::Approx(1e5).epsilon(1e-6));
  const Tensor all = Tensor::empty({}, Dtype::f32);
  cpu::reduce(Reduction::sum, ones, {0, 1}, all);
  CHECK(all.values<const float>()[0] == doctest::Approx(2e5).epsilon(1e-6));
}

TEST_CASE("a sum does not depend on where the memory begins") {
  const Tensor base = random_tensor({4099 + 16}, 6).to(Dtype::f32), first = Tensor::empty({}, Dtype::f32), other = Tensor::empty({}, Dtype::f32);
  cpu::reduce(Reduction::sum, base.narrow(0, 0, 4099).clone(), {0}, first);
  for (std::int64_t shift = 1; shift < 16; ++shift) {
    const Tensor moved = base.clone().narrow(0, shift, 4099);
    moved.copy_(base.narrow(0, 0, 4099));
    cpu::reduce(Reduction::sum, moved, {0}, other);
    REQUIRE(other.values<const float>()[0] == first.values<const float>()[0]);
  }
}

TEST_CASE("NaN wins in max and min wherever it stands") {
  for (std::int64_t place : {0, 1, 15, 16, 39}) {
    std::vector<float> values(40, 1.0F);
    values[static_cast<std::size_t>(place)] = std::nanf("");
    for (const Shape& shape : {Shape{40}, Shape{40, 1}, Shape{20, 2}}) {
      const Tensor out = Tensor::empty({}, Dtype::f32);
      for (Reduction kind : {Reduction::max, Reduction::min}) {
        cpu::reduce(kind, Tensor::of(values, shape), shape.ndim() == 1 ? Shape{0} : Shape{0, 1}, out);
        CHECK(std::isnan(out.values<const float>()[0]));
      }
    }
  }
}

TEST_CASE("variance equals the two-pass formula and is NaN for one element with correction 1") {
  const Tensor x = random_tensor({6, 7, 5}, 7);
  for (const Shape& dims : {Shape{0}, Shape{1, 2}, Shape{0, 1, 2}}) {
    const auto g = groups(x, dims);
    const Tensor out = Tensor::empty(kept(x, dims), Dtype::f64);
    cpu::variance(x, dims, 1, false, out);
    for (std::size_t i = 0; i < g.size(); ++i) {
      double mean = 0, squares = 0;
      for (double v : g[i]) mean += v / static_cast<double>(g[i].size());
      for (double v : g[i]) squares += (v - mean) * (v - mean);
      CHECK(at(out, static_cast<std::int64_t>(i)) == doctest::Approx(squares / static_cast<double>(g[i].size() - 1)));
    }
  }
  const Tensor single = Tensor::empty({}, Dtype::f32);
  cpu::variance(Tensor::of(std::vector<float>{3}, {1}), {0}, 1, true, single);
  CHECK(std::isnan(single.values<const float>()[0]));
}

TEST_CASE("argmax gives the first of equal elements, the first NaN, and the flattened index over all dims") {
  const Tensor x = Tensor::of(std::vector<float>{1, 3, 3, 0, 3, 5, 5, 2}, {2, 4});
  const Tensor rows = Tensor::empty({2}, Dtype::i64), one = Tensor::empty({}, Dtype::i64);
  cpu::arg_extreme(x, {1}, true, rows);
  CHECK(rows.values<const std::int64_t>()[0] == 1);
  CHECK(rows.values<const std::int64_t>()[1] == 1);
  cpu::arg_extreme(x, {0, 1}, true, one);
  CHECK(one.values<const std::int64_t>()[0] == 5);
  cpu::arg_extreme(x, {0, 1}, false, one);
  CHECK(one.values<const std::int64_t>()[0] == 3);
  const float nan = std::nanf("");
  cpu::arg_extreme(Tensor::of(std::vector<float>{1, nan, 9, nan}, {4}), {0}, true, one);
  CHECK(one.values<const std::int64_t>()[0] == 1);
}

TEST_CASE("first_equal maps local to global indices and gives the largest i64 when nothing is equal") {
  const Tensor x = Tensor::of(std::vector<float>{4, 7, 7, 1, 2, 3}, {2, 3}), value = Tensor::of(std::vector<float>{7, 9}, {2, 1});
  const std::vector<cpu::GlobalIndices> indices{{{{15, 1}, {5, 1}, {4, 1}}, 2}};
  const Tensor out = Tensor::empty({2}, Dtype::i64);
  cpu::first_equal(x, value, {1}, indices, out);
  CHECK(out.values<const std::int64_t>()[0] == 8);
  CHECK(out.values<const std::int64_t>()[1] == std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("a cumulative sum runs along its dim in both directions") {
  const Tensor x = Tensor::of(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}, {3, 2}), out = Tensor::empty({3, 2}, Dtype::i64);
  cpu::cumulative_sum(x, 0, false, out);
  CHECK(to_string(out) == to_string(Tensor::of(std::vector<std::int64_t>{1, 2, 4, 6, 9, 12}, {3, 2})));
  cpu::cumulative_sum(x, 0, true, out);
  CHECK(to_string(out) == to_string(Tensor::of(std::vector<std::int64_t>{9, 12, 8, 10, 5, 6}, {3, 2})));
  cpu::cumulative_sum(x, 1, false, out);
  CHECK(to_string(out) == to_string(Tensor::of(std::vector<std::int64_t>{1, 3, 3, 7, 5, 11}, {3, 2})));
}
