// SPDX-License-Identifier: Apache-2.0
// The layouts that a search visits. Axes of size one are left out: they change nothing.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "dtensor/values.h"
#include "placements/layout.h"

namespace dtensor::redistribute {

using placements::Layout;
using placements::LayoutRef;
using placements::Run;

/// A set of mesh axes, bit a for axis a.
using AxisMask = std::uint32_t;
/// Of n >= 0 by k > 0.
constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t k) noexcept { return (n + k - 1) / k; }
constexpr AxisMask bit(int axis) noexcept { return AxisMask{1} << axis; }

/// Who owns which indices of a dimension, rank by rank along the axes of a list. Made only where classes of ranks do not do.
struct Ownership {
  std::array<std::int64_t, kMaxDims> strides{};  ///< of the rank index by mesh axis
  std::vector<std::uint32_t> first;              ///< rank index -> first run
  std::vector<Run> runs;
  std::vector<std::int64_t> counts;  ///< rank index -> indices owned
  std::span<const Run> of(std::size_t rank) const noexcept { return {runs.data() + first[rank], first[rank + 1] - first[rank]}; }
};

/// One dimension's ordered splits: a node of a tree whose root is the whole dimension and whose edges are splits.
struct ListNode {
  int dim = 0, parent = -1, split = -1, depth = 0;
  AxisMask axes = 0;
  std::int64_t worst = 0;           ///< indices on the worst rank
  std::vector<std::int64_t> sizes;  ///< the different numbers of indices that ranks own, descending
  bool intervals = true;            ///< every rank owns one interval: no split in pieces
  std::vector<int> children;        ///< node by split, -1 where not made
  std::vector<int> twins;           ///< nodes over the same axes that own the same; see Space::twins
  bool twins_known = false;
  bool even() const noexcept { return sizes.size() == 1; }
};

/// A layout: a node per dimension and the Partial kind (1 + ReduceOp, 0 for none) per mesh axis.
struct State {
  std::array<std::int32_t, kMaxDims> lists{};
  std::array<std::uint8_t, kMaxDims> partial{};
  friend bool operator==(const State&, const State&) = default;
};
std::uint64_t hash_of(const State& state) noexcept;
struct StateHash {
  std::size_t operator()(const State& state) const noexcept { return static_cast<std::size_t>(hash_of(state)); }
};

/// What rank `rank` of `ranks` gets of `total` indices: ceil chunks of every piece.
std::int64_t share_of(std::int64_t total, std::int64_t pieces, std::int64_t rank, std::int64_t ranks) noexcept;
/// Calls visit(rank) for the first rank of every stretch of ranks that get the same share.
template <class Visit>
void for_each_change(std::int64_t total, std::int64_t pieces, std::int64_t ranks, Visit&& visit) {
  visit(std::int64_t{0});
  if (total <= 0) return;
  const std::int64_t piece = (total + pieces - 1) / pieces;
  for (const std::int64_t part : {piece, total % piece}) {
    if (part == 0) continue;
    const std::int64_t chunk = (part + ranks - 1) / ranks, whole = part / chunk;
    if (whole < ranks) visit(whole);
    if (whole + 1 < ranks) visit(whole + 1);
  }
}

class Space {
 public:
  /// Splits: ceil chunks of every dimension over every axis, and those of `from` and `to` in the dimensions where they occur. Dimension `whole` has none.
  Space(const Layout& from, const Layout& to, const Shape& shape, int whole = -1);

  State state_of(const Layout& layout);
  LayoutRef layout_of(const State& state) const;

  int mesh_ndim() const noexcept { return static_cast<int>(mesh_sizes_.size()); }
  int ndim() const noexcept { return shape_.ndim(); }
  std::int64_t mesh_size(int axis) const noexcept { return mesh_sizes_[static_cast<std::size_t>(axis)]; }
  std::int64_t ranks_of(AxisMask axes) const noexcept;
  AxisMask active() const noexcept { return active_; }
  const Shape& shape() const noexcept { return shape_; }
  const ListNode& node(int id) const noexcept { return nodes_[static_cast<std::size_t>(id)]; }
  int split_count() const noexcept { return static_cast<int>(splits_.size()); }
  const placements::Split& split(int split) const noexcept { return splits_[static_cast<std::size_t>(split)].split; }
  AxisMask split_axes(int split) const noexcept { return splits_[static_cast<std::size_t>(split)].axes; }
  bool is_interval(int split) const noexcept { return splits_[static_cast<std::size_t>(split)].split.pieces == 1; }
  /// No split but ceil chunks over one axis.
  bool plain() const noexcept { return plain_; }
  /// The list with `split` appended, -1 where that is no legal list.
  int child(int list, int split);
  /// Other lists over the same axes under which every rank owns the same indices.
  const std::vector<int>& twins(int list);
  /// Whether every rank owns the same indices under both lists of one dimension.
  bool same_indices(int a, int b) const;
  /// Where the lists part: the last node that both come from.
  int common_prefix(int a, int b) const noexcept;
  const Ownership& ownership(int list) const;

  AxisMask split_axes(const State& state) const noexcept;
  AxisMask partial_axes(const State& state) const noexcept;
  /// Elements of the largest local tensor.
  std::int64_t worst(const State& state) const noexcept;
  /// Of a list's ownership.
  std::size_t rank_index(int list, const Shape& coordinates) const;
  /// Indices owned at `coordinates`.
  std::int64_t count(int list, const Shape& coordinates) const noexcept;

 private:
  struct Item {
    placements::Split split;
    AxisMask axes = 0;
    int dim = -1;  // -1: any
  };
  int find_split(const placements::Split& split, int dim);
  placements::Split without_ones(const placements::Split& split) const;
  void add_splits(const Layout& layout);
  std::vector<std::int64_t> sizes_after(const ListNode& parent, int split) const;
  void collect_lists(int list, AxisMask rest, std::vector<int>& out);

  std::vector<int> mesh_sizes_;
  Shape shape_;
  int whole_;
  AxisMask active_ = 0;
  std::vector<Item> splits_;
  std::vector<ListNode> nodes_;
  bool plain_ = true;
  mutable std::unordered_map<int, Ownership> owners_;
};

}  // namespace dtensor::redistribute
