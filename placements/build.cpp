// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <numeric>

#include "base/error_text.h"
#include "placements/layout.h"

namespace dtensor::placements {

namespace {

// Builds a layout entry by entry; `position` of the error texts is the axis as the caller wrote it.
class Builder {
 public:
  Builder(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, std::string_view op) : mesh_(mesh), shape_(shape), dtype_(dtype), op_(op) {
    layout_.mesh_sizes.assign(mesh.sizes().begin(), mesh.sizes().end());
    layout_.dims.resize(shape.size());
    layout_.partial.resize(layout_.mesh_sizes.size());
  }

  void add(std::vector<int> axes, const AxisPlacement& entry) {
    for (int axis : axes) {
      if (used_[static_cast<std::size_t>(axis)])
        base::fail<InvalidArgument>("{}: axis '{}' of {} is placed twice; give one placement per axis", op_, name_of(axis), to_string(mesh_));
      used_[static_cast<std::size_t>(axis)] = true;
    }
    const Placement& placement = entry.placement;
    if (const auto* ragged = placement.as<RaggedShard>()) return add_ragged(std::move(axes), *ragged, placement);
    if (axes.size() > 1)
      base::fail<InvalidArgument>("{}: {} over the joint axes '{}'; only Ragged takes several axes, name each on its own", op_, to_string(placement),
                                  entry.axis);
    if (const auto* shard = placement.as<Shard>()) {
      splits(shard->dim, placement).push_back({std::move(axes), 1, {}});
    } else if (const auto* strided = placement.as<StridedShard>()) {
      Splits& list = splits(strided->dim, placement);
      if (strided->split_factor < 1)
        base::fail<InvalidArgument>("{}: split factor {} of {} is below 1; use 1 or more", op_, strided->split_factor, to_string(placement));
      list.push_back({std::move(axes), strided->split_factor, {}});
    } else if (const auto* partial = placement.as<Partial>()) {
      add_partial(axes.front(), partial->op);
    }
  }

  Layout take() { return std::move(layout_); }

 private:
  std::string name_of(int axis) const { return mesh_.names()[static_cast<std::size_t>(axis)]; }

  Splits& splits(int dim, const Placement& placement) {
    const int ndim = shape_.ndim();
    if (dim < -ndim || dim >= ndim)
      base::fail<InvalidArgument>("{}: {} names dim {} of a tensor with {} dims ({}); use a dim of the tensor", op_, to_string(placement), dim, ndim,
                                  to_string(shape_));
    return layout_.dims[static_cast<std::size_t>(dim < 0 ? dim + ndim : dim)];
  }

  void add_ragged(std::vector<int> axes, const RaggedShard& ragged, const Placement& placement) {
    Splits& list = splits(ragged.dim, placement);
    const std::int64_t n = shape_[ragged.dim < 0 ? ragged.dim + shape_.ndim() : ragged.dim];
    if (!list.empty())
      base::fail<InvalidArgument>("{}: {} is not the first split of its dim (axis '{}' splits it before); put it first", op_, to_string(placement),
                                  name_of(list.front().axes.front()));
    std::size_t ranks = 1;
    for (int axis : axes) ranks *= static_cast<std::size_t>(layout_.mesh_sizes[static_cast<std::size_t>(axis)]);
    if (ragged.sizes.size() != ranks)
      base::fail<InvalidArgument>("{}: {} has {} sizes for {} ranks of {}; give one size per rank", op_, to_string(placement), ragged.sizes.size(),
                                  ranks, to_string(mesh_));
    for (std::int64_t size : ragged.sizes)
      if (size < 0) base::fail<InvalidArgument>("{}: {} has the size {}; sizes are 0 or more", op_, to_string(placement), size);
    const std::int64_t sum = std::accumulate(ragged.sizes.begin(), ragged.sizes.end(), std::int64_t{0});
    if (sum != n)
      base::fail<InvalidArgument>("{}: sizes of {} add up to {}, the dim has {} ({}); make the sum equal", op_, to_string(placement), sum, n,
                                  to_string(shape_));
    list.push_back({std::move(axes), 1, ragged.sizes});
  }

  void add_partial(int axis, ReduceOp kind) {
    if (kind > ReduceOp::product)
      base::fail<InvalidArgument>("{}: P({}) on axis '{}' is no placement; use sum, avg, min, max or product", op_, to_string(kind), name_of(axis));
    if (kind == ReduceOp::avg && !info(dtype_).floating)
      base::fail<InvalidArgument>("{}: P(avg) of {} on axis '{}'; avg needs a floating dtype, cast first", op_, to_string(dtype_), name_of(axis));
    if ((kind == ReduceOp::sum || kind == ReduceOp::product) && dtype_ == Dtype::boolean)
      base::fail<InvalidArgument>("{}: P({}) of bool on axis '{}'; use P(max) for or, P(min) for and", op_, to_string(kind), name_of(axis));
    for (std::size_t other = 0; other < layout_.partial.size(); ++other) {
      if (!layout_.partial[other] || *layout_.partial[other] == kind) continue;
      if (kind <= ReduceOp::avg && *layout_.partial[other] <= ReduceOp::avg) continue;
      base::fail<InvalidArgument>("{}: P({}) on axis '{}' and P({}) on axis '{}' do not commute; use one kind, or sum with avg", op_,
                                  to_string(*layout_.partial[other]), name_of(static_cast<int>(other)), to_string(kind), name_of(axis));
    }
    layout_.partial[static_cast<std::size_t>(axis)] = kind;
  }

