// SPDX-License-Identifier: Apache-2.0
// Covering arrays and the placements they choose among: how tests reach every pair of choices where all combinations are too many.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "dtensor/placement.h"
#include "dtensor/values.h"

namespace covering {

using dtensor::AxisPlacement;
using dtensor::Dtype;
using dtensor::Partial;
using dtensor::Placement;
using dtensor::RaggedShard;
using dtensor::ReduceOp;
using dtensor::Replicate;
using dtensor::Shape;
using dtensor::Shard;
using dtensor::StridedShard;

/// Numbers that depend on the seed alone, the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x1234567) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  /// In [0, n).
  int below(int n) { return static_cast<int>(next() % static_cast<std::uint64_t>(n)); }

 private:
  std::uint64_t state_;
};

using Row = std::vector<int>;  ///< a level per factor
using Legal = std::function<bool(const Row&)>;

struct Array {
  std::vector<Row> rows;
  std::size_t pairs = 0;      ///< of levels of two factors
  std::size_t unreached = 0;  ///< of them in no legal row that was tried
};

/// Legal rows in which two levels of different factors meet wherever a legal row with both was found. Greedy: for each pair not yet met the
/// candidate that meets most others.
inline Array cover(const std::vector<int>& levels, const Legal& legal, std::uint64_t seed) {
  Random random(seed);
  const std::size_t n = levels.size();
  std::vector<std::vector<char>> met(n * n);
  std::vector<std::array<int, 4>> pairs;
  for (std::size_t f = 0; f < n; ++f)
    for (std::size_t g = f + 1; g < n; ++g) {
      met[f * n + g].assign(static_cast<std::size_t>(levels[f] * levels[g]), 0);
      for (int i = 0; i < levels[f]; ++i)
        for (int j = 0; j < levels[g]; ++j) pairs.push_back({static_cast<int>(f), static_cast<int>(g), i, j});
    }
  const auto cell = [&](std::size_t f, std::size_t g, int i, int j) -> char& { return met[f * n + g][static_cast<std::size_t>(i * levels[g] + j)]; };
  for (std::size_t i = pairs.size(); i > 1; --i) std::swap(pairs[i - 1], pairs[static_cast<std::size_t>(random.below(static_cast<int>(i)))]);
  Array result;
  result.pairs = pairs.size();
  for (const auto& [f, g, i, j] : pairs) {
    const auto a = static_cast<std::size_t>(f), b = static_cast<std::size_t>(g);
    if (cell(a, b, i, j)) continue;
    Row best;
    int most = 0;
    for (int attempt = 0, found = 0; attempt < 300 && found < 12; ++attempt) {
      Row row(n);
      for (std::size_t k = 0; k < n; ++k) row[k] = random.below(levels[k]);
      row[a] = i;
      row[b] = j;
      if (!legal(row)) continue;
      ++found;
      int fresh = 0;
      for (std::size_t k = 0; k < n; ++k)
        for (std::size_t l = k + 1; l < n; ++l) fresh += cell(k, l, row[k], row[l]) ? 0 : 1;
      if (fresh > most) most = fresh, best = row;
    }
    if (best.empty()) {
      ++result.unreached;
      continue;
    }
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t l = k + 1; l < n; ++l) cell(k, l, best[k], best[l]) = 1;
    result.rows.push_back(std::move(best));
  }
  return result;
}

/// Explicit sizes of n over k ranks with zeros among them: all on the last rank, or bunched on the ranks that squares reach.
inline std::vector<std::int64_t> ragged_sizes(std::int64_t n, int k, bool last) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(k), 0);
  for (std::int64_t i = 0; i < n; ++i) ++sizes[static_cast<std::size_t>(last ? k - 1 : (i * i + 1) % k)];
  return sizes;
}

inline constexpr int kKindsPerDim = 5;
/// Choices for one axis: Replicate, the five kinds of Partial, then five ways to split each dimension.
inline int choice_count(int ndim) { return 6 + kKindsPerDim * ndim; }
inline Placement choice(int which, const Shape& shape, int ranks) {
  if (which == 0) return Replicate();
  if (which < 6) return Partial(static_cast<ReduceOp>(which - 1));
  const int dim = (which - 6) / kKindsPerDim;
  switch ((which - 6) % kKindsPerDim) {
    case 0:
      return Shard(dim);
    case 1:
      return StridedShard(dim, 2);
    case 2:
      return StridedShard(dim, 3);
    case 3:
      return RaggedShard{dim, ragged_sizes(shape[dim], ranks, true)};
    default:
      return RaggedShard{dim, ragged_sizes(shape[dim], ranks, false)};
  }
}

inline int dim_of(const Placement& p) {
  if (const auto* s = p.as<Shard>()) return s->dim;
  if (const auto* s = p.as<StridedShard>()) return s->dim;
  if (const auto* s = p.as<RaggedShard>()) return s->dim;
  return -1;
}

/// Kinds that commute, explicit sizes first in their dimension, a dtype that the kinds are defined for.
inline bool legal(const std::vector<AxisPlacement>& entries, Dtype dtype) {
  std::vector<int> split;
  const ReduceOp* first = nullptr;
  for (const AxisPlacement& entry : entries) {
    if (const auto* partial = entry.placement.as<Partial>()) {
      const ReduceOp op = partial->op;
      if (op == ReduceOp::avg && !dtensor::info(dtype).floating) return false;
      if (dtype == Dtype::boolean && (op == ReduceOp::sum || op == ReduceOp::product)) return false;
      const auto linear = [](ReduceOp o) { return o == ReduceOp::sum || o == ReduceOp::avg; };
      if (first != nullptr && *first != op && !(linear(*first) && linear(op))) return false;
      first = &partial->op;
    }
    const int dim = dim_of(entry.placement);
    if (dim < 0) continue;
    const bool again = std::find(split.begin(), split.end(), dim) != split.end();
    if (again && entry.placement.as<RaggedShard>() != nullptr) return false;
    split.push_back(dim);
  }
  return true;
}

/// Names of two letters, so that a joint name splits by position.
inline const std::vector<std::string>& axis_names() {
  static const std::vector<std::string> names{"dp", "tp", "pp"};
  return names;
}

/// Placements by axis name: a choice per axis, written in the `order`-th permutation of the axes.
inline std::vector<AxisPlacement> entries_of(const std::vector<int>& mesh, const Shape& shape, const int* choices, int order) {
  std::vector<std::size_t> axes(mesh.size());
  for (std::size_t a = 0; a < axes.size(); ++a) axes[a] = a;
  for (; order > 0; --order) std::next_permutation(axes.begin(), axes.end());
  std::vector<AxisPlacement> entries;
  for (std::size_t a : axes) entries.emplace_back(axis_names()[a], choice(choices[a], shape, mesh[a]));
  return entries;
}
inline int order_count(std::size_t axes) { return axes < 2 ? 1 : axes == 2 ? 2 : 6; }

inline std::string text(const std::vector<AxisPlacement>& entries) { return dtensor::to_string(dtensor::Placements(entries)); }

}  // namespace covering
