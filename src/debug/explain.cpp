// SPDX-License-Identifier: Apache-2.0
#include "dtensor/debug.h"
#include "placements/layout.h"
#include "tensor/impl.h"
#include "world/topology.h"

namespace dtensor {
namespace {

const Topology& topology() { return base::rank_state<world::RankTopology>(base::require_rank("explain")).topology; }

}  // namespace

Plan explain(const DTensor& tensor, const Placements& target) {
  const tensor::Spec& s = *tensor::checked(tensor, "explain").spec;
  return make_plan(s.mesh, s.shape, s.dtype, s.placements, target, 0, topology());
}

Plan explain(const DTensor& tensor, const DeviceMesh& mesh, const Placements& target) {
  const tensor::Spec& s = *tensor::checked(tensor, "explain").spec;
  return make_plan(s.mesh, s.shape, s.dtype, s.placements, mesh, target, 0, topology());
}

std::string visualize(const DTensor& tensor) {
  const tensor::Spec& s = *tensor::checked(tensor, "visualize").spec;
  return placements::draw_text(s.mesh, s.shape, *s.layout);
}

std::string visualize_svg(const DTensor& tensor) {
  const tensor::Spec& s = *tensor::checked(tensor, "visualize_svg").spec;
  return placements::draw_svg(s.mesh, s.shape, *s.layout);
}

}  // namespace dtensor
