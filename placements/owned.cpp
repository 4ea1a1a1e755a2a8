// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "placements/layout.h"

namespace dtensor::placements {

namespace {

std::int64_t ceil_div(std::int64_t n, std::int64_t k) { return n == 0 ? 0 : (n - 1) / k + 1; }

// The chunk [begin, begin + length) of `n` positions that rank `rank` of `ranks` takes.
Run chunk(std::int64_t n, std::int64_t ranks, std::int64_t rank) {
  const std::int64_t c = ceil_div(n, ranks);
  const std::int64_t begin = std::min(n, rank * c);
  return {begin, std::min(n, begin + c) - begin};
}

// What one rank takes of `n` positions by one split: `whole` pieces of equal size, of each the chunk `of_whole`, then a smaller piece.
struct Taken {
  std::int64_t piece = 0, whole = 0;
  Run of_whole, of_rest;
  std::int64_t count() const { return whole * of_whole.length + of_rest.length; }
  // Position before the split of the i-th position after it.
  std::int64_t source(std::int64_t i) const {
    const std::int64_t in_whole = whole * of_whole.length;
    if (i < in_whole) return i / of_whole.length * piece + of_whole.begin + i % of_whole.length;
    return whole * piece + of_rest.begin + (i - in_whole);
  }
};

std::int64_t ranks_of(const Layout& layout, const Split& split) {
  std::int64_t ranks = 1;
  for (int axis : split.axes) ranks *= layout.mesh_sizes[static_cast<std::size_t>(axis)];
  return ranks;
}

std::int64_t rank_of(const Layout& layout, const Split& split, const Shape& coordinates) {
  std::int64_t rank = 0;
  for (int axis : split.axes) rank = rank * layout.mesh_sizes[static_cast<std::size_t>(axis)] + coordinates[axis];
  return rank;
}

Taken take(const Split& split, std::int64_t n, std::int64_t ranks, std::int64_t rank) {
  Taken taken;
  if (!split.sizes.empty()) {
    std::int64_t begin = 0;
    for (std::int64_t r = 0; r < rank; ++r) begin += split.sizes[static_cast<std::size_t>(r)];
    taken.of_rest.begin = std::min(n, begin);
    taken.of_rest.length = std::min(n - taken.of_rest.begin, split.sizes[static_cast<std::size_t>(rank)]);
    return taken;
  }
  taken.piece = ceil_div(n, split.pieces);
  taken.whole = taken.piece == 0 ? 0 : n / taken.piece;
  taken.of_whole = chunk(taken.piece, ranks, rank);
  taken.of_rest = chunk(n - taken.whole * taken.piece, ranks, rank);
  return taken;
}

Taken take(const Layout& layout, const Split& split, std::int64_t n, const Shape& coordinates) {
  return take(split, n, ranks_of(layout, split), rank_of(layout, split, coordinates));
}

// Appends to `out` what the positions of `wanted` are in `runs`. `cursor` is the run at hand and `before` the positions ahead of it;
// both only grow, since callers ask in ascending order.
class Mapper {
 public:
  explicit Mapper(const std::vector<Run>& runs) : runs_(runs) {}
  void map(Run wanted, std::vector<Run>& out) {
    while (wanted.length > 0) {
      while (before_ + runs_[cursor_].length <= wanted.begin) before_ += runs_[cursor_++].length;
      const Run& run = runs_[cursor_];
      const std::int64_t inside = wanted.begin - before_;
      const std::int64_t length = std::min(wanted.length, run.length - inside);
      append(run.begin + inside, length, out);
      wanted.begin += length;
      wanted.length -= length;
    }
  }

