// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "dtensor/error.h"
#include "dtensor/tensor.h"
#include "local/copy.h"
#include "local/neutral.h"
#include "local/reduce_boxes.h"
#include "local/strided.h"

using namespace dtensor;

namespace {

using Spans = std::span<const std::int64_t>;

// All indices of a box, slowly.
void each_index(const Shape& sizes, const std::function<void(const Shape&)>& f) {
  Shape at = Shape::filled(sizes.ndim(), 0);
  if (sizes.numel() == 0) return;
  for (;;) {
    f(at);
    int d = sizes.ndim() - 1;
    for (; d >= 0; --d) {
      if (++at[d] < sizes[d]) break;
      at[d] = 0;
    }
    if (d < 0) return;
  }
}
std::int64_t address(const Shape& at, const Shape& strides) {
  std::int64_t sum = 0;
  for (int d = 0; d < at.ndim(); ++d) sum += at[d] * strides[d];
  return sum;
}

const std::vector<Shape> kSizes{{}, {1}, {0}, {5}, {3, 4}, {1, 7}, {7, 1}, {2, 0, 3}, {2, 3, 5}, {4, 1, 6}, {2, 2, 2, 3}, {33, 18}, {3, 40, 21}};

// Strides of a box: packed, padded in each dimension, and packed in another order.
std::vector<Shape> strides_of(const Shape& sizes) {
  std::vector<Shape> result{contiguous_strides(sizes)};
  Shape padded = sizes;
  for (int d = 0; d < sizes.ndim(); ++d) padded[d] += d % 2 + 1;
  result.push_back(contiguous_strides(padded));
  Shape spread = contiguous_strides(sizes);
  for (int d = 0; d < sizes.ndim(); ++d) spread[d] *= 3;
  result.push_back(spread);
  Shape turned = sizes, strides = sizes;
  std::reverse(turned.begin(), turned.end());
  const Shape packed = contiguous_strides(turned);
  for (int d = 0; d < sizes.ndim(); ++d) strides[d] = packed[sizes.ndim() - 1 - d];
  result.push_back(strides);
  return result;
}
std::size_t room(const Shape& sizes, const Shape& strides) {
  std::int64_t last = 0;
  for (int d = 0; d < sizes.ndim(); ++d) last += std::max<std::int64_t>(0, sizes[d] - 1) * strides[d];
  return static_cast<std::size_t>(last + 1);
}

// Address of an element type at `shift` elements beyond a 64-byte boundary.
template <class T>
T* shifted(std::vector<char>& memory, std::size_t elements, std::size_t shift) {
  memory.assign((elements + shift) * sizeof(T) + 64, 0);
  auto base = (reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64;
  return reinterpret_cast<T*>(base) + shift;
}

template <class T>
T sample(std::mt19937& random) {
  if constexpr (std::is_same_v<T, bool>) return random() % 2 == 0;
  else if constexpr (local::kIsFloating<T>) return local::convert<T>(static_cast<double>(static_cast<int>(random() % 4001) - 2000) / 64.0);
  else return static_cast<T>(random());
}

template <class T>
std::vector<char> bytes_of(const T* data, std::size_t count) {
  const auto* from = reinterpret_cast<const char*>(data);
  return {from, from + count * sizeof(T)};
}

// Strictly in order, one element at a time, in the accumulation type.
template <class T>
T reference(const std::vector<T>& values, ReduceOp op, std::int64_t divisor) {
  using A = local::Accumulate<T>;
  A acc = local::load(values[0]);
  for (std::size_t i = 1; i < values.size(); ++i) {
    const A b = local::load(values[i]);
    if constexpr (std::is_floating_point_v<A>) {
      if (op == ReduceOp::sum || op == ReduceOp::avg) acc = acc + b;
      if (op == ReduceOp::product) acc = acc * b;
      if (op == ReduceOp::min) acc = std::isnan(acc) || std::isnan(b) ? std::numeric_limits<A>::quiet_NaN() : std::min(acc, b);
      if (op == ReduceOp::max) acc = std::isnan(acc) || std::isnan(b) ? std::numeric_limits<A>::quiet_NaN() : std::max(acc, b);
    } else {
      const auto x = static_cast<std::uint64_t>(acc), y = static_cast<std::uint64_t>(b);
      if (op == ReduceOp::sum) acc = static_cast<A>(x + y);
      if (op == ReduceOp::product) acc = static_cast<A>(x * y);
      if (op == ReduceOp::min) acc = std::min(acc, b);
      if (op == ReduceOp::max) acc = std::max(acc, b);
      if (op == ReduceOp::band) acc = static_cast<A>(x & y);
      if (op == ReduceOp::bor) acc = static_cast<A>(x | y);
      if (op == ReduceOp::bxor) acc = static_cast<A>(x ^ y);
    }
  }
  if constexpr (std::is_floating_point_v<A>) acc = acc / static_cast<A>(divisor);
  return local::store<T>(acc);
}

constexpr ReduceOp kOps[] = {ReduceOp::sum,     ReduceOp::avg,  ReduceOp::min, ReduceOp::max,
                             ReduceOp::product, ReduceOp::band, ReduceOp::bor, ReduceOp::bxor};

// `parts` sources with the given strides, at addresses shifted by their number.
template <class T>
void check_reduce(const Shape& sizes, const Shape& dst_strides, const Shape& src_strides, std::size_t parts, ReduceOp op, std::size_t shift) {
  std::mt19937 random(7);
  std::vector<std::vector<char>> memories(parts);
  std::vector<const void*> sources;
  for (std::size_t p = 0; p < parts; ++p) {
    T* data = shifted<T>(memories[p], room(sizes, src_strides), shift + p);
    for (std::size_t i = 0; i < room(sizes, src_strides); ++i) data[i] = sample<T>(random);
    sources.push_back(data);
  }
  std::vector<char> out_memory;
  T* out = shifted<T>(out_memory, room(sizes, dst_strides), shift);
  const std::int64_t divisor = op == ReduceOp::avg ? static_cast<std::int64_t>(parts) : 1;
  const std::vector<Shape> strides(parts, src_strides);
  local::reduce_box(out, Spans(dst_strides), sources, strides, Spans(sizes), dtype_of<T>(), op, divisor);
  each_index(sizes, [&](const Shape& at) {
    std::vector<T> values;
    for (const void* s : sources) values.push_back(static_cast<const T*>(s)[address(at, src_strides)]);
    const T expected = reference<T>(values, op, divisor);
    REQUIRE(bytes_of(&out[address(at, dst_strides)], 1) == bytes_of(&expected, 1));
  });
}

}  // namespace

TEST_CASE("copy_box equals an index-by-index copy and touches nothing else, for all shapes, strides and element sizes") {
  for (const Shape& sizes : kSizes)
    for (const Shape& dst_strides : strides_of(sizes))
      for (const Shape& src_strides : strides_of(sizes))
        for (std::size_t bytes : {1u, 2u, 3u, 4u, 8u, 16u}) {
          std::vector<unsigned char> src(room(sizes, src_strides) * bytes + 1), dst(room(sizes, dst_strides) * bytes + 1, 0xee);
          for (std::size_t i = 0; i < src.size(); ++i) src[i] = static_cast<unsigned char>(i * 7 + i / 251);
          std::vector<unsigned char> expected = dst;
          each_index(sizes, [&](const Shape& at) {
            std::memcpy(&expected[1 + static_cast<std::size_t>(address(at, dst_strides)) * bytes],
                        &src[1 + static_cast<std::size_t>(address(at, src_strides)) * bytes], bytes);
          });
          local::copy_box(dst.data() + 1, Spans(dst_strides), src.data() + 1, Spans(src_strides), Spans(sizes), bytes);
          REQUIRE(dst == expected);
        }
}

TEST_CASE("fill_box fills the box and touches nothing else") {
  for (const Shape& sizes : kSizes)
    for (const Shape& strides : strides_of(sizes)) {
      std::vector<std::int32_t> dst(room(sizes, strides), 5), expected = dst;
      each_index(sizes, [&](const Shape& at) { expected[static_cast<std::size_t>(address(at, strides))] = -3; });
      local::fill_box(dst.data(), Dtype::i32, Spans(strides), Spans(sizes), -3);
      REQUIRE(dst == expected);
    }
}

TEST_CASE("reduce_box equals an index-by-index reduction in the given order, for all shapes and strides") {
  for (const Shape& sizes : kSizes)
    for (const Shape& dst_strides : strides_of(sizes))
      for (const Shape& src_strides : strides_of(sizes))
        for (std::size_t parts : {1u, 2u, 3u, 5u}) {
          check_reduce<float>(sizes, dst_strides, src_strides, parts, ReduceOp::sum, 1);
          check_reduce<BFloat16>(sizes, dst_strides, src_strides, parts, ReduceOp::avg, 3);
        }
}

TEST_CASE("results too large for the caches are the same numbers, in whole runs and in rows that begin anywhere") {
  check_reduce<float>({600'001}, {1}, {1}, 2, ReduceOp::sum, 3);
  check_reduce<float>({600, 1031}, {1033, 1}, {1031, 1}, 3, ReduceOp::avg, 1);
  check_reduce<BFloat16>({1'100'000}, {1}, {1}, 2, ReduceOp::sum, 5);
}

TEST_CASE("every legal (op, dtype) reduces as defined at every alignment, the others are refused") {
  for (int d = 0; d < kDtypeCount; ++d)
    for (const ReduceOp op : kOps) {
      const auto dtype = static_cast<Dtype>(d);
      const bool floating = info(dtype).floating, boolean = dtype == Dtype::boolean;
      const bool bitwise = op == ReduceOp::band || op == ReduceOp::bor || op == ReduceOp::bxor;
      bool legal = true;
      if (op == ReduceOp::avg) legal = floating;
      if (op == ReduceOp::sum || op == ReduceOp::product) legal = !boolean;
      if (bitwise) legal = !floating;
      CHECK(local::is_reducible(op, dtype) == legal);
      local::visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
        if (!legal) {
          CHECK_THROWS_AS(check_reduce<T>({4}, {1}, {1}, 2, op, 0), InvalidArgument);
          return;
        }
        for (std::size_t shift : {0u, 1u, 2u, 5u, 13u}) check_reduce<T>({2111}, {1}, {1}, 3, op, shift);
      });
    }
}

TEST_CASE("a reduction in place and one cut into pieces give the same bits") {
  std::mt19937 random(3);
  std::vector<float> a(5000), b(5000), c(5000);
  for (auto* v : {&a, &b, &c})
    for (float& x : *v) x = std::bit_cast<float>(static_cast<std::uint32_t>(random() & 0xbfffffffu));
  const std::vector<Shape> one{Shape{1}};
  const Shape stride{1};
  const auto reduce = [&](float* out, std::int64_t begin, std::int64_t end) {
    const std::vector<const void*> sources{a.data() + begin, b.data() + begin, c.data() + begin};
    const Shape sizes{end - begin};
    local::reduce_box(out + begin, Spans(stride), sources, one, Spans(sizes), Dtype::f32, ReduceOp::sum, 3);
  };
  std::vector<float> whole(5000), cut(5000);
  reduce(whole.data(), 0, 5000);
  for (std::int64_t at = 0; at < 5000;) {
    const std::int64_t next = std::min<std::int64_t>(5000, at + 1 + static_cast<std::int64_t>(random() % 700));
    reduce(cut.data(), at, next);
    at = next;
  }
  CHECK(bytes_of(whole.data(), 5000) == bytes_of(cut.data(), 5000));
  reduce(b.data(), 0, 5000);
  CHECK(bytes_of(whole.data(), 5000) == bytes_of(b.data(), 5000));
}

TEST_CASE("NaN wins in min and max whichever source holds it, and bf16 sums round once") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Shape> one{Shape{1}};
  const Shape stride{1}, sizes{4};
  std::vector<float> a{nan, 1, 2, nan}, b{1, nan, 3, nan}, out(4);
  const std::vector<const void*> sources{a.data(), b.data()};
  for (const ReduceOp op : {ReduceOp::min, ReduceOp::max}) {
    local::reduce_box(out.data(), Spans(stride), sources, one, Spans(sizes), Dtype::f32, op);
    CHECK(std::isnan(out[0]));
    CHECK(std::isnan(out[1]));
    CHECK(out[2] == (op == ReduceOp::min ? 2 : 3));
    CHECK(std::isnan(out[3]));
  }
  // 256 + 1 + 1 is 258 when it is rounded at the end and 256 when it is rounded after each step.
  const std::vector<BFloat16> big{BFloat16(256)}, small{BFloat16(1)};
  BFloat16 sum;
  const std::vector<const void*> parts{big.data(), small.data(), small.data()};
  const Shape single{1};
  local::reduce_box(&sum, Spans(stride), parts, one, Spans(single), Dtype::bf16, ReduceOp::sum);
  CHECK(static_cast<float>(sum) == 258.0f);
}