  const DeviceMesh& mesh_;
  const Shape& shape_;
  Dtype dtype_;
  std::string_view op_;
  Layout layout_;
  std::array<bool, kMaxDims> used_{};
};

int axis_of(const DeviceMesh& mesh, std::string_view name, std::string_view op) {
  const auto names = mesh.names();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<int>(i);
  for (std::size_t i = 0; i < names.size(); ++i)
    if (std::to_string(i) == name) return static_cast<int>(i);
  base::fail<InvalidArgument>("{}: unknown axis '{}' of {}; its axes are {}", op, name, to_string(mesh), fmt::join(names, ", "));
}

std::vector<int> axes_of(const DeviceMesh& mesh, std::string_view joint, std::string_view op) {
  std::vector<int> axes;
  for (std::size_t begin = 0; begin <= joint.size();) {
    const std::size_t end = std::min(joint.find('+', begin), joint.size());
    axes.push_back(axis_of(mesh, joint.substr(begin, end - begin), op));
    begin = end + 1;
  }
  return axes;
}

// The placement that `split` of dimension `dim` is on its axes.
Placement placement_of(const Split& split, int dim) {
  if (!split.sizes.empty()) return RaggedShard{dim, split.sizes};
  if (split.pieces > 1) return StridedShard(dim, split.pieces);
  return Shard(dim);
}

struct Entry {
  std::vector<int> axes;
  Placement placement;
};

// One entry per axis or joint group of axes: always the lowest first axis whose predecessors in its dimension are written.
std::vector<Entry> ordered_entries(const Layout& layout) {
  std::vector<std::size_t> next(layout.dims.size(), 0);
  std::vector<bool> done(layout.mesh_sizes.size(), false);
  std::vector<Entry> entries;
  const auto ready = [&](int axis, Entry& entry) {
    const int dim = layout.dim_of(axis);
    if (dim < 0) {
      const auto& op = layout.partial[static_cast<std::size_t>(axis)];
      entry = {{axis}, op ? Placement(Partial(*op)) : Placement(Replicate{})};
      return true;
    }
    std::size_t& position = next[static_cast<std::size_t>(dim)];
    const Splits& splits = layout.dims[static_cast<std::size_t>(dim)];
    if (position >= splits.size() || splits[position].axes.front() != axis) return false;
    entry = {splits[position].axes, placement_of(splits[position], dim)};
    ++position;
    return true;
  };
  for (bool progress = true; progress;) {
    progress = false;
    for (int axis = 0; axis < layout.mesh_ndim() && !progress; ++axis) {
      Entry entry;
      if (done[static_cast<std::size_t>(axis)] || !ready(axis, entry)) continue;
      for (int used : entry.axes) done[static_cast<std::size_t>(used)] = true;
      entries.push_back(std::move(entry));
      progress = true;
    }
  }
  return entries;
}

std::string joint_name(const std::vector<int>& axes, std::span<const std::string> axis_names) {
  std::string name;
  for (int axis : axes) {
    if (!name.empty()) name += '+';
    name += static_cast<std::size_t>(axis) < axis_names.size() ? axis_names[static_cast<std::size_t>(axis)] : std::to_string(axis);
  }
  return name;
}

}  // namespace

LayoutRef make_layout(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& placements, std::string_view op) {
  Builder builder(mesh, shape, dtype, op);
  const auto& entries = placements.entries();
  if (placements.named()) {
    for (const AxisPlacement& entry : entries) builder.add(axes_of(mesh, entry.axis, op), entry);
  } else if (!entries.empty()) {
    if (static_cast<int>(entries.size()) != mesh.ndim())
      base::fail<InvalidArgument>("{}: {} placements for {} axes ({} on {}); give one per mesh axis, or name the axes", op, entries.size(),
                                  mesh.ndim(), to_string(placements), to_string(mesh));
    for (std::size_t i = 0; i < entries.size(); ++i) builder.add({static_cast<int>(i)}, entries[i]);
  }
  return intern(builder.take());
}

Placements to_placements(const Layout& layout, std::span<const std::string> axis_names) {
  const std::vector<Entry> entries = ordered_entries(layout);
  std::vector<AxisPlacement> named;
  std::vector<Placement> positional;
  bool in_order = true;
  for (const Entry& entry : entries) {
    in_order = in_order && entry.axes.size() == 1 && entry.axes.front() == static_cast<int>(positional.size());
    positional.push_back(entry.placement);
    named.emplace_back(joint_name(entry.axes, axis_names), entry.placement);
  }
  if (in_order) return Placements(std::span<const Placement>(positional));
  return Placements(std::move(named));
}

std::string to_string(const Layout& layout, std::span<const std::string> axis_names) {
  std::string text = "{";
  for (const Entry& entry : ordered_entries(layout))
    text += fmt::format("{}{}: {}", text.size() == 1 ? "" : ", ", joint_name(entry.axes, axis_names), to_string(entry.placement));
  return text + "}";
}

std::string to_string(Dtype dtype, const Shape& shape, const Layout& layout, std::span<const std::string> axis_names) {
  return to_string(dtype) + to_string(shape) + to_string(layout, axis_names);
}

}  // namespace dtensor::placements
