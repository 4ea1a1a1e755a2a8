// SPDX-License-Identifier: Apache-2.0
// How an elementwise kernel walks its operands: whole vectors of neighbours where memory allows it, else single elements, 32-bit arithmetic throughout.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/values.h"
#include "local/device_code.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

inline constexpr int kMostOperands = 10;

/// Division of numbers below 2^31 by one that is known before: a product and a shift.
struct Divider {
  std::uint32_t divisor = 1, factor = 1, shift = 0;
  Divider() = default;
  /// @pre 0 < d < 2^31
  explicit Divider(std::uint32_t d) noexcept;
  DTENSOR_DEVICE std::uint32_t quotient(std::uint32_t n) const {
    const auto high = static_cast<std::uint32_t>((static_cast<std::uint64_t>(n) * factor) >> 32);
    return (high + n) >> shift;
  }
};

/// A tensor's memory, or a number (no memory).
struct MapOperand {
  std::byte* data = nullptr;
  Dtype dtype = Dtype::f32;
  int bytes = 4;                          ///< of an element
  std::span<const std::int64_t> strides;  ///< of the results' dimensions
};

enum class Access : std::uint8_t { number, repeated, vector, single };

/// What a thread takes: elements, in vectors of so many neighbours (0: none of them need be neighbours).
struct Taken {
  int width = 1, pack = 0;
};

/// One launch. In a walk by vectors thread i takes vectors i, i + threads ...: of row v / chunks the elements from `pack * (v % chunks)` on in the innermost
/// dimension. Otherwise it takes elements i, i + threads ... of the row-major order.
template <int N>
struct MapWalk {
  std::byte* data[N] = {};
  std::int32_t strides[N][kMaxDims] = {};  ///< in elements, of `dims` dimensions; without the innermost one in a walk by vectors
  Divider sizes[kMaxDims];
  Divider chunks;
  std::uint32_t threads = 0;
  std::uint32_t vectors = 0;
  std::uint32_t count = 0;  ///< elements of the innermost dimension in a walk by vectors, of all otherwise
  std::uint8_t dims = 0;
  bool by_vectors = false;
  Access access[N] = {};
  Dtype dtype[N] = {};

  /// The same walk of the first M operands.
  template <int M>
  MapWalk<M> first() const noexcept {
    MapWalk<M> w;
    for (int n = 0; n < M; ++n) {
      w.data[n] = data[n];
      for (int d = 0; d < dims; ++d) w.strides[n][d] = strides[n][d];
      w.access[n] = access[n];
      w.dtype[n] = dtype[n];
    }
    for (int d = 0; d < dims; ++d) w.sizes[d] = sizes[d];
    w.chunks = chunks;
    w.threads = threads;
    w.vectors = vectors;
    w.count = count;
    w.dims = dims;
    w.by_vectors = by_vectors;
    return w;
  }
};

/// A function that is called while the caller waits.
class WalkLaunch {
 public:
  template <class F>
  WalkLaunch(const F& f) noexcept  // NOLINT(google-explicit-constructor)
      : f_(&f), call_([](const void* self, const MapWalk<kMostOperands>& w) { (*static_cast<const F*>(self))(w); }) {}
  void operator()(const MapWalk<kMostOperands>& w) const { call_(f_, w); }

 private:
  const void* f_;
  void (*call_)(const void*, const MapWalk<kMostOperands>&);
};

/// `launch` is called for each of the launches that walk all elements, one unless there are 2^31 of them or offsets go beyond that.
/// Results come first among the operands.
void for_walks(std::span<const std::int64_t> sizes, std::span<const MapOperand> operands, Taken taken, const WalkLaunch& launch);

}  // namespace dtensor::local::cuda
