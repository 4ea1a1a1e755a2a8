// SPDX-License-Identifier: Apache-2.0
// Rows of numbers in the type that they are computed in: loading and storing with conversion, and sums in a fixed order.
// A row lies in a buffer padded to a multiple of kChunk, so every loop runs over whole chunks: no tail, no dependence on alignment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <vector>

#include "dtensor/tensor.h"
#include "dtensor/values.h"

namespace dtensor::local::cpu {

inline constexpr std::int64_t kLanes = 16;
inline constexpr std::int64_t kChunk = 64;
/// Elements that are summed lane by lane before pairwise combination starts.
inline constexpr std::int64_t kSumBlock = 1024;

/// Reads n elements that stand `stride` apart, from element `offset` on, into `out`; Acc is float, double or int64.
template <class Acc>
using Loader = void (*)(const void* base, std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* out);
template <class Acc>
Loader<Acc> loader(Dtype dtype) noexcept;
/// Writes n elements; floating to integral truncates, anything but 0 is true.
template <class Acc>
using Storer = void (*)(void* base, std::int64_t offset, std::int64_t stride, std::int64_t n, const Acc* in);
template <class Acc>
Storer<Acc> storer(Dtype dtype) noexcept;

constexpr std::int64_t padded(std::int64_t n) noexcept { return (n + kChunk - 1) / kChunk * kChunk; }

/// Rows of n elements below which another thread does not pay.
constexpr std::int64_t row_grain(std::int64_t n) noexcept { return n > 0 && n < (1 << 14) ? (1 << 14) / n : 1; }

/// Scratch memory for `count` numbers, 64-byte aligned.
template <class Acc>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) : memory_(static_cast<std::size_t>(count) + 64 / sizeof(Acc)) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    data_ = memory_.data() + (64 - address % 64) % 64 / sizeof(Acc);
  }
  Scratch(Scratch&&) noexcept = default;  // the address stays that of the vector's memory
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Acc* data() noexcept { return data_; }

 private:
  std::vector<Acc> memory_;
  Acc* data_;
};

/// Rows of a tensor as numbers: in place where memory holds whole chunks of Acc, in a buffer otherwise. Elements stand `stride` apart; the buffer has
/// padded(n) numbers.
template <class Acc>
class RowReader {
 public:
  explicit RowReader(const Tensor& tensor) noexcept
      : base_(tensor.raw()), load_(loader<Acc>(tensor.dtype())), direct_(tensor.dtype() == dtype_of<Acc>()) {}
  /// The buffer is filled up with `padding`.
  const Acc* read(std::int64_t offset, std::int64_t stride, std::int64_t n, Acc padding, Acc* buffer) const {
    if (direct_ && stride == 1 && n % kChunk == 0) return static_cast<const Acc*>(base_) + offset;
    load_(base_, offset, stride, n, buffer);
    for (std::int64_t i = n; i < padded(n); ++i) buffer[i] = padding;
    return buffer;
  }

 private:
  const void* base_;
  Loader<Acc> load_;
  bool direct_;
};
template <class Acc>
class RowWriter {
 public:
  explicit RowWriter(const Tensor& tensor) noexcept
      : base_(tensor.raw()), store_(storer<Acc>(tensor.dtype())), direct_(tensor.dtype() == dtype_of<Acc>()) {}
  /// Where to write the row, then write() what target() gave.
  Acc* target(std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* buffer) const {
    return in_place(stride, n) ? static_cast<Acc*>(base_) + offset : buffer;
  }
  void write(std::int64_t offset, std::int64_t stride, std::int64_t n, const Acc* row) const {
    if (!in_place(stride, n)) store_(base_, offset, stride, n, row);
  }

 private:
  bool in_place(std::int64_t stride, std::int64_t n) const noexcept { return direct_ && stride == 1 && n % kChunk == 0; }
  void* base_;
  Storer<Acc> store_;
  bool direct_;
};

/// Values combined as a balanced tree whatever their number: push() in order, then take().
template <class Acc, class Combine>
class Cascade {
 public:
  explicit Cascade(Acc neutral) noexcept : neutral_(neutral) {}
  void push(Acc value) noexcept {
    int level = 0;
    for (std::uint64_t n = count_++; (n & 1u) != 0; n >>= 1) value = Combine::of(levels_[level++], value);
    levels_[level] = value;
  }
  Acc take() noexcept {
    bool any = false;
    Acc result = neutral_;
    int level = 0;
    for (std::uint64_t n = count_; n != 0; n >>= 1, ++level) {
      if ((n & 1u) == 0) continue;
      result = any ? Combine::of(levels_[level], result) : levels_[level];
      any = true;
    }
    count_ = 0;
    return result;
  }

 private:
  Acc levels_[48];
  Acc neutral_;
  std::uint64_t count_ = 0;
};

struct Add {
  template <class A>
  static A of(A a, A b) noexcept {
    if constexpr (std::is_integral_v<A>) return static_cast<A>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
    else return a + b;
  }
};

/// Lanes combined pairwise, halves onto each other; overwrites them. `width`: a power of two, known here so that no loop is left.
template <class Combine, std::int64_t width, class Acc>
[[gnu::always_inline]] inline Acc fold_lanes(Acc* lanes) noexcept {
  if constexpr (width > 1) {
    constexpr std::int64_t half = width / 2;
    for (std::int64_t j = 0; j < half; ++j) lanes[j] = Combine::of(lanes[j], lanes[j + half]);
    return fold_lanes<Combine, half>(lanes);
  } else {
    return lanes[0];
  }
}

/// Sum of term(i) for i in [0, n), n a multiple of kChunk.
template <class Acc, class Term>
Acc sum_terms(std::int64_t n, const Term& term) {
  Cascade<Acc, Add> total{Acc(0)};
  for (std::int64_t from = 0; from < n; from += kSumBlock) {
    const std::int64_t to = from + kSumBlock < n ? from + kSumBlock : n;
    Acc lanes[kLanes] = {};
    for (std::int64_t i = from; i < to; i += kLanes)
      for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += term(i + j);
    total.push(fold_lanes<Add, kLanes>(lanes));
  }
  return total.take();
}
/// Largest of n values (a multiple of kChunk), -inf of none. NaN is passed over: what is computed from the NaN itself keeps it.
template <class Acc>
Acc max_of(const Acc* x, std::int64_t n) noexcept {
  Acc lanes[kChunk];
  std::fill(std::begin(lanes), std::end(lanes), -std::numeric_limits<Acc>::infinity());
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = 0; j < kChunk; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  struct Larger {
    static Acc of(Acc a, Acc b) noexcept { return b > a ? b : a; }
  };
  return fold_lanes<Larger, kChunk>(lanes);
}

}  // namespace dtensor::local::cpu
