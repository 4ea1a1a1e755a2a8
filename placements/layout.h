// SPDX-License-Identifier: Apache-2.0
// Layout: the one representation of where a tensor's elements are. Per tensor dimension an ordered list of splits; every mesh
// axis in no list is Replicate or Partial(op). Pure integer algebra; interned process-wide, so that equality is one pointer.
//
// Laws (tested by enumeration):
//  * ceil chunks: of n over k ranks, rank r holds [min(n, r*c), min(n, (r+1)*c)), c = ceil(n/k); later splits cut what earlier ones left;
//  * the owned index sets of all ranks tile the index space exactly once per replica;
//  * the offset of an empty shard is the size of the dimension (0 for size 0).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/mesh.h"
#include "dtensor/placement.h"
#include "dtensor/values.h"

namespace dtensor::placements {

/// Cut the indices that the earlier splits left into `pieces` ceil chunks, take this rank's chunk of every piece (ceil chunks over the
/// axes, or the explicit `sizes`, one per joint coordinate with the first axis slowest), concatenate.
struct Split {
  std::vector<int> axes;            ///< one axis; several only with sizes
  std::int64_t pieces = 1;          ///< the factor of StridedShard
  std::vector<std::int64_t> sizes;  ///< empty: ceil chunks. Explicit sizes only in the first split of a dimension
  friend bool operator==(const Split&, const Split&) = default;
};
using Splits = std::vector<Split>;

struct Layout {
  std::vector<int> mesh_sizes;                   ///< one per mesh axis
  std::vector<Splits> dims;                      ///< one per tensor dimension
  std::vector<std::optional<ReduceOp>> partial;  ///< one per mesh axis
  std::uint64_t hash = 0;                        ///< filled by intern(); the same on every rank
  int ndim() const noexcept { return static_cast<int>(dims.size()); }
  int mesh_ndim() const noexcept { return static_cast<int>(mesh_sizes.size()); }
  /// Dimension that mesh axis `axis` splits, or -1.
  int dim_of(int axis) const noexcept;
  bool has_partial() const noexcept;
  bool is_replicated() const noexcept;  ///< no split, no Partial
  friend bool operator==(const Layout& a, const Layout& b) noexcept {
    return a.mesh_sizes == b.mesh_sizes && a.dims == b.dims && a.partial == b.partial;
  }
};
using LayoutRef = std::shared_ptr<const Layout>;

/// The interned layout; equal layouts give the same pointer. Checks the invariants (an axis used once, sizes add up is checked by the caller
/// that knows the shape, kinds of Partial commute). Locks only on a miss of a per-thread cache; entries go with their last reference.
LayoutRef intern(Layout layout);
/// All axes Replicate.
LayoutRef replicated(std::span<const int> mesh_sizes, int ndim);

/// The layout that `placements` mean for a tensor of `shape` on `mesh`. `op` starts the error text.
/// @throws InvalidArgument: wrong number of placements, unknown or repeated axis, dim out of range, split factor < 1, ragged sizes whose number or
/// sum is wrong or that are not the first split, Partial kinds that do not commute, bitwise kinds, avg on a dtype that is not floating, sum or product of bool.
LayoutRef make_layout(const DeviceMesh& mesh, const Shape& shape, Dtype dtype, const Placements& placements, std::string_view op);
/// By-axis form in notation order (mesh order unless a dimension's splits need another, then the first consistent order).
/// Positional form when mesh order will do.
Placements to_placements(const Layout& layout, std::span<const std::string> axis_names);

/// A maximal interval of global indices.
struct Run {
  std::int64_t begin = 0, length = 0;
  friend bool operator==(const Run&, const Run&) = default;
};
/// Indices of dimension `dim` (of global size n) that the rank at `coordinates` owns, in local order: index i of the local tensor is the i-th index
/// of the concatenated runs. Runs that touch are merged; empty when nothing is owned.
std::vector<Run> owned_runs(const Layout& layout, int dim, std::int64_t n, const Shape& coordinates);
std::int64_t local_size(const Layout& layout, int dim, std::int64_t n, const Shape& coordinates);
Shape local_shape(const Layout& layout, const Shape& shape, const Shape& coordinates);
/// First owned index per dimension; n for an empty shard.
Shape local_offset(const Layout& layout, const Shape& shape, const Shape& coordinates);
/// Largest local shape over all ranks (per dimension).
Shape worst_local_shape(const Layout& layout, const Shape& shape);

/// Every rank owns the same indices in the same order, and Partial states agree (on axes of size one nothing matters).
bool equivalent(const Layout& a, const Layout& b, const Shape& shape);
/// The first layout of a normal form among the layouts equivalent for `shape` that is cheap to decide: axes of size one become Replicate.
LayoutRef normalized(const LayoutRef& layout);

/// "f32[8, 16]{dp: S(0), tp: P(sum)}". Axis names "0" "1" where unnamed.
std::string to_string(Dtype dtype, const Shape& shape, const Layout& layout, std::span<const std::string> axis_names);
/// "{dp: S(0), tp: R}".
std::string to_string(const Layout& layout, std::span<const std::string> axis_names);

/// What a text "f32[8, 16]{dp: S(0)}" says; the layout needs the mesh.
struct Described {
  Dtype dtype = Dtype::f32;
  Shape shape;
  Placements placements;
};
/// @throws InvalidArgument with the column of the first error.
Described parse_described(std::string_view text);

/// Text drawing of who owns what (up to three dimensions; larger ones as a table of runs), and the same as SVG.
std::string draw_text(const DeviceMesh& mesh, const Shape& shape, const Layout& layout);
std::string draw_svg(const DeviceMesh& mesh, const Shape& shape, const Layout& layout);

}  // namespace dtensor::placements
