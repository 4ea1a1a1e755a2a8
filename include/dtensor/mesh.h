// SPDX-License-Identifier: Apache-2.0
// DeviceMesh: a named n-dimensional arrangement of ranks. A local value: nothing here communicates; groups of ranks get
// communicators at first use, by their own members only.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/export.h"

namespace dtensor {

namespace mesh {
struct MeshData;
}

/// One axis name or several: mesh["tp"], mesh[{"dp", "tp"}]. Unnamed axes go by position: "0", "1".
class AxisNames {
 public:
  AxisNames(const char* name) : names_{std::string(name)} {}       // NOLINT(google-explicit-constructor)
  AxisNames(std::string_view name) : names_{std::string(name)} {}  // NOLINT(google-explicit-constructor)
  AxisNames(const std::string& name) : names_{name} {}             // NOLINT(google-explicit-constructor)
  AxisNames(std::initializer_list<std::string_view> names) : names_(names.begin(), names.end()) {}
  explicit AxisNames(std::vector<std::string> names) : names_(std::move(names)) {}
  const std::vector<std::string>& list() const noexcept { return names_; }

 private:
  std::vector<std::string> names_;
};

struct MeshAxis {
  std::string_view name;
  int size;  ///< -1 for one axis: what is left of the world
};

/// A handle, equal by value (world, axis sizes and names, ranks). At most eight axes.
class DTENSOR_EXPORT DeviceMesh {
 public:
  DeviceMesh() = default;
  /// The mesh of this rank alone. @throws InvalidArgument on a thread that is no rank.
  static DeviceMesh self();
  explicit operator bool() const noexcept { return data_ != nullptr; }
  int ndim() const;
  /// Number of ranks.
  int size() const;
  /// Product of the sizes of the named axes. @throws InvalidArgument listing the axes for an unknown name.
  int size(const AxisNames& axes) const;
  /// Sizes by axis.
  std::span<const int> sizes() const;
  /// Names by axis ("0", "1", ... where none were given).
  std::span<const std::string> names() const;
  /// World ranks in row-major order of the coordinates.
  std::span<const int> ranks() const;
  /// Position of an axis. @throws InvalidArgument listing the axes.
  int axis(std::string_view name) const;
  /// The slice that holds this rank (or, for a rank outside, the slice at coordinate 0), axes in the order given.
  DeviceMesh operator[](const AxisNames& axes) const;
  /// The named axes, in the order given, become one axis `name` at the place of the first; the others keep theirs.
  DeviceMesh flatten(const AxisNames& axes, std::string_view name) const;
  /// One axis becomes several; product of sizes must match.
  DeviceMesh unflatten(const AxisNames& axis, std::initializer_list<MeshAxis> axes) const;
  /// Meshes of one world with equal axis names and sizes but for axis `axis`, joined along it; ranks must be distinct.
  static DeviceMesh concatenate(std::span<const DeviceMesh> meshes, std::string_view axis);
  /// This rank's index along the axes (row-major over several); none for a rank outside.
  std::optional<int> coordinate(const AxisNames& axes) const;
  bool contains_this_rank() const;
  friend bool operator==(const DeviceMesh& a, const DeviceMesh& b) noexcept { return a.data_ == b.data_; }
  const mesh::MeshData& data() const;
  explicit DeviceMesh(std::shared_ptr<const mesh::MeshData> data) : data_(std::move(data)) {}

 private:
  std::shared_ptr<const mesh::MeshData> data_;  // interned: equal meshes share it
};
/// "Mesh(dp=2, tp=4)", and "Mesh(tp=2; ranks 5 3)" where the ranks are not 0, 1, 2, ...
DTENSOR_EXPORT std::string to_string(const DeviceMesh& mesh);

}  // namespace dtensor
