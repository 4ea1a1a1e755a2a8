// SPDX-License-Identifier: Apache-2.0
#include "dtensor/mesh.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error_text.h"
#include "base/rank.h"
#include "mesh/mesh_data.h"

namespace dtensor {

namespace {

using mesh::MeshData;

std::string names_text(const MeshData& data) { return fmt::format("{}", fmt::join(data.names, ", ")); }

// Axis of this name, else of this position; -1 for neither.
int find_axis(const MeshData& data, std::string_view name) {
  for (std::size_t i = 0; i < data.names.size(); ++i)
    if (data.names[i] == name) return static_cast<int>(i);
  int position = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), position);
  const bool number = error == std::errc{} && end == name.data() + name.size();
  return number && position >= 0 && position < static_cast<int>(data.names.size()) ? position : -1;
}

int require_axis(const DeviceMesh& mesh, std::string_view name, std::string_view op) {
  const int axis = find_axis(mesh.data(), name);
  if (axis < 0) base::fail<InvalidArgument>("{}: unknown axis '{}' of {}; its axes are {}", op, name, to_string(mesh), names_text(mesh.data()));
  return axis;
}

std::vector<int> require_axes(const DeviceMesh& mesh, const AxisNames& names, std::string_view op) {
  std::vector<int> axes;
  for (const std::string& name : names.list()) {
    const int axis = require_axis(mesh, name, op);
    if (std::find(axes.begin(), axes.end(), axis) != axes.end())
      base::fail<InvalidArgument>("{}: axis '{}' of {} is named twice; name every axis at most once", op, name, to_string(mesh));
    axes.push_back(axis);
  }
  if (axes.empty()) base::fail<InvalidArgument>("{}: no axis of {} is named; its axes are {}", op, to_string(mesh), names_text(mesh.data()));
  return axes;
}

// A name that is only a position means nothing at another place, so it follows the axis.
bool is_position(const std::string& name) { return name.find_first_not_of("0123456789") == std::string::npos; }

struct Axes {
  std::vector<std::string> names;
  std::vector<int> sizes;
};

DeviceMesh build(const MeshData& origin, Axes axes, std::span<const int> ranks) {
  std::vector<MeshAxis> list;
  for (std::size_t i = 0; i < axes.names.size(); ++i) {
    if (is_position(axes.names[i])) axes.names[i] = std::to_string(i);
  }
  for (std::size_t i = 0; i < axes.names.size(); ++i) list.push_back({axes.names[i], axes.sizes[i]});
  const int world_size = *std::max_element(ranks.begin(), ranks.end()) + 1;
  return mesh::make_mesh(origin.world_id, world_size, list, ranks);
}

Shape this_coordinates(const MeshData& data, bool& inside) {
  Shape coordinates = Shape::filled(static_cast<int>(data.sizes.size()), 0);
  const base::RankContext* rank = base::current_rank();
  inside = rank != nullptr && rank->world_id == data.world_id && mesh::coordinates_of(data, rank->rank, coordinates);
  return coordinates;
}

struct SelfMesh {
  DeviceMesh mesh;
};

}  // namespace

DeviceMesh DeviceMesh::self() {
  base::RankContext& context = base::require_rank("DeviceMesh::self");
  DeviceMesh& mesh = base::rank_state<SelfMesh>(context).mesh;
  if (!mesh) {
    const MeshAxis axis{"self", 1};
    mesh = mesh::make_mesh(context.world_id, context.world_size, {&axis, 1}, {&context.rank, 1});
  }
  return mesh;
}

const MeshData& DeviceMesh::data() const {
  if (data_ == nullptr) base::fail<InvalidArgument>("mesh: this DeviceMesh is empty; make one with World::mesh");
  return *data_;
}

int DeviceMesh::ndim() const { return static_cast<int>(data().sizes.size()); }
int DeviceMesh::size() const { return static_cast<int>(data().ranks.size()); }
std::span<const int> DeviceMesh::sizes() const { return data().sizes; }
std::span<const std::string> DeviceMesh::names() const { return data().names; }
std::span<const int> DeviceMesh::ranks() const { return data().ranks; }
int DeviceMesh::axis(std::string_view name) const { return require_axis(*this, name, "mesh"); }

int DeviceMesh::size(const AxisNames& axes) const {
  int product = 1;
  for (int axis : require_axes(*this, axes, "mesh.size")) product *= data().sizes[static_cast<std::size_t>(axis)];
  return product;
}

DeviceMesh DeviceMesh::operator[](const AxisNames& axes) const {
  const std::vector<int> chosen = require_axes(*this, axes, "mesh[]");
  bool inside = false;
  const Shape coordinates = this_coordinates(data(), inside);
  Axes kept;
  for (int axis : chosen) {
    kept.names.push_back(data().names[static_cast<std::size_t>(axis)]);
    kept.sizes.push_back(data().sizes[static_cast<std::size_t>(axis)]);
  }
  return build(data(), std::move(kept), mesh::ranks_along(data(), coordinates, chosen));
}

