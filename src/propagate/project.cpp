// SPDX-License-Identifier: Apache-2.0
#include "propagate/project.h"

#include <algorithm>
#include <numeric>

namespace dtensor::propagate {
namespace {

using placements::Layout;
using placements::Run;

// Mesh axes of a list of splits, in the order of the splits.
std::vector<int> axes_of(std::span<const Split> splits) {
  std::vector<int> axes;
  for (const Split& s : splits) axes.insert(axes.end(), s.axes.begin(), s.axes.end());
  return axes;
}

std::int64_t joint_size(std::span<const int> axes, std::span<const int> mesh_sizes) {
  std::int64_t n = 1;
  for (int a : axes) n *= mesh_sizes[static_cast<std::size_t>(a)];
  return n;
}

// Coordinates of the joint index, first axis slowest.
Shape joint_coordinates(std::int64_t joint, std::span<const int> axes, std::span<const int> mesh_sizes) {
  Shape c = Shape::filled(static_cast<int>(mesh_sizes.size()), 0);
  for (std::size_t i = axes.size(); i-- > 0;) {
    const std::int64_t k = mesh_sizes[static_cast<std::size_t>(axes[i])];
    c[axes[i]] = joint % k;
    joint /= k;
  }
  return c;
}

std::vector<std::vector<Run>> all_runs(const Splits& splits, std::int64_t n, std::span<const int> axes, std::span<const int> mesh_sizes) {
  Layout layout;
  layout.mesh_sizes.assign(mesh_sizes.begin(), mesh_sizes.end());
  layout.dims = {splits};
  layout.partial.resize(mesh_sizes.size());
  std::vector<std::vector<Run>> runs;
  for (std::int64_t j = 0; j < joint_size(axes, mesh_sizes); ++j)
    runs.push_back(placements::owned_runs(layout, 0, n, joint_coordinates(j, axes, mesh_sizes)));
  return runs;
}

bool scaled_equal(const std::vector<std::vector<Run>>& small, const std::vector<std::vector<Run>>& large, std::int64_t b) {
  for (std::size_t j = 0; j < small.size(); ++j) {
    if (small[j].size() != large[j].size()) return false;
    for (std::size_t r = 0; r < small[j].size(); ++r)
      if (small[j][r].begin * b != large[j][r].begin || small[j][r].length * b != large[j][r].length) return false;
  }
  return true;
}

bool explicit_sizes(std::span<const Split> splits) {
  return std::any_of(splits.begin(), splits.end(), [](const Split& s) { return !s.sizes.empty(); });
}

// One run per joint coordinate, ascending, multiples of b: as a joint RaggedShard of n / b.
std::optional<Splits> as_ragged(const std::vector<std::vector<Run>>& runs, const std::vector<int>& axes, std::int64_t numerator,
                                std::int64_t denominator) {
  Split ragged{.axes = axes, .pieces = 1, .sizes = {}};
  std::int64_t at = 0;
  for (const auto& r : runs) {
    if (r.size() > 1) return std::nullopt;
    const std::int64_t length = r.empty() ? 0 : r[0].length;
    if (length > 0 && r[0].begin != at) return std::nullopt;
    if (length * numerator % denominator != 0) return std::nullopt;
    ragged.sizes.push_back(length * numerator / denominator);
    at += length;
  }
  return Splits{ragged};
}

// The same splits where they cut `to` just as they cut `from`, an exact RaggedShard otherwise. to = from * numerator / denominator.
std::optional<Splits> rescale(const Splits& splits, std::int64_t from, std::int64_t to, std::int64_t numerator, std::int64_t denominator,
                              std::span<const int> mesh_sizes) {
  if (splits.empty()) return Splits{};
  const std::vector<int> axes = axes_of(splits);
  const auto runs = all_runs(splits, from, axes, mesh_sizes);
  if (!explicit_sizes(splits)) {
    const auto same = all_runs(splits, to, axes, mesh_sizes);
    if (numerator == 1 ? scaled_equal(same, runs, denominator) : scaled_equal(runs, same, numerator)) return splits;
  }
  return as_ragged(runs, axes, numerator, denominator);
}

// Local size of a factor under its splits when equal on all ranks, else -1.
std::int64_t equal_local_size(const Splits& splits, std::int64_t n, std::span<const int> mesh_sizes) {
  if (splits.empty()) return n;
  const std::vector<int> axes = axes_of(splits);
  std::int64_t size = -1;
  for (const auto& runs : all_runs(splits, n, axes, mesh_sizes)) {
    std::int64_t local = 0;
    for (const Run& r : runs) local += r.length;
    if (size >= 0 && local != size) return -1;
    size = local;
  }
  return size;
}

// Repeating a dimension of n keeps its splits only where pieces divide what the splits before left: ceil pieces of a multiple are not multiples of ceil pieces.
bool pieces_divide(const Splits& splits, std::int64_t n, std::span<const int> mesh_sizes) {
  for (std::size_t k = 0; k < splits.size(); ++k) {
    if (splits[k].pieces == 1) continue;
    const Splits before(splits.begin(), splits.begin() + static_cast<std::ptrdiff_t>(k));
    for (const auto& runs : all_runs(before, n, axes_of(before), mesh_sizes)) {
      std::int64_t local = 0;
      for (const Run& r : runs) local += r.length;
      if (local % splits[k].pieces != 0) return false;
    }
  }
  return true;
}

}  // namespace

std::optional<std::vector<Splits>> to_factors(const Splits& dim, std::span<const std::int64_t> sizes, std::span<const int> mesh_sizes) {
  std::vector<Splits> out(sizes.size());
  if (dim.empty() || sizes.empty()) return dim.empty() ? std::optional(out) : std::nullopt;
  std::size_t f = 0;
  while (f + 1 < sizes.size() && sizes[f] == 1) ++f;
  if (f + 1 == sizes.size()) {
    out[f] = dim;
    return out;
  }
  const std::int64_t n = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
  if (n == 0) return std::nullopt;
  const std::int64_t b = n / sizes[f];
  // The longest prefix of splits that acts on the major factor; what follows acts on the next ones, in as many pieces as the major factor has locally.
  for (std::size_t prefix = dim.size() + 1; prefix-- > 0;) {
    const Splits major(dim.begin(), dim.begin() + static_cast<std::ptrdiff_t>(prefix));
    auto a = rescale(major, n, sizes[f], 1, b, mesh_sizes);
    if (!a) continue;
    Splits rest(dim.begin() + static_cast<std::ptrdiff_t>(prefix), dim.end());
    if (!rest.empty()) {
      const std::int64_t local = equal_local_size(*a, sizes[f], mesh_sizes);
      const bool fits = local > 0 && std::all_of(rest.begin(), rest.end(), [&](const Split& s) { return s.sizes.empty() && s.pieces % local == 0; });
      if (!fits) continue;
      for (Split& s : rest) s.pieces /= local;
      if (local > 1 && !pieces_divide(rest, b, mesh_sizes)) continue;
    }
    auto minor = to_factors(rest, sizes.subspan(f + 1), mesh_sizes);
    if (!minor) continue;
    out[f] = *std::move(a);
    std::move(minor->begin(), minor->end(), out.begin() + static_cast<std::ptrdiff_t>(f) + 1);
    return out;
  }
  return std::nullopt;
}

std::optional<Splits> to_dimension(std::span<const Splits> factors, std::span<const std::int64_t> sizes, std::span<const int> mesh_sizes) {
  if (factors.empty()) return Splits{};
  if (factors.size() == 1) return factors[0];
  std::int64_t b = 1;
  for (std::size_t i = 1; i < sizes.size(); ++i) b *= sizes[i];
  const bool minor_split = std::any_of(factors.begin() + 1, factors.end(), [](const Splits& s) { return !s.empty(); });
  if (sizes[0] == 1 && factors[0].empty()) return to_dimension(factors.subspan(1), sizes.subspan(1), mesh_sizes);
  if (b == 0 && !factors[0].empty()) return std::nullopt;
  auto out = rescale(factors[0], sizes[0], sizes[0] * b, b, 1, mesh_sizes);
  if (!out) return std::nullopt;
  if (!minor_split) return out;
  const std::int64_t local = equal_local_size(factors[0], sizes[0], mesh_sizes);
  auto rest = to_dimension(factors.subspan(1), sizes.subspan(1), mesh_sizes);
  if (local <= 0 || !rest || explicit_sizes(*rest) || (local > 1 && !pieces_divide(*rest, b, mesh_sizes))) return std::nullopt;
  for (Split& s : *rest) {
    s.pieces *= local;
    out->push_back(std::move(s));
  }
  return out;
}

}  // namespace dtensor::propagate