 private:
  static void append(std::int64_t begin, std::int64_t length, std::vector<Run>& out) {
    if (!out.empty() && out.back().begin + out.back().length == begin) out.back().length += length;
    else out.push_back({begin, length});
  }
  const std::vector<Run>& runs_;
  std::size_t cursor_ = 0;
  std::int64_t before_ = 0;
};

// Lengths that ranks may have after `split` of `n` positions. The length is constant between the ranks where a chunk of the whole or of
// the smaller piece becomes partial or empty, so those ranks show all of them.
void lengths_after(const Layout& layout, const Split& split, std::int64_t n, std::vector<std::int64_t>& lengths) {
  if (!split.sizes.empty()) {
    for (std::int64_t size : split.sizes) lengths.push_back(std::min(n, size));
    return;
  }
  const std::int64_t ranks = ranks_of(layout, split);
  const std::int64_t piece = ceil_div(n, split.pieces);
  const std::int64_t rest = piece == 0 ? 0 : n % piece;
  lengths.push_back(take(split, n, ranks, 0).count());
  for (std::int64_t length : {piece, rest}) {
    const std::int64_t c = ceil_div(length, ranks);
    const std::int64_t full = c == 0 ? 0 : length / c;
    for (std::int64_t rank : {full, full + 1})
      if (rank < ranks) lengths.push_back(take(split, n, ranks, rank).count());
  }
}

std::int64_t worst_size(const Layout& layout, int dim, std::int64_t n) {
  std::vector<std::int64_t> lengths{n}, next;
  for (const Split& split : layout.dims[static_cast<std::size_t>(dim)]) {
    next.clear();
    for (std::int64_t length : lengths) lengths_after(layout, split, length, next);
    std::sort(next.begin(), next.end());
    next.erase(std::unique(next.begin(), next.end()), next.end());
    lengths.swap(next);
  }
  return *std::max_element(lengths.begin(), lengths.end());
}

// Axes of more than one rank that split dimension `dim`, ascending.
std::vector<int> splitting_axes(const Layout& layout, std::size_t dim) {
  std::vector<int> axes;
  for (const Split& split : layout.dims[dim])
    for (int axis : split.axes)
      if (layout.mesh_sizes[static_cast<std::size_t>(axis)] > 1) axes.push_back(axis);
  std::sort(axes.begin(), axes.end());
  return axes;
}

bool equivalent_dim(const Layout& a, const Layout& b, int dim, std::int64_t n) {
  const auto d = static_cast<std::size_t>(dim);
  if (n == 0 || a.dims[d] == b.dims[d]) return true;
  // Ranks that differ along a splitting axis own disjoint indices, of which there are some: the axes must be the same.
  const std::vector<int> axes = splitting_axes(a, d);
  if (axes != splitting_axes(b, d)) return false;
  Shape coordinates = Shape::filled(a.mesh_ndim(), 0);
  for (;;) {
    if (local_size(a, dim, n, coordinates) != local_size(b, dim, n, coordinates)) return false;
    if (owned_runs(a, dim, n, coordinates) != owned_runs(b, dim, n, coordinates)) return false;
    std::size_t i = axes.size();
    while (i > 0 && ++coordinates[axes[i - 1]] == a.mesh_sizes[static_cast<std::size_t>(axes[i - 1])]) coordinates[axes[--i]] = 0;
    if (i == 0) return true;
  }
}

}  // namespace

std::vector<Run> owned_runs(const Layout& layout, int dim, std::int64_t n, const Shape& coordinates) {
  std::vector<Run> runs;
  if (n > 0) runs.push_back({0, n});
  std::vector<Run> next;
  for (const Split& split : layout.dims[static_cast<std::size_t>(dim)]) {
    const Taken taken = take(layout, split, n, coordinates);
    next.clear();
    Mapper mapper(runs);
    if (taken.of_whole.length > 0)
      for (std::int64_t i = 0; i < taken.whole; ++i) mapper.map({i * taken.piece + taken.of_whole.begin, taken.of_whole.length}, next);
    mapper.map({taken.whole * taken.piece + taken.of_rest.begin, taken.of_rest.length}, next);
    runs.swap(next);
    n = taken.count();
  }
  return runs;
}

std::int64_t local_size(const Layout& layout, int dim, std::int64_t n, const Shape& coordinates) {
  for (const Split& split : layout.dims[static_cast<std::size_t>(dim)]) n = take(layout, split, n, coordinates).count();
  return n;
}

Shape local_shape(const Layout& layout, const Shape& shape, const Shape& coordinates) {
  Shape local = shape;
  for (int dim = 0; dim < shape.ndim(); ++dim) local[dim] = local_size(layout, dim, shape[dim], coordinates);
  return local;
}

Shape local_offset(const Layout& layout, const Shape& shape, const Shape& coordinates) {
  Shape offset = shape;
  std::vector<Taken> path;
  for (int dim = 0; dim < shape.ndim(); ++dim) {
    path.clear();
    std::int64_t n = shape[dim];
    for (const Split& split : layout.dims[static_cast<std::size_t>(dim)]) {
      path.push_back(take(layout, split, n, coordinates));
      n = path.back().count();
    }
    if (n == 0) continue;
    std::int64_t position = 0;
    for (std::size_t i = path.size(); i-- > 0;) position = path[i].source(position);
    offset[dim] = position;
  }
  return offset;
}

Shape worst_local_shape(const Layout& layout, const Shape& shape) {
  Shape worst = shape;
  for (int dim = 0; dim < shape.ndim(); ++dim) worst[dim] = worst_size(layout, dim, shape[dim]);
  return worst;
}

bool equivalent(const Layout& a, const Layout& b, const Shape& shape) {
  if (&a == &b) return true;
  if (a.mesh_sizes != b.mesh_sizes || a.ndim() != b.ndim()) return false;
  for (std::size_t axis = 0; axis < a.partial.size(); ++axis)
    if (a.mesh_sizes[axis] > 1 && a.partial[axis] != b.partial[axis]) return false;
  // Dimension by dimension, also where another one is empty: the local shapes must agree for a relabel.
  for (int dim = 0; dim < shape.ndim(); ++dim)
    if (!equivalent_dim(a, b, dim, shape[dim])) return false;
  return true;
}

LayoutRef normalized(const LayoutRef& layout) {
  const auto alone = [&](int axis) { return layout->mesh_sizes[static_cast<std::size_t>(axis)] == 1; };
  if (std::find(layout->mesh_sizes.begin(), layout->mesh_sizes.end(), 1) == layout->mesh_sizes.end()) return layout;
  Layout result = *layout;
  for (Splits& splits : result.dims) {
    for (Split& split : splits) std::erase_if(split.axes, alone);
    std::erase_if(splits, [](const Split& split) { return split.axes.empty(); });
  }
  for (std::size_t axis = 0; axis < result.partial.size(); ++axis)
    if (result.mesh_sizes[axis] == 1) result.partial[axis].reset();
  return intern(std::move(result));
}

}  // namespace dtensor::placements