TEST_CASE("the neutral element leaves every bit of the other operand, on either side") {
  std::mt19937 random(5);
  for (int d = 0; d < kDtypeCount; ++d)
    for (const ReduceOp op : kOps) {
      const auto dtype = static_cast<Dtype>(d);
      const Tensor neutral = Tensor::empty({64}, dtype);
      if (!local::is_reducible(op, dtype)) {
        CHECK_THROWS_AS(local::fill_neutral(neutral, op), InvalidArgument);
        continue;
      }
      local::fill_neutral(neutral, op);
      local::visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
        const Tensor x = Tensor::empty({64}, dtype), out = Tensor::empty({64}, dtype);
        for (T& v : x.values<T>()) v = sample<T>(random);
        if constexpr (local::kIsFloating<T>) {
          x.values<T>()[0] = local::convert<T>(-0.0);
          x.values<T>()[1] = local::convert<T>(0.0);
          x.values<T>()[2] = local::convert<T>(HUGE_VAL);
          x.values<T>()[3] = local::convert<T>(-HUGE_VAL);
        }
        const std::vector<Shape> one{Shape{1}};
        const Shape stride{1}, sizes{64};
        for (const bool first : {true, false}) {
          const std::vector<const void*> sources =
              first ? std::vector<const void*>{neutral.read(), x.read()} : std::vector<const void*>{x.read(), neutral.read()};
          local::reduce_box(out.data(), Spans(stride), sources, one, Spans(sizes), dtype, op);
          REQUIRE(bytes_of(static_cast<const T*>(out.read()), 64) == bytes_of(static_cast<const T*>(x.read()), 64));
        }
      });
    }
}
