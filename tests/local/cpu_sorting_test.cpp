// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "local/cpu/sorting.h"

using namespace dtensor;
using namespace dtensor::local::cpu;

namespace {

constexpr Dtype kAll[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};

// Many equal elements, exact in every dtype.
Tensor scrambled(const Shape& shape, Dtype dtype) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * 7919 % 5);
  return Tensor::of<double>(values, shape).to(dtype);
}
std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Dtype::f64);
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}

}  // namespace

TEST_CASE("any positions of a line are those of a stable sort, in both directions and every dtype") {
  for (const Dtype dtype : kAll) {
    const Tensor in = scrambled({2, 7, 3}, dtype);
    const auto x = doubles(in);
    for (const bool descending : {false, true})
      for (std::int64_t first = 0; first < 7; ++first)
        for (std::int64_t count = 1; first + count <= 7; ++count) {
          const Tensor values = Tensor::empty({2, count, 3}, dtype), indices = Tensor::empty({2, count, 3}, Dtype::i64);
          order_lines({.dim = 1, .first = first, .count = count, .descending = descending, .nan_first = false}, in, values, indices);
          const auto v = doubles(values), at = doubles(indices);
          for (std::size_t o = 0; o < 2; ++o)
            for (std::size_t c = 0; c < 3; ++c) {
              std::vector<std::size_t> order(7);
              std::iota(order.begin(), order.end(), std::size_t{0});
              const auto value = [&](std::size_t i) { return x[(o * 7 + i) * 3 + c]; };
              std::stable_sort(order.begin(), order.end(),
                               [&](std::size_t a, std::size_t b) { return descending ? value(a) > value(b) : value(a) < value(b); });
              for (std::size_t k = 0; k < static_cast<std::size_t>(count); ++k) {
                const std::size_t slot = (o * static_cast<std::size_t>(count) + k) * 3 + c, wanted = order[static_cast<std::size_t>(first) + k];
                REQUIRE(at[slot] == static_cast<double>(wanted));
                REQUIRE(v[slot] == value(wanted));
              }
            }
        }
  }
}

TEST_CASE("NaN is the greatest, and the median of a line with NaN is its first NaN") {
  const double nan = std::nan("");
  const Tensor in = Tensor::of<double>(std::vector<double>{2, nan, -1, nan, 5}, {5}), values = Tensor::empty({5}, Dtype::f64),
               indices = Tensor::empty({5}, Dtype::i64);
  order_lines({.dim = 0, .first = 0, .count = 5, .descending = false, .nan_first = false}, in, values, indices);
  CHECK(doubles(indices) == std::vector<double>{2, 0, 4, 1, 3});
  order_lines({.dim = 0, .first = 0, .count = 5, .descending = true, .nan_first = false}, in, values, indices);
  CHECK(doubles(indices) == std::vector<double>{1, 3, 4, 0, 2});
  const Tensor one = Tensor::empty({1}, Dtype::f64), at = Tensor::empty({1}, Dtype::i64);
  order_lines({.dim = 0, .first = 2, .count = 1, .descending = false, .nan_first = true}, in, one, at);
  CHECK(std::isnan(doubles(one)[0]));
  CHECK(doubles(at)[0] == 1);
}

TEST_CASE("a binary search counts the elements that are less, or not greater, through an order too") {
  const Tensor sequence = Tensor::of<double>(std::vector<double>{4, 1, 1, 9, 6, 0}, {2, 3});  // unsorted lines and their orders
  const Tensor sorter = Tensor::of<std::int64_t>(std::vector<std::int64_t>{1, 2, 0, 2, 1, 0}, {2, 3});
  const Tensor wanted = Tensor::of<double>(std::vector<double>{1, 4, 5, 0, 6, -1}, {2, 3});
  const auto s = doubles(sequence), w = doubles(wanted);
  for (const bool right : {false, true})
    for (const Dtype dtype : {Dtype::i64, Dtype::i32}) {
      const Tensor out = Tensor::empty({2, 3}, dtype);
      search_lines(sequence, wanted, sorter, right, out);
      const auto got = doubles(out);
      for (std::size_t i = 0; i < 6; ++i) {
        const auto* line = s.data() + i / 3 * 3;
        CHECK(got[i] == std::count_if(line, line + 3, [&](double e) { return right ? e <= w[i] : e < w[i]; }));
      }
    }
}

TEST_CASE("different values are those of a map, with where each went and how often it came") {
  for (const Dtype dtype : kAll) {
    const Tensor in = scrambled({3, 5}, dtype), values = Tensor::empty({15}, dtype), inverse = Tensor::empty({3, 5}, Dtype::i64),
                 counts = Tensor::empty({15}, Dtype::i64), count = Tensor::empty({}, Dtype::i64);
    distinct(in, std::nullopt, values, inverse, counts, count);
    std::map<double, double> times;
    const auto x = doubles(in), v = doubles(values), at = doubles(inverse), n = doubles(counts);
    for (const double e : x) ++times[e];
    REQUIRE(doubles(count)[0] == static_cast<double>(times.size()));
    std::size_t k = 0;
    for (const auto& [value, often] : times) {
      CHECK(v[k] == value);
      CHECK(n[k++] == often);
    }
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(v[static_cast<std::size_t>(at[i])] == x[i]);
  }
}

TEST_CASE("different slices of a dimension are in order of their elements") {
  const Tensor in = Tensor::of<double>(std::vector<double>{1, 0, 1, 2, 3, 2}, {2, 3});  // columns (1 2) (0 3) (1 2)
  const Tensor values = Tensor::empty({2, 3}, Dtype::f64), inverse = Tensor::empty({3}, Dtype::i64), counts = Tensor::empty({3}, Dtype::i64),
               count = Tensor::empty({}, Dtype::i64);
  distinct(in, 1, values, inverse, counts, count);
  CHECK(doubles(count)[0] == 2);
  CHECK(doubles(values.narrow(1, 0, 2).contiguous()) == std::vector<double>{0, 1, 3, 2});
  CHECK(doubles(inverse) == std::vector<double>{1, 0, 1});
  CHECK(doubles(counts.narrow(0, 0, 2)) == std::vector<double>{1, 2});
}

TEST_CASE("the last bin of a histogram is closed, and what is outside counts nowhere") {
  const Tensor in = Tensor::of<double>(std::vector<double>{-1, 0, 0.5, 1, 1.5, 2, 2.5, std::nan("")}, {8}), counts = Tensor::empty({2}, Dtype::f64);
  histogram(in, 0, 2, counts);
  CHECK(doubles(counts) == std::vector<double>{2, 3});
}
