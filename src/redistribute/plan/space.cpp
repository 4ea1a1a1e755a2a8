// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/space.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "base/hash.h"
#include "redistribute/plan/pattern.h"

namespace dtensor::redistribute {
namespace {

using placements::Split;

// Appends the indices at local positions [begin, end) of `whole` to `out`, joining runs that touch. `first` is where this owner's runs begin.
void append_positions(std::span<const Run> whole, std::int64_t begin, std::int64_t end, std::vector<Run>& out, std::size_t first) {
  std::int64_t before = 0;
  for (const Run& run : whole) {
    if (before >= end) return;
    const std::int64_t low = std::max(begin, before), high = std::min(end, before + run.length);
    if (low < high) {
      const std::int64_t index = run.begin + low - before;
      if (out.size() > first && out.back().begin + out.back().length == index) out.back().length += high - low;
      else out.push_back({index, high - low});
    }
    before += run.length;
  }
}

// The share of rank `rank` of `ranks` in `total` local positions, appended to `out`; how many.
std::int64_t take_share(const Split& split, std::int64_t rank, std::int64_t ranks, std::span<const Run> whole, std::int64_t total,
                        std::vector<Run>& out) {
  const std::size_t first = out.size();
  if (!split.sizes.empty()) {
    std::int64_t begin = 0;
    for (std::int64_t r = 0; r < rank; ++r) begin += split.sizes[static_cast<std::size_t>(r)];
    const std::int64_t size = split.sizes[static_cast<std::size_t>(rank)];
    append_positions(whole, begin, begin + size, out, first);
    return size;
  }
  const std::int64_t piece = ceil_div(total, split.pieces);
  std::int64_t taken = 0;
  for (std::int64_t start = 0; start < total; start += piece) {
    const std::int64_t stop = std::min(total, start + piece), chunk = ceil_div(stop - start, ranks);
    const std::int64_t begin = std::min(stop, start + rank * chunk), end = std::min(stop, begin + chunk);
    append_positions(whole, begin, end, out, first);
    taken += end - begin;
  }
  return taken;
}

}  // namespace

std::int64_t share_of(std::int64_t total, std::int64_t pieces, std::int64_t rank, std::int64_t ranks) noexcept {
  const auto chunk_of = [&](std::int64_t part) {
    const std::int64_t chunk = ceil_div(part, ranks), begin = std::min(part, rank * chunk);
    return std::min(part, begin + chunk) - begin;
  };
  if (pieces == 1 || total == 0) return chunk_of(total);
  const std::int64_t piece = ceil_div(total, pieces);
  return (total / piece) * chunk_of(piece) + chunk_of(total % piece);
}

std::uint64_t hash_of(const State& state) noexcept {
  std::uint64_t h = std::bit_cast<std::uint64_t>(state.partial);
  for (const std::uint64_t two : std::bit_cast<std::array<std::uint64_t, kMaxDims / 2>>(state.lists)) h = base::mix(h, two);
  return h;
}

Space::Space(const Layout& from, const Layout& to, const Shape& shape, int whole) : mesh_sizes_(from.mesh_sizes), shape_(shape), whole_(whole) {
  for (int a = 0; a < mesh_ndim(); ++a) {
    if (mesh_size(a) == 1) continue;
    active_ |= bit(a);
    splits_.push_back({Split{{a}, 1, {}}, bit(a), -1});
  }
  add_splits(from);
  add_splits(to);
  nodes_.reserve(64);
  for (int d = 0; d < shape.ndim(); ++d) {
    ListNode root;
    root.dim = d;
    root.worst = shape[d];
    root.sizes = {shape[d]};
    root.children.assign(splits_.size(), -1);
    nodes_.push_back(std::move(root));
  }
}

placements::Split Space::without_ones(const Split& split) const {
  Split result = split;
  std::erase_if(result.axes, [this](int a) { return mesh_size(a) == 1; });
  return result;
}

void Space::add_splits(const Layout& layout) {
  for (int d = 0; d < layout.ndim(); ++d)
    for (const Split& written : layout.dims[static_cast<std::size_t>(d)]) {
      const Split split = without_ones(written);
      if (split.axes.empty() || find_split(split, d) >= 0) continue;
      AxisMask axes = 0;
      for (int a : split.axes) axes |= bit(a);
      splits_.push_back({split, axes, d});
      plain_ = false;
    }
}

int Space::find_split(const Split& split, int dim) {
  for (std::size_t i = 0; i < splits_.size(); ++i)
    if ((splits_[i].dim < 0 || splits_[i].dim == dim) && splits_[i].split == split) return static_cast<int>(i);
  return -1;
}

State Space::state_of(const Layout& layout) {
  State state;
  for (int d = 0; d < ndim(); ++d) {
    int list = d;
    for (const Split& written : layout.dims[static_cast<std::size_t>(d)]) {
      const Split split = without_ones(written);
      if (!split.axes.empty()) list = child(list, find_split(split, d));
    }
    state.lists[static_cast<std::size_t>(d)] = list;
  }
  for (int a = 0; a < mesh_ndim(); ++a) {
    const auto op = layout.partial[static_cast<std::size_t>(a)];
    if (op && mesh_size(a) > 1) state.partial[static_cast<std::size_t>(a)] = static_cast<std::uint8_t>(1 + static_cast<int>(*op));
  }
  return state;
}

LayoutRef Space::layout_of(const State& state) const {
  Layout layout;
  layout.mesh_sizes = mesh_sizes_;
  layout.dims.resize(static_cast<std::size_t>(ndim()));
  layout.partial.resize(mesh_sizes_.size());
  for (std::size_t d = 0; d < layout.dims.size(); ++d) {
    for (int id = state.lists[d]; node(id).parent >= 0; id = node(id).parent)
      layout.dims[d].push_back(splits_[static_cast<std::size_t>(node(id).split)].split);
    std::reverse(layout.dims[d].begin(), layout.dims[d].end());
  }
  for (std::size_t a = 0; a < layout.partial.size(); ++a)
    if (state.partial[a] != 0) layout.partial[a] = static_cast<ReduceOp>(state.partial[a] - 1);
  return placements::intern(std::move(layout));
}

std::int64_t Space::ranks_of(AxisMask axes) const noexcept {
  std::int64_t n = 1;
  for (int a = 0; a < mesh_ndim(); ++a)
    if (axes & bit(a)) n *= mesh_size(a);
  return n;
}

int Space::child(int list, int split) {
  const auto s = static_cast<std::size_t>(split);
  const int known = node(list).children[s];
  if (known >= 0) return known;
  if (node(list).dim == whole_) return -1;
  const Item& item = splits_[s];
  if ((item.axes & node(list).axes) || (item.dim >= 0 && item.dim != node(list).dim) || (!item.split.sizes.empty() && node(list).parent >= 0))
    return -1;
  ListNode made;
  made.dim = node(list).dim;
  made.parent = list;
  made.split = split;
  made.depth = node(list).depth + 1;
  made.axes = node(list).axes | item.axes;
  made.sizes = sizes_after(node(list), split);
  made.worst = made.sizes.front();
  made.intervals = node(list).intervals && is_interval(split);
  made.children.assign(splits_.size(), -1);
  const int id = static_cast<int>(nodes_.size());
  nodes_.push_back(std::move(made));
  nodes_[static_cast<std::size_t>(list)].children[s] = id;
  return id;
}

std::vector<std::int64_t> Space::sizes_after(const ListNode& parent, int split) const {
  const Split& cut = splits_[static_cast<std::size_t>(split)].split;
  std::vector<std::int64_t> sizes = cut.sizes;
  if (sizes.empty()) {
    const std::int64_t ranks = mesh_size(cut.axes[0]);
    for (const std::int64_t total : parent.sizes)
      for_each_change(total, cut.pieces, ranks, [&](std::int64_t rank) { sizes.push_back(share_of(total, cut.pieces, rank, ranks)); });
  }
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

const Ownership& Space::ownership(int list) const {
  if (const auto it = owners_.find(list); it != owners_.end()) return it->second;
  Ownership made;
  const ListNode& at = node(list);
  if (at.parent < 0) {
    made.first = {0, at.worst > 0 ? 1u : 0u};
    if (at.worst > 0) made.runs = {{0, at.worst}};
    made.counts = {at.worst};
    return owners_.emplace(list, std::move(made)).first->second;
  }
  const Ownership& parent = ownership(at.parent);
  const Split& cut = split(at.split);
  std::int64_t ranks = 1;
  for (auto it = cut.axes.rbegin(); it != cut.axes.rend(); ++it) {
    made.strides[static_cast<std::size_t>(*it)] = ranks;
    ranks *= mesh_size(*it);
  }
  for (std::size_t a = 0; a < mesh_sizes_.size(); ++a)
    if (node(at.parent).axes & bit(static_cast<int>(a))) made.strides[a] = parent.strides[a] * ranks;
  const std::size_t owners = parent.counts.size() * static_cast<std::size_t>(ranks);
  made.counts.reserve(owners);
  made.first.reserve(owners + 1);
  made.runs.reserve(owners);
  made.first.push_back(0);
  for (std::size_t p = 0; p < parent.counts.size(); ++p)
    for (std::int64_t r = 0; r < ranks; ++r) {
      made.counts.push_back(take_share(cut, r, ranks, parent.of(p), parent.counts[p], made.runs));
      made.first.push_back(static_cast<std::uint32_t>(made.runs.size()));
    }
  return owners_.emplace(list, std::move(made)).first->second;
}

int Space::common_prefix(int a, int b) const noexcept {
  while (node(a).depth > node(b).depth) a = node(a).parent;
  while (node(b).depth > node(a).depth) b = node(b).parent;
  while (a != b) {
    a = node(a).parent;
    b = node(b).parent;
  }
  return a;
}

bool Space::same_indices(int a, int b) const {
  const std::int64_t n = shape_[node(a).dim];
  if (a == b || n == 0) return true;
  // Along one axis more ranks that own different indices: there are some.
  if (node(a).axes != node(b).axes || node(a).sizes != node(b).sizes) return false;
  // A single index stays with the first rank under ceil chunks in any order.
  if (n == 1 && plain_) return true;
  return common_indices(*this, a, b) == n;
}

void Space::collect_lists(int list, AxisMask rest, std::vector<int>& out) {
  if (rest == 0) out.push_back(list);
  for (int s = 0; s < split_count(); ++s) {
    if ((split_axes(s) & rest) != split_axes(s)) continue;
    const int next = child(list, s);
    if (next >= 0) collect_lists(next, rest & ~split_axes(s), out);
  }
}

const std::vector<int>& Space::twins(int list) {
  if (!node(list).twins_known) {
    const int dim = node(list).dim;
    // Two orders of ceil chunks of two or more indices own different ones, so only other splits can give twins.
    bool possible = shape_[dim] < 2 && node(list).depth > 1;
    for (const Item& item : splits_) possible = possible || (item.dim == dim && (item.axes & node(list).axes) == item.axes);
    std::vector<int> found;
    if (possible && node(list).parent >= 0) collect_lists(dim, node(list).axes, found);
    std::erase_if(found, [&](int other) { return other == list || !same_indices(list, other); });
    nodes_[static_cast<std::size_t>(list)].twins = std::move(found);
    nodes_[static_cast<std::size_t>(list)].twins_known = true;
  }
  return node(list).twins;
}

AxisMask Space::split_axes(const State& state) const noexcept {
  AxisMask axes = 0;
  for (int d = 0; d < ndim(); ++d) axes |= node(state.lists[static_cast<std::size_t>(d)]).axes;
  return axes;
}

AxisMask Space::partial_axes(const State& state) const noexcept {
  AxisMask axes = 0;
  for (int a = 0; a < mesh_ndim(); ++a)
    if (state.partial[static_cast<std::size_t>(a)] != 0) axes |= bit(a);
  return axes;
}

std::int64_t Space::worst(const State& state) const noexcept {
  std::int64_t n = 1;
  for (int d = 0; d < ndim(); ++d) n *= node(state.lists[static_cast<std::size_t>(d)]).worst;
  return n;
}

std::size_t Space::rank_index(int list, const Shape& coordinates) const {
  const Ownership& owners = ownership(list);
  std::int64_t index = 0;
  for (int a = 0; a < mesh_ndim(); ++a)
    if (node(list).axes & bit(a)) index += owners.strides[static_cast<std::size_t>(a)] * coordinates[a];
  return static_cast<std::size_t>(index);
}

std::int64_t Space::count(int list, const Shape& coordinates) const noexcept {
  const ListNode& at = node(list);
  if (at.even()) return at.worst;
  const Split& cut = split(at.split);
  if (cut.sizes.empty()) return share_of(count(at.parent, coordinates), cut.pieces, coordinates[cut.axes[0]], mesh_size(cut.axes[0]));
  std::int64_t rank = 0;
  for (int a : cut.axes) rank = rank * mesh_size(a) + coordinates[a];
  return cut.sizes[static_cast<std::size_t>(rank)];
}

}  // namespace dtensor::redistribute
