// SPDX-License-Identifier: Apache-2.0
// Spec: mesh + layout + global shape + dtype + device, interned per rank, so that equality is one pointer. What this rank holds of it is computed once.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "base/rank.h"
#include "base/ref.h"
#include "dtensor/mesh.h"
#include "dtensor/op.h"
#include "dtensor/placement.h"
#include "placements/layout.h"

namespace dtensor::tensor {

struct Spec : base::RefCounted {
  DeviceMesh mesh;
  placements::LayoutRef layout;
  Shape shape;
  Dtype dtype = Dtype::f32;
  Device device{};
  std::uint64_t hash = 0;
  // Of this rank.
  bool inside = false;  ///< this rank is in the mesh
  Shape coordinates;    ///< when inside
  Shape local_shape;    ///< [0] outside
  /// Public form of the layout: made when first asked for, by whatever thread.
  const Placements& placements() const;

 private:
  mutable std::once_flag placements_made_;
  mutable Placements placements_;
};
using SpecRef = base::Ref<Spec>;

/// The interned spec for the rank of the calling thread. Entries that nobody holds are swept when the table has doubled.
SpecRef intern_spec(const DeviceMesh& mesh, const placements::LayoutRef& layout, const Shape& shape, Dtype dtype, Device device);
/// Where the local tensor of `spec` lies in the global one.
Place place_of(const Spec& spec);
std::string to_string(const Spec& spec);
/// Number of specs in this rank's table.
std::size_t interned_specs();

}  // namespace dtensor::tensor
