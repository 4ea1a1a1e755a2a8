// SPDX-License-Identifier: Apache-2.0
// redistribute to another mesh of the same world.
#include <algorithm>

#include "base/error_text.h"
#include "base/rank.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/between.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"
#include "tensor/plan.h"
#include "world/topology.h"

namespace dtensor::tensor {
namespace {

using placements::LayoutRef;

DeviceMesh mesh_of(const Attribute& a) { return DeviceMesh(static_cast<const mesh::MeshData*>(a.as_object())->shared_from_this()); }

const Topology& topology() { return base::rank_state<world::RankTopology>(base::require_rank("redistribute")).topology; }

// ---- redistribute_between: input, mesh, layout, transport?, result?, backward?, memory_limit, where a gradient goes
void plan_between(PlanBuilder& b) {
  const Spec& from = *b.inputs[0];
  const DeviceMesh mesh = mesh_of(b.attributes[0]);
  const LayoutRef target = layout_of(b.attributes[1]);
  b.plan->holds.push_back(target);
  b.plan->holds.push_back(layout_of(b.attributes[7]));
  const Dtype transport = optional_dtype(b.attributes[2]).value_or(from.dtype);
  const Dtype result = optional_dtype(b.attributes[3]).value_or(transport);
  const SpecRef leaving = intern_spec(from.mesh, from.layout, from.shape, transport, from.device);
  const SpecRef arriving = intern_spec(mesh, target, from.shape, transport, from.device);
  int slot = 0;
  // A limit that cannot be met is an error on the other ranks too.
  const std::int64_t limit = b.attributes[5].as_int();
  redistribute::RouteRef route;
  if (from.inside || arriving->inside || limit != 0)
    route = redistribute::find_route_between({from.layout, from.mesh.data().ranks}, {target, mesh.data().ranks}, from.shape, transport,
                                             redistribute::links_between(topology(), from.mesh.data(), mesh.data()), limit);
  if (from.inside || arriving->inside) {
    if (transport != from.dtype) slot = b.convert(slot, transport);
    slot = b.follow(slot, *leaving, *arriving, *route);
    if (result != transport) slot = b.convert(slot, result);
    // A value: neither side sees the other's writes.
    const auto& moves = b.plan->moves;
    if (std::any_of(moves.begin(), moves.end(), [](const auto& m) { return !m.communicates(); })) slot = b.share(slot);
  }
  b.output(intern_spec(mesh, target, from.shape, result, from.device), slot);
}

std::vector<DTensor> between_gradient(const GradientCall& g) {
  return {redistribute_between(g.grad_output(0), mesh_of(g.attribute(6)), layout_of(g.attribute(7)), optional_dtype(g.attribute(4)),
                               g.input_type(0).dtype)};
}

}  // namespace

constinit const OpDef kRedistributeBetween{
    .name = "redistribute_between",
    .signature =
        "input, *, mesh: object, layout: object, transport: dtype? = none, result: dtype? = none, backward: dtype? = none, memory_limit: int = 0, "
        "source_mesh: object, source: object -> out",
    .gradient = between_gradient,
    .plan = plan_between,
};

DTensor redistribute_between(const DTensor& tensor, const DeviceMesh& mesh, const LayoutRef& layout, std::optional<Dtype> transport,
                             std::optional<Dtype> result, std::optional<Dtype> backward, std::int64_t memory_limit) {
  const Spec& spec = *checked(tensor, "redistribute").spec;
  if (mesh == spec.mesh) return redistribute_to(tensor, layout, transport, result, backward, memory_limit);
  const LayoutRef source = without_partial(spec.layout);
  return call(kRedistributeBetween, {tensor},
              {Attribute::object(&mesh.data()), Attribute::object(layout.get()), transport, result, backward, memory_limit,
               Attribute::object(&spec.mesh.data()), Attribute::object(source.get())});
}

void check_other_mesh(const DeviceMesh& from, const DeviceMesh& to) {
  redistribute::check_worlds(from, to);
  // Told by its name: a mesh of this rank alone differs from rank to rank, which no rank can see.
  const auto alone = [](const DeviceMesh& m) { return m.size() == 1 && m.ndim() == 1 && m.names()[0] == "self"; };
  if (base::require_rank("redistribute").world_size > 1 && (alone(from) || alone(to)))
    base::fail<InvalidArgument>("redistribute: {} is another mesh on every rank ({} to {}); use to_local(), full_tensor() or from_local()",
                                alone(from) ? "the source" : "the target", to_string(from), to_string(to));
}

}  // namespace dtensor::tensor
