// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/parts.h"

#include <algorithm>

namespace dtensor::redistribute {
namespace {

using placements::Layout;
using placements::Run;

// Row-major positions of all coordinates on `axes`, first axis slowest.
std::vector<std::int64_t> offsets_along(const Layout& layout, const std::vector<int>& axes) {
  std::vector<std::int64_t> result{0};
  for (int axis : axes) {
    std::int64_t stride = 1;
    for (int a = axis + 1; a < layout.mesh_ndim(); ++a) stride *= layout.mesh_sizes[static_cast<std::size_t>(a)];
    std::vector<std::int64_t> next;
    for (std::int64_t base : result)
      for (std::int64_t i = 0; i < layout.mesh_sizes[static_cast<std::size_t>(axis)]; ++i) next.push_back(base + i * stride);
    result = std::move(next);
  }
  return result;
}

Shape coordinates_at(const Layout& layout, std::int64_t index) {
  Shape c = Shape::filled(layout.mesh_ndim(), 0);
  for (int a = layout.mesh_ndim() - 1; a >= 0; --a) {
    const std::int64_t n = layout.mesh_sizes[static_cast<std::size_t>(a)];
    c[a] = index % n;
    index /= n;
  }
  return c;
}

std::int64_t length(const std::vector<Run>& runs) {
  std::int64_t n = 0;
  for (const Run& r : runs) n += r.length;
  return n;
}

}  // namespace

Shape coordinates_of(const Layout& layout, std::int64_t index) {
  Shape c = Shape::filled(layout.mesh_ndim(), 0);
  for (int a = layout.mesh_ndim() - 1; a >= 0; --a) {
    c[a] = index % layout.mesh_sizes[static_cast<std::size_t>(a)];
    index /= layout.mesh_sizes[static_cast<std::size_t>(a)];
  }
  return c;
}

Parts::Parts(const End& end, const Shape& shape) : layout_(end.layout), ranks_(end.ranks), held_(end.ranks.size()) {
  std::vector<int> partial, replicate;
  std::vector<std::vector<int>> axes(static_cast<std::size_t>(shape.ndim()));
  for (int a = 0; a < layout_->mesh_ndim(); ++a) {
    const int d = layout_->dim_of(a);
    if (d >= 0) axes[static_cast<std::size_t>(d)].push_back(a);
    else (layout_->partial[static_cast<std::size_t>(a)] ? partial : replicate).push_back(a);
  }
  contribution_offset_ = offsets_along(*layout_, partial);
  replica_offset_ = offsets_along(*layout_, replicate);
  for (int d = 0; d < shape.ndim(); ++d) {
    const auto& offsets = part_offset_.emplace_back(offsets_along(*layout_, axes[static_cast<std::size_t>(d)]));
    auto& of_dim = runs_.emplace_back();
    for (std::int64_t o : offsets) of_dim.push_back(placements::owned_runs(*layout_, d, shape[d], coordinates_at(*layout_, o)));
    parts_ *= std::ssize(offsets);
  }
  Held held{std::vector<int>(axes.size(), 0), 0, 0};
  for (std::int64_t p = 0; p < parts_; ++p) {
    std::int64_t rest = p;
    for (std::size_t d = axes.size(); d-- > 0;) {
      held.part[d] = static_cast<int>(rest % std::ssize(part_offset_[d]));
      rest /= std::ssize(part_offset_[d]);
    }
    held.contribution = held.replica = 0;
    number_offset_.push_back(index(held));
    for (held.contribution = 0; held.contribution < contributions(); ++held.contribution)
      for (held.replica = 0; held.replica < replicas(); ++held.replica) held_[static_cast<std::size_t>(index(held))] = held;
  }
  for (std::size_t i = 0; i < ranks_.size(); ++i) by_rank_.emplace_back(ranks_[i], static_cast<int>(i));
  std::sort(by_rank_.begin(), by_rank_.end());
}

std::int64_t Parts::numel(const Held& held) const { return local_shape(held).numel(); }

Shape Parts::local_shape(const Held& held) const {
  Shape shape;
  for (std::size_t d = 0; d < runs_.size(); ++d) shape.push_back(length(runs_[d][static_cast<std::size_t>(held.part[d])]));
  return shape;
}

std::int64_t Parts::number(std::span<const int> part) const noexcept {
  std::int64_t n = 0;
  for (std::size_t d = 0; d < part.size(); ++d) n = n * std::ssize(part_offset_[d]) + part[d];
  return n;
}

std::int64_t Parts::index(const Held& held) const noexcept {
  std::int64_t i = contribution_offset_[static_cast<std::size_t>(held.contribution)] + replica_offset_[static_cast<std::size_t>(held.replica)];
  for (std::size_t d = 0; d < held.part.size(); ++d) i += part_offset_[d][static_cast<std::size_t>(held.part[d])];
  return i;
}

int Parts::find(int rank) const noexcept {
  const auto it = std::lower_bound(by_rank_.begin(), by_rank_.end(), std::pair{rank, 0});
  return it != by_rank_.end() && it->first == rank ? it->second : -1;
}

std::optional<ReduceOp> Parts::kind() const noexcept {
  std::optional<ReduceOp> kind;
  for (std::size_t a = 0; a < layout_->partial.size(); ++a) {
    const auto& op = layout_->partial[a];
    if (!op || layout_->mesh_sizes[a] == 1) continue;
    if (kind && *kind != *op) return std::nullopt;
    kind = op;
  }
  return kind;
}

}  // namespace dtensor::redistribute
