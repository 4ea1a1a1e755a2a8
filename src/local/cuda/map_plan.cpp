// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/map_plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdlib>

namespace dtensor::local::cuda {
namespace {

using Loop = StridedLoop<kMostOperands>;
constexpr std::int64_t kLimit = std::int64_t{1} << 30;

// Of the farthest element from the first one.
std::int64_t reach(const Loop& loop, std::size_t operand) {
  std::int64_t far = 0;
  for (std::size_t d = 0; d < static_cast<std::size_t>(loop.ndim); ++d) far += (loop.sizes[d] - 1) * std::abs(loop.strides[operand][d]);
  return far;
}

struct Pieces {
  std::span<const MapOperand> operands;
  Taken taken;
  const WalkLaunch& launch;

  std::int64_t bytes(std::size_t n) const { return operands[n].bytes; }

  bool by_vectors(const Loop& loop, const std::array<std::byte*, kMostOperands>& data) const {
    const auto inner = static_cast<std::size_t>(loop.ndim - 1);
    if (taken.pack == 0 || loop.sizes[inner] < taken.pack) return false;
    for (std::size_t n = 0; n < operands.size(); ++n) {
      if (data[n] == nullptr || loop.strides[n][inner] == 0) continue;
      if (loop.strides[n][inner] != 1) return false;
      const std::int64_t unit = std::min<std::int64_t>(16, taken.pack * bytes(n));
      if (reinterpret_cast<std::uintptr_t>(data[n]) % static_cast<std::uintptr_t>(unit) != 0) return false;
      for (std::size_t d = 0; d < inner; ++d)
        if (loop.strides[n][d] * bytes(n) % unit != 0) return false;
    }
    return true;
  }

  void walk(const Loop& loop, const std::array<std::byte*, kMostOperands>& data) const {
    MapWalk<kMostOperands> w;
    w.by_vectors = by_vectors(loop, data);
    w.dims = static_cast<std::uint8_t>(w.by_vectors ? loop.ndim - 1 : loop.ndim);
    const std::int64_t inner = loop.inner(), pack = w.by_vectors ? taken.pack : 1, chunks = (inner + pack - 1) / pack;
    const std::int64_t vectors = loop.numel / inner * chunks, each = taken.width / pack;
    w.vectors = static_cast<std::uint32_t>(vectors);
    w.threads = static_cast<std::uint32_t>((vectors + each - 1) / each);
    w.count = static_cast<std::uint32_t>(w.by_vectors ? inner : loop.numel);
    w.chunks = Divider(static_cast<std::uint32_t>(chunks));
    for (int d = 0; d < w.dims; ++d) w.sizes[d] = Divider(static_cast<std::uint32_t>(loop.sizes[static_cast<std::size_t>(d)]));
    for (std::size_t n = 0; n < operands.size(); ++n) {
      w.data[n] = data[n];
      w.dtype[n] = operands[n].dtype;
      bool repeated = true;
      for (std::size_t d = 0; d < static_cast<std::size_t>(loop.ndim); ++d) repeated = repeated && loop.strides[n][d] == 0;
      const bool still = w.by_vectors ? loop.inner_stride(n) == 0 : repeated;
      w.access[n] = data[n] == nullptr ? Access::number : still ? Access::repeated : w.by_vectors ? Access::vector : Access::single;
      for (int d = 0; d < w.dims; ++d) w.strides[n][d] = static_cast<std::int32_t>(loop.strides[n][static_cast<std::size_t>(d)]);
    }
    launch(w);
  }

  // Halves the longest dimension until everything is near enough.
  void run(const Loop& loop, const std::array<std::byte*, kMostOperands>& data) const {
    bool near = loop.numel <= kLimit;
    for (std::size_t n = 0; n < operands.size(); ++n) near = near && (data[n] == nullptr || reach(loop, n) <= kLimit);
    if (near) return walk(loop, data);
    const auto dims = static_cast<std::size_t>(loop.ndim);
    const auto longest = static_cast<std::size_t>(std::max_element(loop.sizes.begin(), loop.sizes.begin() + loop.ndim) - loop.sizes.begin());
    const std::int64_t size = loop.sizes[longest], head = size > 64 ? (size / 2 + 63) / 64 * 64 : size / 2;
    for (const bool second : {false, true}) {
      Loop part = loop;
      part.sizes[longest] = second ? size - head : head;
      part.numel = 1;
      for (std::size_t d = 0; d < dims; ++d) part.numel *= part.sizes[d];
      auto from = data;
      for (std::size_t n = 0; second && n < operands.size(); ++n)
        if (from[n] != nullptr) from[n] += head * loop.strides[n][longest] * bytes(n);
      run(part, from);
    }
  }
};

}  // namespace

Divider::Divider(std::uint32_t d) noexcept : divisor(d) {
  shift = static_cast<std::uint32_t>(std::bit_width(d - 1));
  factor = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - d)) / d + 1);
}

void for_walks(std::span<const std::int64_t> sizes, std::span<const MapOperand> operands, Taken taken, const WalkLaunch& launch) {
  std::array<std::int64_t, kMaxDims> zeros{};
  std::array<std::span<const std::int64_t>, kMostOperands> strides;
  std::array<std::byte*, kMostOperands> data{};
  for (std::size_t n = 0; n < strides.size(); ++n) {
    const bool memory = n < operands.size() && operands[n].data != nullptr;
    strides[n] = memory ? operands[n].strides : std::span<const std::int64_t>(zeros.data(), sizes.size());
    if (memory) data[n] = operands[n].data;
  }
  const Loop loop = strided_loop<kMostOperands>(sizes, strides);
  if (loop.numel == 0) return;
  Pieces{operands, taken, launch}.run(loop, data);
}

}  // namespace dtensor::local::cuda
