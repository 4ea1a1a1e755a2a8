// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "local/cpu/embedding.h"

using namespace dtensor;
using local::cpu::ElementsCall;
using local::cpu::kElsewhere;
using local::cpu::RowsCall;

namespace {

constexpr Dtype kNumbers[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8};

// 0, 1, 2, ...: exact in every dtype as long as it is small.
Tensor counted(const Shape& shape, Dtype dtype) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 19);
  return Tensor::of<double>(values, shape).to(dtype);
}
std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Dtype::f64);
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}

Tensor places(const std::vector<std::int64_t>& at) { return Tensor::of(at, {static_cast<std::int64_t>(at.size())}); }

}  // namespace

TEST_CASE("rows are read in the order of the indices, and what is elsewhere is the neutral element of a sum") {
  for (Dtype dtype : kNumbers) {
    const Tensor source = counted({2, 4, 3}, dtype), out = Tensor::empty({2, 5, 3}, dtype);
    const std::vector<std::int64_t> at{3, 0, kElsewhere, 3, 1};
    take_rows(RowsCall{2, 4, 3, places(at)}, source, out);
    const auto in = doubles(source), got = doubles(out);
    for (std::size_t o = 0; o < 2; ++o)
      for (std::size_t i = 0; i < 5; ++i)
        for (std::size_t x = 0; x < 3; ++x) {
          const double value = got[(o * 5 + i) * 3 + x];
          if (at[i] != kElsewhere) CHECK(value == in[(o * 4 + static_cast<std::size_t>(at[i])) * 3 + x]);
          else CHECK((value == 0 && std::signbit(value) == info(dtype).floating));
        }
  }
}

TEST_CASE("deposited rows add up where indices repeat") {
  for (Dtype dtype : kNumbers) {
    const Tensor grad = counted({2, 5, 3}, dtype), sums = Tensor::empty({2, 4, 3}, dtype);
    const std::vector<std::int64_t> at{3, 0, kElsewhere, 3, 1};
    deposit_rows(RowsCall{2, 4, 3, places(at)}, grad, sums);
    std::vector<double> wanted(24);
    const auto g = doubles(grad);
    for (std::size_t o = 0; o < 2; ++o)
      for (std::size_t i = 0; i < 5; ++i)
        for (std::size_t x = 0; x < 3; ++x)
          if (at[i] != kElsewhere) wanted[(o * 4 + static_cast<std::size_t>(at[i])) * 3 + x] += g[(o * 5 + i) * 3 + x];
    CHECK(doubles(sums) == wanted);
  }
}

TEST_CASE("sums of bf16 are rounded once") {
  const std::vector<std::int64_t> at(300, 0);
  const Tensor grad = Tensor::of<double>(std::vector<double>(300, 1.0), {300, 1}).to(Dtype::bf16), sums = Tensor::empty({1, 1}, Dtype::bf16);
  deposit_rows(RowsCall{1, 1, 1, places(at)}, grad, sums);
  CHECK(doubles(sums)[0] == 300);  // adding in bf16 would stop at 256
}

TEST_CASE("elements are read and summed along one dimension, with an index smaller than the source") {
  const Tensor source = counted({3, 4}, Dtype::f32), out = Tensor::empty({2, 3}, Dtype::f32), sums = Tensor::empty({3, 4}, Dtype::f32);
  const std::array<local::cpu::CoordinateMap, 2> others{{{.list = {0, 2}}, {}}};
  const ElementsCall call{{2, 3}, 1, places({3, 3, 0, kElsewhere, 1, 1}), others};
  take_elements(call, source, out);
  CHECK(doubles(out) == std::vector<double>{3, 3, 0, 0, 9, 9});
  deposit_elements(call, counted({2, 3}, Dtype::f32), sums);
  CHECK(doubles(sums) == std::vector<double>{2, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0});
}

TEST_CASE("nothing is read and nothing summed for empty sizes") {
  const Tensor source = counted({4, 3}, Dtype::f32), none = Tensor::empty({0, 3}, Dtype::f32), sums = Tensor::empty({4, 3}, Dtype::f32);
  take_rows(RowsCall{1, 4, 3, places({})}, source, none);
  deposit_rows(RowsCall{1, 4, 3, places({})}, none, sums);
  CHECK(doubles(sums) == std::vector<double>(12));
}

TEST_CASE("index values become positions in what is here, and what is out of range is named") {
  const local::GlobalRun two[] = {{6, 2}, {1, 3}}, whole[] = {{0, 8}};
  for (Dtype dtype : {Dtype::i64, Dtype::i32}) {
    const Tensor index = Tensor::of<double>(std::vector<double>{0, 1, 3, 4, 6, 7, 5}, {7}).to(dtype);
    CHECK(doubles(local::cpu::resolve_positions(index, {"op", "it", 8, two})) == std::vector<double>{-1, 2, 4, -1, 0, 1, -1});
    CHECK(doubles(local::cpu::resolve_positions(index, {"op", "it", 8, whole})) == doubles(index));
    const Tensor below = Tensor::of<double>(std::vector<double>{-8, -1, 7}, {3}).to(dtype);
    CHECK(doubles(local::cpu::resolve_positions(below, {"op", "it", 8, whole, true})) == std::vector<double>{0, 7, 7});
    CHECK_THROWS_WITH(local::cpu::resolve_positions(below, {"op", "it", 8, whole}), "op: index -8 is out of range (it has 8); indices are 0 to 7");
    CHECK_THROWS_WITH(local::cpu::resolve_positions(below, {"op", "it", 7, whole, true}),
                      "op: index -8 is out of range (it has 7); indices are -7 to 6");
  }
}

TEST_CASE("points add up from several positions, and one that is elsewhere is") {
  const Tensor base = Tensor::zeros({2, 3}, Dtype::i64);
  local::cpu::add_positions_to(places({0, kElsewhere, 2}).view({1, 3}).expand({2, 3}), 4, base);
  local::cpu::add_positions_to(places({1, 0}).view({2, 1}).expand({2, 3}), 1, base);
  CHECK(doubles(base) == std::vector<double>{1, -1, 9, 0, -1, 8});
}

TEST_CASE("positions are counted and marked") {
  const Tensor at = places({2, 0, kElsewhere, 2}), counts = Tensor::empty({3}, Dtype::i64), marks = Tensor::empty({4, 3}, Dtype::i64);
  local::cpu::count_positions(at, counts);
  CHECK(doubles(counts) == std::vector<double>{1, 0, 2});
  local::cpu::mark_positions(at, marks);
  CHECK(doubles(marks) == std::vector<double>{0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1});
}