DeviceMesh DeviceMesh::flatten(const AxisNames& axes, std::string_view name) const {
  const std::vector<int> joined = require_axes(*this, axes, "mesh.flatten");
  Axes result;
  std::vector<int> order;  // axes of this mesh in the order in which the result's ranks run through them
  for (int axis = 0; axis < ndim(); ++axis) {
    if (axis == joined.front()) {
      result.names.emplace_back(name);
      result.sizes.push_back(size(axes));
      order.insert(order.end(), joined.begin(), joined.end());
    } else if (std::find(joined.begin(), joined.end(), axis) == joined.end()) {
      result.names.push_back(data().names[static_cast<std::size_t>(axis)]);
      result.sizes.push_back(data().sizes[static_cast<std::size_t>(axis)]);
      order.push_back(axis);
    }
  }
  return build(data(), std::move(result), mesh::ranks_along(data(), Shape::filled(ndim(), 0), order));
}

DeviceMesh DeviceMesh::unflatten(const AxisNames& axis, std::initializer_list<MeshAxis> axes) const {
  const std::vector<int> split = require_axes(*this, axis, "mesh.unflatten");
  if (split.size() != 1) base::fail<InvalidArgument>("mesh.unflatten: {} axes are named; one axis becomes several, so name one", split.size());
  const int whole = data().sizes[static_cast<std::size_t>(split.front())];
  int product = 1;
  for (const MeshAxis& part : axes) product *= part.size == -1 ? 1 : part.size;
  Axes result;
  for (int i = 0; i < ndim(); ++i) {
    if (i != split.front()) {
      result.names.push_back(data().names[static_cast<std::size_t>(i)]);
      result.sizes.push_back(data().sizes[static_cast<std::size_t>(i)]);
      continue;
    }
    int found = 1;
    for (const MeshAxis& part : axes) {
      const int size = part.size == -1 && product > 0 ? whole / product : part.size;
      result.names.emplace_back(part.name);
      result.sizes.push_back(size);
      found *= size;
    }
    if (axes.size() == 0 || found != whole)
      base::fail<InvalidArgument>("mesh.unflatten: sizes do not fit (axis '{}' has {} ranks, the new axes {}); make their product {}",
                                  data().names[static_cast<std::size_t>(i)], whole, axes.size() == 0 ? 0 : found, whole);
  }
  return build(data(), std::move(result), ranks());
}

DeviceMesh DeviceMesh::concatenate(std::span<const DeviceMesh> meshes, std::string_view axis) {
  if (meshes.empty()) base::fail<InvalidArgument>("mesh.concatenate: no mesh; give at least one");
  const DeviceMesh& first = meshes.front();
  const auto along = static_cast<std::size_t>(require_axis(first, axis, "mesh.concatenate"));
  const MeshData& model = first.data();
  Axes result{model.names, model.sizes};
  result.sizes[along] = 0;
  for (const DeviceMesh& mesh : meshes) {
    std::vector<int> expected = model.sizes;
    expected[along] = mesh.ndim() == first.ndim() ? mesh.data().sizes[along] : 0;
    if (mesh.data().world_id != model.world_id || mesh.data().names != model.names || mesh.data().sizes != expected)
      base::fail<InvalidArgument>("mesh.concatenate: meshes differ outside axis '{}' ({}, {}); join meshes of one world with equal axes",
                                  model.names[along], to_string(first), to_string(mesh));
    result.sizes[along] += expected[along];
  }
  const auto outer = static_cast<std::size_t>(
      std::accumulate(model.sizes.begin(), model.sizes.begin() + static_cast<std::ptrdiff_t>(along), 1, std::multiplies<>{}));
  std::vector<int> ranks;
  for (std::size_t i = 0; i < outer; ++i)
    for (const DeviceMesh& mesh : meshes) {
      const auto block = mesh.data().ranks.size() / outer;
      ranks.insert(ranks.end(), mesh.data().ranks.begin() + static_cast<std::ptrdiff_t>(i * block),
                   mesh.data().ranks.begin() + static_cast<std::ptrdiff_t>((i + 1) * block));
    }
  return build(model, std::move(result), ranks);
}

std::optional<int> DeviceMesh::coordinate(const AxisNames& axes) const {
  const std::vector<int> chosen = require_axes(*this, axes, "mesh.coordinate");
  bool inside = false;
  const Shape coordinates = this_coordinates(data(), inside);
  if (!inside) return std::nullopt;
  int index = 0;
  for (int axis : chosen) index = index * data().sizes[static_cast<std::size_t>(axis)] + static_cast<int>(coordinates[axis]);
  return index;
}

bool DeviceMesh::contains_this_rank() const {
  bool inside = false;
  this_coordinates(data(), inside);
  return inside;
}

std::string to_string(const DeviceMesh& mesh) {
  if (!mesh) return "Mesh()";
  const MeshData& data = mesh.data();
  std::string text = "Mesh(";
  for (std::size_t i = 0; i < data.names.size(); ++i) text += fmt::format("{}{}={}", i == 0 ? "" : ", ", data.names[i], data.sizes[i]);
  bool counted = true;
  for (std::size_t i = 0; i < data.ranks.size(); ++i) counted = counted && data.ranks[i] == static_cast<int>(i);
  if (!counted) {
    constexpr std::size_t kShown = 16;
    const auto end = data.ranks.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, data.ranks.size()));
    text += fmt::format("; ranks {}{}", fmt::join(data.ranks.begin(), end, " "), data.ranks.size() > kShown ? " ..." : "");
  }
  return text + ")";
}

}  // namespace dtensor
