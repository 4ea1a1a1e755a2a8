// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/boxes.h"

namespace dtensor::checkpoints {
namespace {

void walk(const std::vector<std::vector<placements::Run>>& runs, const Shape& strides, int dim, std::int64_t whole, std::int64_t& local,
          std::vector<Segment>& out) {
  const bool last = dim + 1 == strides.ndim();
  for (const placements::Run& r : runs[static_cast<std::size_t>(dim)]) {
    if (!last) {
      for (std::int64_t i = 0; i < r.length; ++i) walk(runs, strides, dim + 1, whole + (r.begin + i) * strides[dim], local, out);
      continue;
    }
    const std::int64_t begin = whole + r.begin;
    if (!out.empty() && out.back().whole + out.back().length == begin) out.back().length += r.length;
    else out.push_back({begin, local, r.length});
    local += r.length;
  }
}

}  // namespace

std::vector<Segment> segments(const placements::Layout& layout, const Shape& shape, const Shape& coordinates) {
  if (shape.empty()) return {{0, 0, 1}};
  if (placements::local_shape(layout, shape, coordinates).numel() == 0) return {};
  std::vector<std::vector<placements::Run>> runs;
  for (int d = 0; d < shape.ndim(); ++d) runs.push_back(placements::owned_runs(layout, d, shape[d], coordinates));
  std::vector<Segment> out;
  std::int64_t local = 0;
  walk(runs, contiguous_strides(shape), 0, 0, local, out);
  return out;
}

bool is_writer(const placements::Layout& layout, const Shape& coordinates) {
  for (int axis = 0; axis < layout.mesh_ndim(); ++axis)
    if (layout.dim_of(axis) < 0 && coordinates[axis] != 0) return false;
  return true;
}

}  // namespace dtensor::checkpoints
