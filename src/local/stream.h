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

inline constexpr std::size_t kLineBytes = 64;

/// One cache line; `out` begins one. end_stream() makes it visible to other threads.
inline void stream_line(std::byte* out, const std::byte* in) noexcept {
#if defined(__SSE2__)
  for (std::size_t k = 0; k < kLineBytes; k += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + k), _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + k)));
#else
  std::memcpy(out, in, kLineBytes);
#endif
}

/// memcpy by lines.
inline void stream(void* out, const void* in, std::size_t bytes) noexcept {
  auto* to = static_cast<std::byte*>(out);
  const auto* from = static_cast<const std::byte*>(in);
  const std::size_t head = std::min(bytes, (kLineBytes - reinterpret_cast<std::uintptr_t>(to) % kLineBytes) % kLineBytes);
  std::memcpy(to, from, head);
  std::size_t i = head;
  for (; i + kLineBytes <= bytes; i += kLineBytes) stream_line(to + i, from + i);
  std::memcpy(to + i, from + i, bytes - i);
}

inline void end_stream() noexcept {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace dtensor::local
