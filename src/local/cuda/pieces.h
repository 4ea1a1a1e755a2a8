// SPDX-License-Identifier: Apache-2.0
// Pieces of 1 to 16 bytes that are loaded and stored at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "local/cuda/block.h"

namespace dtensor::local::cuda {

template <std::size_t bytes>
struct alignas(bytes) Piece {
  unsigned char of[bytes];
};

#if defined(__CUDA_ARCH__)
template <std::size_t bytes>
using DeviceWord = std::conditional_t<
    bytes == 16, uint4,
    std::conditional_t<bytes == 8, uint2, std::conditional_t<bytes == 4, unsigned, std::conditional_t<bytes == 2, unsigned short, unsigned char>>>>;
#endif

/// Both addresses are multiples of `bytes`.
template <std::size_t bytes>
DTENSOR_DEVICE inline void copy_piece(void* to, const void* from) {
#if defined(__CUDA_ARCH__)
  *static_cast<DeviceWord<bytes>*>(to) = *static_cast<const DeviceWord<bytes>*>(from);
#else
  std::memcpy(to, from, bytes);
#endif
}

/// Calls f with the size of a piece, as an integral_constant: the largest power of two up to 16 that divides `number`, an or of addresses and distances in bytes.
template <class F>
void with_piece(std::uintptr_t number, F&& f) {
  if (number % 16 == 0) return f(std::integral_constant<std::size_t, 16>{});
  if (number % 8 == 0) return f(std::integral_constant<std::size_t, 8>{});
  if (number % 4 == 0) return f(std::integral_constant<std::size_t, 4>{});
  if (number % 2 == 0) return f(std::integral_constant<std::size_t, 2>{});
  f(std::integral_constant<std::size_t, 1>{});
}

}  // namespace dtensor::local::cuda
