// SPDX-License-Identifier: Apache-2.0
// What a move receives and what it costs; the least that any route receives.
#pragma once

#include <cstdint>

#include "redistribute/plan/pattern.h"
#include "redistribute/plan/route.h"
#include "redistribute/plan/space.h"

namespace dtensor::redistribute {

/// Axes Partial in `from` whose kind `to` does not keep.
AxisMask reduced_axes(const Space& space, const State& from, const State& to) noexcept;

/// By the convention of the kind: all_reduce over n ranks is a reduce_scatter and an all_gather of ceil chunks of the L local elements, (n-2)*chunk + L;
/// every other kind receives each contribution to its result that the rank does not have: contributions * |result| - |result and source|.
Received received(const Space& space, MoveKind kind, const State& from, const State& to);
/// Elements on the worst rank: at most received().max, quickly found.
Estimate received_at_least(const Space& space, MoveKind kind, const State& from, const State& to);
/// By member `self` of `members` in an all_reduce of `local` elements: what others contribute to its ceil chunk, then the chunks of others.
std::int64_t received_in_all_reduce(std::int64_t local, std::int64_t members, std::int64_t self) noexcept;
/// The pieces that come from other members.
std::int64_t received_from_others(const Transfer& transfer, int self) noexcept;
std::int64_t received_by(const Space& space, MoveKind kind, const State& from, const State& to, const Shape& coordinates);

/// At most what any route from `from` to `to` receives (the bound of docs/redistribution.md).
Received least_received(const Space& space, const State& from, const State& to);

/// Times of moves in whole nanoseconds. Terms are rounded one by one, so that no contraction of products changes them.
class Costs {
 public:
  /// @throws InvalidArgument for figures that are not positive (latencies: negative) or another number of axes.
  Costs(const Topology& topology, const Space& space, std::int64_t element_bytes);
  std::int64_t element_bytes() const noexcept { return element_bytes_; }
  /// A kind that communicates: launch + latency (twice for send_recv) + bytes over the slowest link + elements touched at copy speed. Touched are the
  /// contributions combined and the elements written.
  std::int64_t communication(const Space& space, MoveKind kind, AxisMask axes, const State& from, const State& to, Received bytes) const;
  /// A move that communicates takes at least this.
  std::int64_t least_start() const noexcept { return launch_ + least_latency_; }
  /// Writing `elements`.
  std::int64_t writing(std::int64_t elements) const;
  /// No route from `from` whose last move that communicates ends at `to` costs less up to there than `any`, and with another such move before it less than
  /// `several`.
  struct Least {
    std::int64_t any = 0, several = 0;
  };
  Least least(const Space& space, const State& from, const State& to) const;
  /// A move that communicates to `to` takes at least this.
  std::int64_t least_last(const Space& space, const State& to) const;
  /// No route without communication costs less.
  std::int64_t least_after(const Space& space, const State& from, const State& to) const;

 private:
  const Topology& topology_;
  const AxisLink& link(int axis) const noexcept;
  std::int64_t writing_at_least(std::int64_t elements) const;
  std::int64_t receiving_at_least(std::int64_t elements) const;
  std::int64_t filling_at_least(std::int64_t share, std::int64_t target, std::int64_t received, std::int64_t combined) const;
  static bool fills(const State& from, const State& to) noexcept;  // neutral elements for a new sum or product are written
  std::int64_t element_bytes_;
  std::int64_t launch_ = 0, least_latency_ = 0;
  double best_bandwidth_ = 0;
};

}  // namespace dtensor::redistribute
