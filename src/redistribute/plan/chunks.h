// SPDX-License-Identifier: Apache-2.0
// Routes in chunks: what a memory limit leads to when no route of the whole tensor keeps to it, or only a dearer one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "redistribute/plan/route.h"
#include "redistribute/plan/search.h"
#include "redistribute/plan/space.h"

namespace dtensor::redistribute {

struct Question {
  LayoutRef from, to;
  Shape shape;
  Dtype dtype = Dtype::f32;
  const Topology* topology = nullptr;
};

/// The moves and figures of what was found, without the lower bound.
Route route_of(const Space& space, const Found& found, const LayoutRef& from, const LayoutRef& to, std::int64_t element_bytes);
/// By cost, launches, peak.
bool before(const Route& a, const Route& b) noexcept;

/// The family: a dimension whose splits are the same at both ends stays as it is and is cut on every rank into slabs of so many local indices: half of
/// what the worst rank has, a quarter, ... or one, in at most kMostChunks slabs. Every slab goes by one route of its own tensor. Of equal routes the one of
/// the first dimension and the fewest chunks.
inline constexpr std::int64_t kMostChunks = 1024;
/// The sizes of slabs of a dimension of which the worst rank has `extent` indices, descending.
std::vector<std::int64_t> slab_sizes(std::int64_t extent);
/// The first of the family whose peak is at most `limit`.
std::optional<Route> route_in_chunks(const Question& question, std::int64_t limit);
/// The least peak in the family; none where it is empty.
std::optional<std::int64_t> least_peak_in_chunks(const Question& question);

/// @throws InvalidArgument saying so.
[[noreturn]] void refuse_limit(std::int64_t limit, std::int64_t least_peak);

}  // namespace dtensor::redistribute
