// SPDX-License-Identifier: Apache-2.0
// Pairs of placements for tests that move tensors from one to the other.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dtensor/tensor.h"
#include "redistribute/covering.h"
#include "tensor/placed_values.h"

namespace placed {

struct Pair {
  Shape shape;
  Dtype dtype = Dtype::f32;
  Entries from, to;
};
inline std::string text(const Pair& p) { return to_string(p.dtype) + to_string(p.shape) + covering::text(p.from) + " -> " + covering::text(p.to); }

/// Rows of choices (of placements, orders, sizes, dtypes) in which every two choices meet, each a pair.
struct PairArray {
  covering::Array array;
  std::vector<Pair> pairs;
};
/// Of tensors with `ndim` dimensions of `sizes` on a mesh.
inline PairArray covering_pairs(const std::vector<int>& mesh, int ndim, std::span<const std::int64_t> sizes, std::uint64_t seed) {
  const std::size_t axes = mesh.size();
  std::vector<int> levels(2 * axes, covering::choice_count(ndim));
  levels.insert(levels.end(), 2, covering::order_count(axes));
  levels.push_back(kDtypeCount);
  levels.insert(levels.end(), static_cast<std::size_t>(ndim), static_cast<int>(sizes.size()));
  const auto pair_of = [&](const covering::Row& row) {
    Pair p;
    p.dtype = static_cast<Dtype>(row[2 * axes + 2]);
    for (std::size_t d = 2 * axes + 3; d < row.size(); ++d) p.shape.push_back(sizes[static_cast<std::size_t>(row[d])]);
    p.from = covering::entries_of(mesh, p.shape, row.data(), row[2 * axes]);
    p.to = covering::entries_of(mesh, p.shape, row.data() + axes, row[2 * axes + 1]);
    return p;
  };
  const auto legal = [&](const covering::Row& row) {
    const Pair p = pair_of(row);
    return covering::legal(p.from, p.dtype) && covering::legal(p.to, p.dtype);
  };
  PairArray result{covering::cover(levels, legal, seed), {}};
  for (const covering::Row& row : result.array.rows) result.pairs.push_back(pair_of(row));
  return result;
}

}  // namespace placed
