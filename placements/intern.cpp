// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/error_text.h"
#include "base/hash.h"
#include "base/intern_table.h"
#include "placements/layout.h"

namespace dtensor::placements {

namespace {

base::InternTable<Layout>& table() {
  // Layouts may outlive static objects of the program, so the table is never destroyed.
  static auto* const layouts = new base::InternTable<Layout>;
  return *layouts;
}

constexpr std::size_t kCacheSlots = 512;
// Weak, so that a cache keeps no layout alive.
thread_local std::array<std::pair<std::uint64_t, std::weak_ptr<const Layout>>, kCacheSlots> cache;

constexpr std::uint64_t kSplits = 1000;

std::uint64_t hash_of(std::span<const int> mesh_sizes) {
  std::uint64_t hash = base::mix(2, mesh_sizes.size());
  for (int size : mesh_sizes) hash = base::mix(hash, static_cast<std::uint64_t>(size));
  return hash;
}

std::uint64_t hash_of(const Layout& layout) {
  std::uint64_t hash = hash_of(layout.mesh_sizes);
  for (const Splits& splits : layout.dims) {
    hash = base::mix(hash, splits.size() + kSplits);
    for (const Split& split : splits) {
      hash = base::mix(hash, static_cast<std::uint64_t>(split.pieces));
      for (int axis : split.axes) hash = base::mix(hash, static_cast<std::uint64_t>(axis) + 2000);
      for (std::int64_t size : split.sizes) hash = base::mix(hash, static_cast<std::uint64_t>(size) + 3000);
    }
  }
  for (const auto& op : layout.partial) hash = base::mix(hash, op ? static_cast<std::uint64_t>(*op) + 1 : 0);
  return hash;
}

[[noreturn]] void fail_layout(std::string_view what) { base::fail<InternalError>("layout: {}; report this defect", what); }

void check_split(const Layout& layout, const Splits& splits, std::size_t index, std::vector<bool>& used) {
  const Split& split = splits[index];
  if (split.axes.empty()) fail_layout("a split without an axis");
  if (split.pieces < 1) fail_layout("a split of less than one piece");
  std::size_t ranks = 1;
  for (int axis : split.axes) {
    if (axis < 0 || axis >= layout.mesh_ndim()) fail_layout("a split over an axis that the mesh lacks");
    const auto position = static_cast<std::size_t>(axis);
    if (used[position] || layout.partial[position]) fail_layout("a mesh axis used twice");
    used[position] = true;
    ranks *= static_cast<std::size_t>(layout.mesh_sizes[position]);
  }
  if (split.sizes.empty()) {
    if (split.axes.size() != 1) fail_layout("a split over several axes without explicit sizes");
    return;
  }
  if (index != 0 || split.pieces != 1) fail_layout("explicit sizes that are not the first split of a dimension");
  if (split.sizes.size() != ranks) fail_layout("explicit sizes that are not one per rank");
}

void check_invariants(const Layout& layout) {
  if (layout.partial.size() != layout.mesh_sizes.size()) fail_layout("not one Partial state per mesh axis");
  std::vector<bool> used(layout.mesh_sizes.size(), false);
  for (const Splits& splits : layout.dims)
    for (std::size_t i = 0; i < splits.size(); ++i) check_split(layout, splits, i, used);
  std::optional<ReduceOp> first;
  for (const auto& op : layout.partial) {
    if (!op) continue;
    if (*op > ReduceOp::product) fail_layout("a Partial of a bitwise kind");
    const bool linear = *op <= ReduceOp::avg && first.value_or(*op) <= ReduceOp::avg;
    if (first && *first != *op && !linear) fail_layout("Partial kinds that do not commute");
    first = op;
  }
}

}  // namespace

int Layout::dim_of(int axis) const noexcept {
  for (std::size_t dim = 0; dim < dims.size(); ++dim)
    for (const Split& split : dims[dim])
      if (std::find(split.axes.begin(), split.axes.end(), axis) != split.axes.end()) return static_cast<int>(dim);
  return -1;
}

bool Layout::has_partial() const noexcept {
  return std::any_of(partial.begin(), partial.end(), [](const auto& op) { return op.has_value(); });
}

bool Layout::is_replicated() const noexcept {
  return !has_partial() && std::all_of(dims.begin(), dims.end(), [](const Splits& splits) { return splits.empty(); });
}

LayoutRef intern(Layout layout) {
  layout.hash = hash_of(layout);
  auto& slot = cache[layout.hash % kCacheSlots];
  if (slot.first == layout.hash)
    if (auto found = slot.second.lock(); found && *found == layout) return found;
  check_invariants(layout);
  LayoutRef made = table().intern(std::move(layout));
  slot = {made->hash, made};
  return made;
}

LayoutRef replicated(std::span<const int> mesh_sizes, int ndim) {
  // Asked for often: looked up before it is made.
  std::uint64_t hash = hash_of(mesh_sizes);
  for (int dim = 0; dim < ndim; ++dim) hash = base::mix(hash, kSplits);
  for (std::size_t axis = 0; axis < mesh_sizes.size(); ++axis) hash = base::mix(hash, 0);
  if (const auto& slot = cache[hash % kCacheSlots]; slot.first == hash)
    if (auto found = slot.second.lock(); found && found->ndim() == ndim && found->is_replicated() &&
                                         std::equal(mesh_sizes.begin(), mesh_sizes.end(), found->mesh_sizes.begin(), found->mesh_sizes.end()))
      return found;
  Layout layout;
  layout.mesh_sizes.assign(mesh_sizes.begin(), mesh_sizes.end());
  layout.dims.resize(static_cast<std::size_t>(ndim));
  layout.partial.resize(mesh_sizes.size());
  return intern(std::move(layout));
}

}  // namespace dtensor::placements
