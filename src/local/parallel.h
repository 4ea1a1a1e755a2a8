// SPDX-License-Identifier: Apache-2.0
// Work split over the calling rank's own threads. Results must not depend on how many there are: a piece writes elements that no other piece touches,
// and what it computes for an element does not depend on where the piece begins.
#pragma once

#include <cstdint>
#include <type_traits>

namespace dtensor::local {

/// Elements per piece below which a copy or a pointwise kernel does not gain from another thread.
inline constexpr std::int64_t kPointwiseGrain = 1 << 15;

/// Threads that parallel_for would use at most: RankContext::threads, 1 on a thread that is no rank and inside a piece.
int parallel_threads() noexcept;

namespace detail {
using Piece = void (*)(void* body, std::int64_t begin, std::int64_t end);
void run_pieces(std::int64_t count, std::int64_t pieces, Piece piece, void* body);
}  // namespace detail

/// f(begin, end) over [0, count) in consecutive pieces of at least `grain` (but for fewer in all). Inline on one thread; returns when all are done.
/// The first exception of a piece is thrown here. f must not call the library's allocator with the intent to charge this rank.
template <class F>
void parallel_for(std::int64_t count, std::int64_t grain, F&& f) {
  if (count <= 0) return;
  const std::int64_t most = grain > 0 ? count / grain : count;
  const std::int64_t threads = most > 1 ? parallel_threads() : 1;
  const std::int64_t pieces = most < threads ? most : threads;
  if (pieces <= 1) {
    f(std::int64_t{0}, count);
    return;
  }
  using Body = std::remove_reference_t<F>;
  detail::run_pieces(
      count, pieces, [](void* body, std::int64_t begin, std::int64_t end) { (*static_cast<Body*>(body))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace dtensor::local
