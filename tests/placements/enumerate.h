// SPDX-License-Identifier: Apache-2.0
// Every layout of a small mesh, and an independent computation of what each rank owns: element by element, on lists of indices.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <vector>

#include "mesh/mesh_data.h"
#include "placements/layout.h"

namespace dtensor::testing {

inline DeviceMesh mesh_of(const std::vector<int>& sizes) {
  static const std::vector<std::string> names{"dp", "tp", "pp"};
  std::vector<MeshAxis> axes;
  for (std::size_t i = 0; i < sizes.size(); ++i) axes.push_back({names[i], sizes[i]});
  return mesh::make_mesh(1, 64, axes, {});
}

inline const std::vector<std::vector<int>>& meshes() {
  static const std::vector<std::vector<int>> all{{1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {2, 2}, {2, 3}, {3, 2}, {2, 4}, {2, 2, 2}};
  return all;
}

/// Explicit sizes of n over k ranks: all on the first, all on the last, unlike ceil chunks in the middle.
inline std::vector<std::vector<std::int64_t>> ragged_sizes(std::int64_t n, std::size_t k) {
  std::vector<std::vector<std::int64_t>> lists;
  std::vector<std::int64_t> sizes(k, 0);
  sizes.front() = n;
  lists.push_back(sizes);
  sizes.assign(k, 0);
  sizes.back() = n;
  lists.push_back(sizes);
  sizes.assign(k, 0);
  for (std::int64_t i = 0; i < n; ++i) ++sizes[static_cast<std::size_t>(i * i) % k];
  lists.push_back(sizes);
  return lists;
}

inline std::vector<Placement> choices(const Shape& shape, int ranks) {
  std::vector<Placement> list{Replicate(), Partial(ReduceOp::sum)};
  for (int dim = 0; dim < shape.ndim(); ++dim) {
    list.push_back(Shard(dim));
    for (std::int64_t factor : {2, 3, 4}) list.push_back(StridedShard(dim, factor));
    for (auto& sizes : ragged_sizes(shape[dim], static_cast<std::size_t>(ranks))) list.push_back(RaggedShard{dim, sizes});
  }
  return list;
}

inline int dim_of(const Placement& p) {
  if (const auto* s = p.as<Shard>()) return s->dim;
  if (const auto* s = p.as<StridedShard>()) return s->dim;
  if (const auto* s = p.as<RaggedShard>()) return s->dim;
  return -1;
}

/// A list in which explicit sizes come after another split of their dimension is no layout.
inline bool legal(const std::vector<AxisPlacement>& entries) {
  std::set<int> seen;
  for (const AxisPlacement& entry : entries) {
    const int dim = dim_of(entry.placement);
    if (dim >= 0 && !seen.insert(dim).second && entry.placement.as<RaggedShard>() != nullptr) return false;
  }
  return true;
}

using Visit = std::function<void(const std::vector<AxisPlacement>&)>;

/// All placements of a tensor on the mesh in all orders of the axes, joint explicit sizes over the first two axes included.
inline void for_each_placement(const std::vector<int>& sizes, const Shape& shape, const Visit& visit) {
  const DeviceMesh mesh = mesh_of(sizes);
  std::vector<std::vector<Placement>> lists;
  for (int size : sizes) lists.push_back(choices(shape, size));
  std::vector<std::size_t> at(sizes.size(), 0);
  for (;;) {
    std::vector<int> order;
    for (std::size_t i = 0; i < sizes.size(); ++i) order.push_back(static_cast<int>(i));
    do {
      std::vector<AxisPlacement> entries;
      for (int axis : order)
        entries.emplace_back(mesh.names()[static_cast<std::size_t>(axis)], lists[static_cast<std::size_t>(axis)][at[static_cast<std::size_t>(axis)]]);
      if (legal(entries)) visit(entries);
    } while (std::next_permutation(order.begin(), order.end()));
    std::size_t i = sizes.size();
    while (i > 0 && ++at[i - 1] == lists[i - 1].size()) at[--i] = 0;
    if (i == 0) break;
  }
  if (sizes.size() < 2) return;
  for (const char* joint : {"dp+tp", "tp+dp"})
    for (int dim = 0; dim < shape.ndim(); ++dim)
      for (const auto& list : ragged_sizes(shape[dim], static_cast<std::size_t>(sizes[0] * sizes[1]))) {
        if (sizes.size() == 2) visit({{joint, RaggedShard{dim, list}}});
        else
          for (const Placement& last : choices(shape, sizes[2])) {
            const std::vector<AxisPlacement> entries{{joint, RaggedShard{dim, list}}, {"pp", last}};
            if (legal(entries)) visit(entries);
          }
      }
}

using Indices = std::vector<std::int64_t>;

/// Ceil chunk `which` of `count` of a list, element by element.
inline Indices chunk_of(const Indices& list, std::int64_t count, std::int64_t which) {
  const auto n = static_cast<std::int64_t>(list.size());
  std::int64_t width = 0;
  while (width * count < n) ++width;
  Indices part;
  for (std::int64_t i = 0; i < n; ++i)
    if (width > 0 && i / width == which) part.push_back(list[static_cast<std::size_t>(i)]);
  return part;
}

/// Indices of `dim` that the rank at `coordinates` owns, from the placements alone.
inline Indices simulate(const DeviceMesh& mesh, const std::vector<AxisPlacement>& entries, int dim, std::int64_t n, const Shape& coordinates) {
  Indices owned;
  for (std::int64_t i = 0; i < n; ++i) owned.push_back(i);
  for (const AxisPlacement& entry : entries) {
    if (dim_of(entry.placement) != dim) continue;
    std::int64_t rank = 0, ranks = 1;
    for (std::size_t begin = 0; begin < entry.axis.size(); begin += 3) {  // names are of two letters
      const int axis = mesh.axis(entry.axis.substr(begin, 2));
      rank = rank * mesh.sizes()[static_cast<std::size_t>(axis)] + coordinates[axis];
      ranks *= mesh.sizes()[static_cast<std::size_t>(axis)];
    }
    Indices next;
    if (const auto* ragged = entry.placement.as<RaggedShard>()) {
      std::size_t begin = 0;
      for (std::int64_t r = 0; r < rank; ++r) begin += static_cast<std::size_t>(ragged->sizes[static_cast<std::size_t>(r)]);
      const auto length = static_cast<std::size_t>(ragged->sizes[static_cast<std::size_t>(rank)]);
      for (std::size_t i = begin; i < begin + length; ++i) next.push_back(owned[i]);
    } else {
      const auto* strided = entry.placement.as<StridedShard>();
      const std::int64_t pieces = strided == nullptr ? 1 : strided->split_factor;
      for (std::int64_t piece = 0; piece < pieces; ++piece)
        for (std::int64_t index : chunk_of(chunk_of(owned, pieces, piece), ranks, rank)) next.push_back(index);
    }
    owned = std::move(next);
  }
  return owned;
}

inline Indices expand(const std::vector<placements::Run>& runs) {
  Indices list;
  for (const placements::Run& run : runs)
    for (std::int64_t i = 0; i < run.length; ++i) list.push_back(run.begin + i);
  return list;
}

/// Coordinates of every mesh position, row-major.
inline std::vector<Shape> positions(const DeviceMesh& mesh) {
  std::vector<Shape> list;
  for (int rank : mesh.ranks()) mesh::coordinates_of(mesh.data(), rank, list.emplace_back());
  return list;
}

}  // namespace dtensor::testing
