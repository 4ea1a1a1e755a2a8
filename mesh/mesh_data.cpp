// SPDX-License-Identifier: Apache-2.0
#include "mesh/mesh_data.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error_text.h"
#include "base/hash.h"
#include "base/intern_table.h"

namespace dtensor::mesh {

namespace {

struct SameMesh {
  bool operator()(const MeshData& a, const MeshData& b) const {
    return a.world_id == b.world_id && a.sizes == b.sizes && a.ranks == b.ranks && a.names == b.names;
  }
};

base::InternTable<MeshData, SameMesh>& table() {
  // Meshes may outlive static objects of the program, so the table is never destroyed.
  static auto* const meshes = new base::InternTable<MeshData, SameMesh>;
  return *meshes;
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_name_char(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-'; }

std::vector<std::string> checked_names(std::span<const MeshAxis> axes) {
  const bool unnamed = std::all_of(axes.begin(), axes.end(), [](const MeshAxis& axis) { return axis.name.empty(); });
  std::vector<std::string> names;
  for (const MeshAxis& axis : axes) {
    const std::string position = std::to_string(names.size());
    const std::string name = unnamed ? position : std::string(axis.name);
    if (name.empty()) base::fail<InvalidArgument>("mesh: axis {} has no name; name every axis or none", position);
    for (char c : name)
      if (!is_name_char(c)) base::fail<InvalidArgument>("mesh: axis name '{}' has the character '{}'; use letters, digits and _ . -", name, c);
    if (is_number(name) && name != position)
      base::fail<InvalidArgument>("mesh: axis {} has the name '{}'; a name that is a number must be the axis' position", position, name);
    if (std::find(names.begin(), names.end(), name) != names.end())
      base::fail<InvalidArgument>("mesh: axis name '{}' is repeated; axis names must be distinct", name);
    names.push_back(name);
  }
  return names;
}

std::string sizes_text(std::span<const MeshAxis> axes, const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < axes.size(); ++i) text += fmt::format("{}{}={}", i == 0 ? "" : ", ", names[i], axes[i].size);
  return text;
}

// Sizes with -1 replaced; `count` is the number of ranks given, or of the world when `fixed` is false.
std::vector<int> checked_sizes(std::span<const MeshAxis> axes, const std::vector<std::string>& names, std::int64_t count, bool fixed) {
  std::int64_t product = 1;
  int open = -1;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const int size = axes[i].size;
    if (size == -1 && open >= 0)
      base::fail<InvalidArgument>("mesh: axes '{}' and '{}' both have size -1; only one size can be what is left",
                                  names[static_cast<std::size_t>(open)], names[i]);
    if (size == -1) {
      open = static_cast<int>(i);
      continue;
    }
    if (size < 1) base::fail<InvalidArgument>("mesh: axis '{}' has size {}; sizes are 1 or more, or -1 for what is left", names[i], size);
    product *= size;
    if (product > std::numeric_limits<int>::max())
      base::fail<InvalidArgument>("mesh: too many ranks ({}); use smaller sizes", sizes_text(axes, names));
  }
  if (open >= 0 && count % product != 0)
    base::fail<InvalidArgument>("mesh: axis '{}' = -1 has no size ({} ranks are not a multiple of {}); change the other sizes ({})",
                                names[static_cast<std::size_t>(open)], count, product, sizes_text(axes, names));
  std::vector<int> sizes;
  for (const MeshAxis& axis : axes) sizes.push_back(axis.size == -1 ? static_cast<int>(count / product) : axis.size);
  if (open >= 0) product = count;
  if (fixed && product != count)
    base::fail<InvalidArgument>("mesh: sizes and ranks differ ({} is {} ranks, {} are given); give one rank per place", sizes_text(axes, names),
                                product, count);
  if (!fixed && product > count)
    base::fail<InvalidArgument>(
        "mesh: more ranks than the world has ({} is {} ranks, the world has {}); use smaller sizes or -1, or start more ranks",
        sizes_text(axes, names), product, count);
  return sizes;
}

void check_ranks(std::span<const int> ranks, int world_size) {
  std::vector<int> sorted(ranks.begin(), ranks.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) base::fail<InvalidArgument>("mesh: rank {} is repeated; a mesh holds every rank at most once", *twice);
  for (int rank : {sorted.front(), sorted.back()})
    if (rank < 0 || rank >= world_size)
      base::fail<InvalidArgument>("mesh: there is no rank {} (the world has ranks 0 to {}); use ranks of this world", rank, world_size - 1);
}

std::uint64_t hash_of(const MeshData& mesh) {
  std::uint64_t hash = base::mix(1, mesh.sizes.size());
  for (const std::string& name : mesh.names) hash = base::mix(hash, base::hash_text(name));
  for (int size : mesh.sizes) hash = base::mix(hash, static_cast<std::uint64_t>(size));
  for (int rank : mesh.ranks) hash = base::mix(hash, static_cast<std::uint64_t>(rank));
  return hash;
}

}  // namespace

DeviceMesh make_mesh(std::uint64_t world_id, int world_size, std::span<const MeshAxis> axes, std::span<const int> ranks) {
  if (axes.empty()) base::fail<InvalidArgument>("mesh: no axis; give at least one, such as {{\"dp\", -1}}");
  if (axes.size() > static_cast<std::size_t>(kMaxDims))
    base::fail<InvalidArgument>("mesh: {} axes, at most {} are possible; flatten some", axes.size(), kMaxDims);
  MeshData mesh;
  mesh.world_id = world_id;
  mesh.names = checked_names(axes);
  mesh.sizes = checked_sizes(axes, mesh.names, ranks.empty() ? world_size : static_cast<std::int64_t>(ranks.size()), !ranks.empty());
  if (ranks.empty()) {
    mesh.ranks.resize(static_cast<std::size_t>(std::accumulate(mesh.sizes.begin(), mesh.sizes.end(), 1, std::multiplies<>{})));
    std::iota(mesh.ranks.begin(), mesh.ranks.end(), 0);
  } else {
    check_ranks(ranks, world_size);
    mesh.ranks.assign(ranks.begin(), ranks.end());
  }
  mesh.hash = hash_of(mesh);
  return DeviceMesh(table().intern(std::move(mesh)));
}

bool coordinates_of(const MeshData& mesh, int rank, Shape& coordinates) {
  const std::int64_t guess = static_cast<std::int64_t>(rank) - mesh.ranks.front();
  std::int64_t position = -1;
  if (guess >= 0 && guess < static_cast<std::int64_t>(mesh.ranks.size()) && mesh.ranks[static_cast<std::size_t>(guess)] == rank) {
    position = guess;
  } else {
    const auto found = std::find(mesh.ranks.begin(), mesh.ranks.end(), rank);
    if (found == mesh.ranks.end()) return false;
    position = found - mesh.ranks.begin();
  }
  const int ndim = static_cast<int>(mesh.sizes.size());
  coordinates = Shape::filled(ndim, 0);
  for (int axis = ndim - 1; axis >= 0; --axis) {
    const int size = mesh.sizes[static_cast<std::size_t>(axis)];
    coordinates[axis] = position % size;
    position /= size;
  }
  return true;
}

std::vector<int> ranks_along(const MeshData& mesh, const Shape& coordinates, std::span<const int> axes) {
  const int ndim = static_cast<int>(mesh.sizes.size());
  std::vector<std::int64_t> strides(mesh.sizes.size(), 1);
  for (int axis = ndim - 2; axis >= 0; --axis)
    strides[static_cast<std::size_t>(axis)] = strides[static_cast<std::size_t>(axis) + 1] * mesh.sizes[static_cast<std::size_t>(axis) + 1];
  std::int64_t start = 0;
  std::size_t count = 1;
  for (int axis = 0; axis < ndim; ++axis)
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) start += coordinates[axis] * strides[static_cast<std::size_t>(axis)];
  for (int axis : axes) count *= static_cast<std::size_t>(mesh.sizes[static_cast<std::size_t>(axis)]);
  std::vector<int> ranks(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t rest = i;
    std::int64_t position = start;
    for (std::size_t k = axes.size(); k-- > 0;) {
      const auto axis = static_cast<std::size_t>(axes[k]);
      const auto size = static_cast<std::size_t>(mesh.sizes[axis]);
      position += static_cast<std::int64_t>(rest % size) * strides[axis];
      rest /= size;
    }
    ranks[i] = mesh.ranks[static_cast<std::size_t>(position)];
  }
  return ranks;
}

}  // namespace dtensor::mesh
