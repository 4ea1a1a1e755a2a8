// SPDX-License-Identifier: Apache-2.0
#include "tensor/spec.h"

#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "mesh/mesh_data.h"

namespace dtensor::tensor {
namespace {

struct SpecTable {
  std::unordered_multimap<std::uint64_t, SpecRef> entries;
  std::size_t sweep_at = 1024;
};

// Asked for by axis name, so a positional list is given its names.
Placements by_axis(const Placements& placements, const DeviceMesh& mesh) {
  if (placements.named()) return placements;
  std::vector<AxisPlacement> list;
  for (std::size_t i = 0; i < placements.entries().size(); ++i) list.emplace_back(mesh.names()[i], placements.entries()[i].placement);
  return Placements(std::move(list));
}

void sweep(SpecTable& table) {
  for (auto it = table.entries.begin(); it != table.entries.end();) it = it->second->use_count() == 1 ? table.entries.erase(it) : std::next(it);
  table.sweep_at = std::max<std::size_t>(1024, table.entries.size() * 2);
}

}  // namespace

SpecRef intern_spec(const DeviceMesh& mesh, const placements::LayoutRef& layout, const Shape& shape, Dtype dtype, Device device) {
  base::RankContext& rank = base::require_rank("tensor");
  std::uint64_t hash = base::mix(mesh.data().hash, layout->hash);
  for (std::int64_t n : shape) hash = base::mix(hash, static_cast<std::uint64_t>(n));
  // Ranks with devices of their own have equal hashes.
  hash = base::mix(hash, (static_cast<std::uint64_t>(dtype) << 8) | static_cast<std::uint64_t>(device.kind));
  SpecTable& table = base::rank_state<SpecTable>(rank);
  const auto [begin, end] = table.entries.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const Spec& s = *it->second;
    if (s.mesh == mesh && s.layout == layout && s.shape == shape && s.dtype == dtype && s.device == device) return it->second;
  }
  if (table.entries.size() >= table.sweep_at) sweep(table);
  SpecRef spec = base::make_ref<Spec>();
  spec->mesh = mesh;
  spec->layout = layout;
  spec->shape = shape;
  spec->dtype = dtype;
  spec->device = device;
  spec->hash = hash;
  spec->inside = mesh::coordinates_of(mesh.data(), rank.rank, spec->coordinates);
  spec->local_shape = spec->inside ? placements::local_shape(*layout, shape, spec->coordinates) : Shape{0};
  table.entries.emplace(hash, spec);
  return spec;
}

const Placements& Spec::placements() const {
  std::call_once(placements_made_, [this] { placements_ = by_axis(placements::to_placements(*layout, mesh.names()), mesh); });
  return placements_;
}

Place place_of(const Spec& spec) {
  Place place{.global = spec.shape, .runs = std::vector<std::vector<IndexRun>>(spec.shape.size())};
  for (int d = 0; spec.inside && d < spec.shape.ndim(); ++d) {
    auto& runs = place.runs[static_cast<std::size_t>(d)];
    if (!spec.layout->dims[static_cast<std::size_t>(d)].empty()) {
      for (const placements::Run& r : placements::owned_runs(*spec.layout, d, spec.shape[d], spec.coordinates)) runs.push_back({r.begin, r.length});
    } else if (spec.shape[d] > 0) {
      runs.push_back({0, spec.shape[d]});
    }
  }
  return place;
}

std::string to_string(const Spec& spec) { return placements::to_string(spec.dtype, spec.shape, *spec.layout, spec.mesh.names()); }

std::size_t interned_specs() { return base::rank_state<SpecTable>(base::require_rank("tensor")).entries.size(); }

}  // namespace dtensor::tensor
