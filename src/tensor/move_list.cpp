// SPDX-License-Identifier: Apache-2.0
// redistribute_all: a list of tensors in one call, equal moves in one launch.
#include <algorithm>

#include "base/error_text.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"
#include "tensor/plan.h"

namespace dtensor::tensor {
namespace {

using placements::Layout;
using placements::LayoutRef;

// Layouts as an attribute: interned, so their addresses are their values; a plan holds them.
std::vector<std::int64_t> addresses(std::span<const LayoutRef> layouts) {
  std::vector<std::int64_t> list;
  for (const LayoutRef& l : layouts) list.push_back(static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(l.get())));
  return list;
}
LayoutRef layout_at(std::span<const std::int64_t> list, std::size_t i) {
  return placements::intern(*reinterpret_cast<const Layout*>(static_cast<std::intptr_t>(list[i])));
}

// Inputs, layouts, where gradients go, transport?, backward?, result dtypes (none: that of the transport), memory_limit.
void plan_list(PlanBuilder& b) {
  const auto layouts = b.attributes[0].as_list(), sources = b.attributes[1].as_list(), results = b.attributes[4].as_list();
  std::vector<Passenger> tensors;
  for (std::size_t i = 0; i < b.inputs.size(); ++i) {
    const Spec& from = *b.inputs[i];
    b.plan->holds.push_back(layout_at(layouts, i));
    b.plan->holds.push_back(layout_at(sources, i));
    const Dtype transport = b.attributes[2].is_none() ? from.dtype : b.attributes[2].as_dtype();
    const int slot = transport == from.dtype ? static_cast<int>(i) : b.convert(static_cast<int>(i), transport);
    tensors.push_back({slot, intern_spec(from.mesh, from.layout, from.shape, transport, from.device), layout_at(layouts, i)});
  }
  b.route_together(tensors, b.attributes[5].as_int());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Passenger& t = tensors[i];
    const Spec& moved = *t.from;
    const Dtype result = results.empty() ? moved.dtype : static_cast<Dtype>(results[i]);
    if (result != moved.dtype) t.slot = b.convert(t.slot, result);
    // A value: neither side sees the other's writes.
    bool own = t.slot != static_cast<int>(i);
    for (int m : t.moves) own = own && b.plan->moves[static_cast<std::size_t>(m)].communicates();
    if (!own) t.slot = b.share(t.slot);
    b.output(intern_spec(moved.mesh, t.to, moved.shape, result, moved.device), t.slot);
  }
}

struct ListMoves {
  std::vector<LayoutRef> layouts;
  std::optional<Dtype> transport = {}, backward = {};
  std::vector<std::int64_t> results = {};
  std::int64_t memory_limit = 0;
};
std::vector<DTensor> move_list(std::span<const DTensor* const> tensors, const ListMoves& moves);

std::vector<DTensor> list_gradient(const GradientCall& g) {
  std::vector<const DTensor*> grads;
  std::vector<int> of;
  ListMoves back;
  if (!g.attribute(3).is_none()) back.transport = g.attribute(3).as_dtype();
  for (int i = 0; i < g.num_inputs(); ++i) {
    if (!g.needs(i) || !g.grad_output(i)) continue;
    of.push_back(i);
    grads.push_back(&g.grad_output(i));
    back.layouts.push_back(layout_at(g.attribute(1).as_list(), static_cast<std::size_t>(i)));
    back.results.push_back(static_cast<std::int64_t>(g.input_type(i).dtype));
  }
  std::vector<DTensor> result(static_cast<std::size_t>(g.num_inputs()));
  std::vector<DTensor> moved = move_list(grads, back);
  for (std::size_t k = 0; k < of.size(); ++k) result[static_cast<std::size_t>(of[k])] = std::move(moved[k]);
  return result;
}

}  // namespace

constinit const OpDef kRedistributeAll{
    .name = "redistribute_all",
    .signature =
        "tensors[], *, layouts: int[], sources: int[], transport: dtype? = none, backward: dtype? = none, results: int[] = [], memory_limit: int = 0 "
        "-> outs[]",
    .gradient = list_gradient,
    .plan = plan_list,
};

namespace {

std::vector<DTensor> move_list(std::span<const DTensor* const> tensors, const ListMoves& moves) {
  if (tensors.empty()) return {};
  std::vector<LayoutRef> sources;
  for (const DTensor* t : tensors) sources.push_back(without_partial(t->impl()->spec->layout));
  const auto layouts = addresses(moves.layouts), back = addresses(sources);
  const Attribute attributes[] = {std::span<const std::int64_t>(layouts),
                                  std::span<const std::int64_t>(back),
                                  moves.transport,
                                  moves.backward,
                                  std::span<const std::int64_t>(moves.results),
                                  moves.memory_limit};
  const std::vector<Input> inputs(tensors.begin(), tensors.end());
  return call_all(kRedistributeAll, inputs, attributes);
}

}  // namespace
}  // namespace dtensor::tensor

namespace dtensor {

std::vector<DTensor> redistribute_all(std::span<const DTensor> tensors, std::span<const Placements> placements, const RedistributeOptions& options) {
  if (placements.size() != tensors.size() && placements.size() != 1)
    base::fail<InvalidArgument>("redistribute_all: the counts differ ({} tensors, {} placements); give one per tensor, or one for all",
                                tensors.size(), placements.size());
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (!tensors[i])
      base::fail<InvalidArgument>("redistribute_all: tensor {} of {} is empty (a default-constructed DTensor); make or assign it first", i + 1,
                                  tensors.size());
  const auto target = [&](std::size_t i) -> const Placements& { return placements[placements.size() == 1 ? 0 : i]; };
  const auto leaves = [&](std::size_t i) { return options.mesh && !(*options.mesh == tensors[i].impl()->spec->mesh); };
  std::vector<const DTensor*> list;
  tensor::ListMoves moves{
      .layouts = {}, .transport = options.forward_dtype, .backward = options.backward_dtype, .memory_limit = options.memory_limit};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const tensor::Spec& spec = *tensor::checked(tensors[i], "redistribute_all").spec;
    if (leaves(i)) continue;
    list.push_back(&tensors[i]);
    moves.layouts.push_back(
        placements::make_layout(spec.mesh, spec.shape, options.forward_dtype.value_or(spec.dtype), target(i), "redistribute_all"));
  }
  std::vector<DTensor> moved = tensor::move_list(list, moves), results;
  for (std::size_t i = 0, k = 0; i < tensors.size(); ++i) {
    if (leaves(i)) {
      results.push_back(tensors[i].redistribute(target(i), options));
      continue;
    }
    // One node records the list, but a tensor without gradient has none after it either.
    const DTensor& to = moved[k++];
    results.push_back(to.requires_grad() && !tensors[i].requires_grad() ? to.detach() : to);
  }
  return results;
}

}  // namespace dtensor
