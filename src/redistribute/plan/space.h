// SPDX-License-Identifier: Apache-2.0
// The layouts that a search visits. Axes of size one are left out: they change nothing.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dtensor/values.h"
#include "placements/layout.h"

namespace dtensor::redistribute {

using placements::Layout;
using placements::LayoutRef;
using placements::Run;

/// A set of mesh axes, bit a for axis a.
using AxisMask = std::uint32_t;
constexpr AxisMask bit(int axis) noexcept { return AxisMask{1} << axis; }

/// One dimension's ordered splits: a node of a tree whose root is the whole dimension and whose edges are splits.
struct ListNode {
  int dim = 0, parent = -1, split = -1, depth = 0;
  AxisMask axes = 0;
  std::int64_t worst = 0;                        ///< indices on the worst rank
  std::vector<int> children;                     ///< node by split, -1 where not made
  std::array<std::int64_t, kMaxDims> strides{};  ///< of the rank index by mesh axis
  std::vector<std::uint32_t> first;              ///< rank index -> first run
  std::vector<Run> runs;
  std::vector<std::int64_t> counts;  ///< rank index -> indices owned
  std::vector<int> twins;            ///< nodes over the same axes that own the same; see Space::twins
  bool twins_known = false;
};

/// A layout: a node per dimension and the Partial kind (1 + ReduceOp, 0 for none) per mesh axis.
struct State {
  std::array<std::int32_t, kMaxDims> lists{};
  std::array<std::uint8_t, kMaxDims> partial{};
  friend bool operator==(const State&, const State&) = default;
};
std::uint64_t hash_of(const State& state) noexcept;

class Space {
 public:
  /// Splits: ceil chunks of every dimension over every axis, and those of `from` and `to` in the dimensions where they occur.
  Space(const Layout& from, const Layout& to, const Shape& shape);

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
  AxisMask split_axes(int split) const noexcept { return splits_[static_cast<std::size_t>(split)].axes; }
  bool is_interval(int split) const noexcept { return splits_[static_cast<std::size_t>(split)].split.pieces == 1; }
  /// The list with `split` appended, -1 where that is no legal list.
  int child(int list, int split);
  /// Other lists over the same axes under which every rank owns the same indices.
  const std::vector<int>& twins(int list);

  AxisMask split_axes(const State& state) const noexcept;
  AxisMask partial_axes(const State& state) const noexcept;
  /// Elements of the largest local tensor.
  std::int64_t worst(const State& state) const noexcept;
  std::size_t rank_index(const ListNode& list, const Shape& coordinates) const noexcept;

 private:
  struct Item {
    placements::Split split;
    AxisMask axes = 0;
    int dim = -1;  // -1: any
  };
  int find_split(const placements::Split& split, int dim);
  placements::Split without_ones(const placements::Split& split) const;
  void add_splits(const Layout& layout);
  void fill_ownership(ListNode& made, const ListNode& parent) const;
  bool same_ownership(const ListNode& a, const ListNode& b) const;
  void collect_lists(int list, AxisMask rest, std::vector<int>& out);

  std::vector<int> mesh_sizes_;
  Shape shape_;
  AxisMask active_ = 0;
  std::vector<Item> splits_;
  std::vector<ListNode> nodes_;
};

}  // namespace dtensor::redistribute
