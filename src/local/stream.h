// SPDX-License-Identifier: Apache-2.0
// Stores past the caches, for results so large that they would only push other data out of them: the destination is not read before it is written.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace dtensor::local {

/// Outputs of at least so many bytes do better past the caches.
inline constexpr std::int64_t kStreamBytes = 2 << 20;

/// memcpy by such stores where the machine has them. end_stream() makes them visible to other threads.
inline void stream(void* out, const void* in, std::size_t bytes) noexcept {
#if defined(__SSE2__)
  auto* to = static_cast<std::byte*>(out);
  const auto* from = static_cast<const std::byte*>(in);
  const std::size_t head = std::min(bytes, (16 - reinterpret_cast<std::uintptr_t>(to) % 16) % 16);
  std::memcpy(to, from, head);
  std::size_t i = head;
  for (; i + 64 <= bytes; i += 64)
    for (std::size_t k = 0; k < 64; k += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i + k), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i + k)));
  std::memcpy(to + i, from + i, bytes - i);
#else
  std::memcpy(out, in, bytes);
#endif
}

inline void end_stream() noexcept {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace dtensor::local
