// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/overlap.h"

#include <algorithm>

namespace dtensor::redistribute {
namespace {

using placements::Run;

// Calls visit(position in from, position in to, length) for each common interval.
template <class Visit>
void for_each_common(std::span<const Run> from, std::span<const Run> to, Visit&& visit) {
  std::size_t i = 0, j = 0;
  std::int64_t before_i = 0, before_j = 0;
  while (i < from.size() && j < to.size()) {
    const std::int64_t end_i = from[i].begin + from[i].length, end_j = to[j].begin + to[j].length;
    const std::int64_t begin = std::max(from[i].begin, to[j].begin), end = std::min(end_i, end_j);
    if (begin < end) visit(before_i + begin - from[i].begin, before_j + begin - to[j].begin, end - begin);
    if (end_i <= end_j) before_i += from[i++].length;
    else before_j += to[j++].length;
  }
}

}  // namespace

std::vector<Overlap> overlaps(std::span<const Run> from, std::span<const Run> to) {
  std::vector<Overlap> result;
  for_each_common(from, to, [&](std::int64_t a, std::int64_t b, std::int64_t length) {
    if (!result.empty() && result.back().from + result.back().length == a && result.back().to + result.back().length == b) {
      result.back().length += length;
    } else {
      result.push_back({a, b, length});
    }
  });
  return result;
}

std::vector<Overlap> combed(std::span<const Overlap> intervals) {
  std::vector<Overlap> result;
  for (const Overlap& next : intervals) {
    if (!result.empty() && result.back().length == next.length) {
      Overlap& last = result.back();
      const std::int64_t from_step = next.from - last.from - (last.count - 1) * last.from_step;
      const std::int64_t to_step = next.to - last.to - (last.count - 1) * last.to_step;
      if (last.count == 1 || (from_step == last.from_step && to_step == last.to_step)) {
        last.from_step = from_step;
        last.to_step = to_step;
        ++last.count;
        continue;
      }
    }
    result.push_back(next);
  }
  return result;
}

std::int64_t overlap_size(std::span<const Run> from, std::span<const Run> to) noexcept {
  std::int64_t n = 0;
  for_each_common(from, to, [&](std::int64_t, std::int64_t, std::int64_t length) { n += length; });
  return n;
}

}  // namespace dtensor::redistribute
