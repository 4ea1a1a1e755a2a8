// SPDX-License-Identifier: Apache-2.0
// The miss path of a call: shape rule -> sharding rule -> choice -> moves and kernel as a plan.
#include <algorithm>
#include <map>
#include <optional>

#include "base/error_text.h"
#include "propagate/choose.h"
#include "redistribute/plan/links.h"
#include "tensor/impl.h"
#include "tensor/signature.h"
#include "tensor/state.h"
#include "world/topology.h"

namespace dtensor {

// Null where there is nothing to do or the rank has no part in it.
redistribute::RouteRef PlanBuilder::find(const tensor::Spec& from, const placements::LayoutRef& to, std::int64_t memory_limit) const {
  // A limit that cannot be met is refused on every rank.
  if ((from.layout == to || !from.inside) && memory_limit == 0) return nullptr;
  const dtensor::Topology& topology = base::rank_state<world::RankTopology>(base::require_rank(plan->op->name)).topology;
  auto route = redistribute::find_route(from.layout, to, from.shape, from.dtype, redistribute::links_of(topology, from.mesh.data()), memory_limit);
  return from.inside ? route : nullptr;
}

// Makes the moves ready in which this rank has a part: those before a transfer on ranks of the source's mesh, those after it on ranks of the target's.
std::vector<int> PlanBuilder::add_moves(const tensor::Spec& from, const tensor::Spec& to, const redistribute::Route& route, const Shape& shape,
                                        Shape strides) {
  using redistribute::MoveKind;
  std::vector<int> added;
  bool arrived = false;
  for (const redistribute::Move& move : route.moves) {
    const bool transfer = move.kind == MoveKind::transfer;
    const tensor::Spec& here = arrived ? to : from;
    arrived = arrived || transfer;
    if (move.kind == MoveKind::relabel || (!transfer && !here.inside)) continue;
    added.push_back(static_cast<int>(plan->moves.size()));
    plan->moves.push_back(transfer ? redistribute::prepare_transfer(move, from.mesh.data(), to.mesh.data(), shape, from.dtype,
                                                                    base::require_rank(plan->op->name).rank, strides)
                                   : redistribute::prepare(move, here.mesh.data(), shape, from.dtype, here.coordinates, strides));
    strides = plan->moves.back().out_strides;
  }
  return added;
}

int PlanBuilder::follow(int slot, std::span<const int> moves) {
  for (int move : moves) {
    const int out = new_slot();
    plan->steps.push_back({tensor::StepKind::move, slot, out, move});
    slot = out;
  }
  return slot;
}

int PlanBuilder::follow_in_chunks(int slot, const tensor::Spec& from, const tensor::Spec& to, const redistribute::Route& route) {
  const auto [count, dim, size] = route.chunks;
  const std::int64_t here = (from.inside ? from : to).local_shape[dim];
  const Shape strides = from.inside ? contiguous_strides(from.local_shape) : Shape();
  const int result = new_slot();
  int left = result;                               // what a rank that only gives has at the end: nothing
  std::map<std::int64_t, std::vector<int>> moves;  // by length: equal slabs share them
  const int first = plan->slots;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t begin = std::min(here, k * size), length = std::min(here, begin + size) - begin;
    if (!moves.contains(length)) {
      Shape shape = from.shape;
      shape[dim] = length;
      moves[length] = add_moves(from, to, route, shape, strides);
    }
    // A slab's slots are free for the next one.
    plan->slots = first;
    const auto slab = [&](const tensor::Spec& spec) {
      plan->slabs.push_back({dim, begin, length, spec.local_shape});
      return static_cast<int>(plan->slabs.size()) - 1;
    };
    int at = slot;
    if (from.inside) plan->steps.push_back({tensor::StepKind::part, slot, at = new_slot(), slab(from)});
    at = follow(at, moves[length]);
    if (to.inside) plan->steps.push_back({tensor::StepKind::place, at, result, slab(to)});
    else left = at;
  }
  return left;
}

int PlanBuilder::follow(int slot, const tensor::Spec& from, const tensor::Spec& to, const redistribute::Route& route) {
  if (route.chunks.count > 1) return follow_in_chunks(slot, from, to, route);
  return follow(slot, add_moves(from, to, route, from.shape, {}));
}

int PlanBuilder::route(int slot, const tensor::Spec& from, const placements::LayoutRef& to, bool implicit, std::int64_t memory_limit) {
  const auto route = find(from, to, memory_limit);
  if (!route) return slot;
  if (implicit && route->launches > 0) plan->implicit = true;
  return follow(slot, from, *tensor::intern_spec(from.mesh, to, from.shape, from.dtype, from.device), *route);
}

void PlanBuilder::route_together(std::span<tensor::Passenger> tensors, std::int64_t memory_limit) {
  using tensor::Passenger;
  for (Passenger& t : tensors) {
    const auto route = find(*t.from, t.to, memory_limit);
    if (!route) continue;
    const tensor::SpecRef to = tensor::intern_spec(t.from->mesh, t.to, t.from->shape, t.from->dtype, t.from->device);
    // Slabs go one after the other, so they share no launch.
    if (route->chunks.count > 1) t.slot = follow_in_chunks(t.slot, *t.from, *to, *route);
    else t.moves = add_moves(*t.from, *to, *route, t.from->shape, {});
  }
  std::vector<std::size_t> counts;
  for (const Passenger& t : tensors) counts.push_back(t.moves.size());
  const auto move = [&](const redistribute::Departure& d) -> const redistribute::PreparedMove& {
    return plan->moves[static_cast<std::size_t>(tensors[d.tensor].moves[d.move])];
  };
  const auto steps = redistribute::departures(
      counts, [&](const auto& d) { return move(d).communicates(); }, [&](const auto& a, const auto& b) { return go_together(move(a), move(b)); });
  for (const auto& step : steps) depart(tensors, step);
}

// Moves of some of the tensors, as one step.
void PlanBuilder::depart(std::span<tensor::Passenger> tensors, std::span<const redistribute::Departure> departures) {
  tensor::MoveList list;
  for (const redistribute::Departure& d : departures) {
    tensor::Passenger& t = tensors[d.tensor];
    list.in.push_back(t.slot);
    list.moves.push_back(t.moves[d.move]);
    list.out.push_back(t.slot = new_slot());
  }
  if (departures.size() == 1) {
    plan->steps.push_back({tensor::StepKind::move, list.in[0], list.out[0], list.moves[0]});
    return;
  }
  plan->steps.push_back({tensor::StepKind::moves, -1, -1, static_cast<int>(plan->move_lists.size())});
  plan->move_lists.push_back(std::move(list));
}

int PlanBuilder::share(int slot) {
  const int out = new_slot();
  plan->steps.push_back({tensor::StepKind::share, slot, out, 0});
  return out;
}

int PlanBuilder::convert(int slot, Dtype dtype) {
  const int out = new_slot();
  plan->steps.push_back({tensor::StepKind::convert, slot, out, static_cast<int>(dtype)});
  return out;
}

namespace tensor {
namespace {

bool dtype_allowed(std::string_view list, Dtype dtype) {
  if (list.empty() || list == "any") return true;
  if (list == "floating") return info(dtype).floating;
  if (list == "number") return dtype != Dtype::boolean;
  if (list == "integral") return info(dtype).integral;
  std::size_t from = 0;
  while (from < list.size()) {
    std::size_t to = list.find(' ', from);
    if (to == std::string_view::npos) to = list.size();
    if (list.substr(from, to - from) == info(dtype).name) return true;
    from = to + 1;
  }
  return false;
}

void check_attributes(const OpInfo& info, std::span<const Attribute> attributes) {
  for (std::size_t i = 0; i < info.signature.attributes.size(); ++i) {
    const AttributeInfo& a = info.signature.attributes[i];
    const Attribute::Kind kind = attributes[i].kind();
    if (kind == Attribute::Kind::none) {
      if (!a.optional && !(a.has_default && a.fallback.is_none()))
        base::fail<InvalidArgument>("{}: attribute '{}' is missing; the signature is \"{}\"", info.op->name, a.name, info.op->signature);
      continue;
    }
    Attribute::Kind wanted = Attribute::Kind::number;
    if (a.type == AttributeType::list) wanted = Attribute::Kind::list;
    if (a.type == AttributeType::dtype) wanted = Attribute::Kind::dtype;
    if (a.type == AttributeType::text) wanted = Attribute::Kind::text;
    if (a.type == AttributeType::object) wanted = Attribute::Kind::object;
    if (kind != wanted)
      base::fail<InvalidArgument>("{}: attribute '{}' has the wrong kind; the signature is \"{}\"", info.op->name, a.name, info.op->signature);
  }
}

class Builder {
 public:
  Builder(const OpInfo& op_info, std::span<const Input> inputs, std::span<const Attribute> attributes)
      : info_(op_info), op_(*op_info.op), attributes_(attributes) {
    plan_ = base::make_ref<Plan>();
    plan_->op = &op_;
    plan_->inputs = plan_->slots = static_cast<int>(inputs.size());
    specs_.reserve(info_.signature.inputs.size());
    present_.reserve(info_.signature.inputs.size());
    for (const Input& in : inputs) {
      const bool here = in.tensor != nullptr && *in.tensor;
      specs_.push_back(here ? in.tensor->impl()->spec : SpecRef());
      present_.push_back(here);
    }
  }

  PlanRef build(const Placements* placements, const DeviceMesh* mesh, Device device) {
    check_inputs();
    check_attributes(info_, attributes_);
    fill(placements, mesh, device);
    plan_->input_specs = std::move(specs_);
    return std::move(plan_);
  }

 private:
  void fill(const Placements* placements, const DeviceMesh* mesh, Device device) {
    if (op_.plan != nullptr) {
      PlanBuilder builder(op_, specs_, attributes_, *plan_);
      op_.plan(builder);
      plan_->outside = !plan_->outputs.empty() && !plan_->outputs[0].spec->inside &&
                       std::none_of(specs_.begin(), specs_.end(), [](const SpecRef& s) { return s && s->inside; });
      return;
    }
    const SpecRef* first = first_spec();
    mesh_ = first != nullptr ? (*first)->mesh : *mesh;
    device_ = first != nullptr ? (*first)->device : device;
    check_meshes();
    types_.emplace(op_, input_types(), present_, attributes_);
    op_.shape(*types_);
    const bool runs = has_kernel_for(op_, device_.kind);
    if (!runs && op_.decompose == nullptr)
      base::fail<Unsupported>("{}: no kernel for {}; give the op one ({} or .kernel) or a .decompose, or move the tensors to another device",
                              op_.name, to_string(device_), device_.kind == DeviceKind::cuda ? ".cuda" : ".cpu");
    if (!runs) plan_->decomposed = true;
    else if (first == nullptr) factory(*placements);
    else propagate();
  }

  const SpecRef* first_spec() const {
    for (const SpecRef& s : specs_)
      if (s) return &s;
    return nullptr;
  }

  const InputInfo& input_info(std::size_t i) const { return info_.signature.inputs[std::min(i, info_.signature.inputs.size() - 1)]; }

  void check_inputs() {
    const auto& declared = info_.signature.inputs;
    const bool variadic = !declared.empty() && declared.back().variadic;
    if (specs_.size() > declared.size() && !variadic)
      base::fail<InvalidArgument>("{}: {} inputs given for {}; the signature is \"{}\"", op_.name, specs_.size(), declared.size(), op_.signature);
    while (specs_.size() < declared.size() && declared[specs_.size()].optional) {
      specs_.emplace_back();
      present_.push_back(false);
    }
    if (specs_.size() < declared.size() && !(variadic && specs_.size() + 1 == declared.size()))
      base::fail<InvalidArgument>("{}: {} inputs given for {}; the signature is \"{}\"", op_.name, specs_.size(), declared.size(), op_.signature);
    for (std::size_t i = 0; i < specs_.size(); ++i)
      if (!present_[i] && !input_info(i).optional)
        base::fail<InvalidArgument>("{}: input '{}' is an empty tensor; only inputs marked '?' may be absent", op_.name, input_info(i).name);
  }

  void check_meshes() const {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (!specs_[i]) continue;
      if (!(specs_[i]->mesh == mesh_)) {
        base::fail<InvalidArgument>(
            "{}: tensors of different meshes ({} on {} of ranks {}, {} on {} of ranks {}); bring them to one mesh with redistribute or "
            "to_local/from_local",
            op_.name, to_string(**first_spec()), to_string(mesh_), fmt::join(mesh_.ranks(), " "), to_string(*specs_[i]), to_string(specs_[i]->mesh),
            fmt::join(specs_[i]->mesh.ranks(), " "));
      }
      if (!(specs_[i]->device == device_))
        base::fail<InvalidArgument>("{}: tensors on different devices ({} and {}); move one with to()", op_.name, to_string(device_),
                                    to_string(specs_[i]->device));
      if (!dtype_allowed(op_.dtypes, specs_[i]->dtype))
        base::fail<InvalidArgument>("{}: '{}' is {}; supported dtypes: {}", op_.name, input_info(i).name, to_string(*specs_[i]), op_.dtypes);
    }
  }

  std::vector<TensorType> input_types() const {
    std::vector<TensorType> types;
    types.reserve(specs_.size());
    for (const SpecRef& s : specs_) types.push_back(s ? TensorType{s->shape, s->dtype} : TensorType{});
    return types;
  }

  void factory(const Placements& placements) {
    for (const TensorType& t : types_->outputs())
      add_output(intern_spec(mesh_, placements::make_layout(mesh_, t.shape, t.dtype, placements, op_.name), t.shape, t.dtype, device_));
    finish();
  }

  void propagate() {
    const std::vector<TensorType>& results = types_->outputs();
    std::vector<Shape> in_shapes, out_shapes;
    std::vector<Dtype> out_dtypes;
    std::vector<propagate::Operand> operands;
    in_shapes.reserve(specs_.size());
    operands.reserve(specs_.size());
    out_shapes.reserve(results.size());
    out_dtypes.reserve(results.size());
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      in_shapes.push_back(specs_[i] ? specs_[i]->shape : Shape());
      const bool written = specs_[i] && input_info(i).written;
      operands.push_back(specs_[i] ? propagate::Operand{specs_[i]->shape, specs_[i]->dtype, specs_[i]->layout, written} : propagate::Operand{});
    }
    for (const TensorType& t : results) {
      out_shapes.push_back(t.shape);
      out_dtypes.push_back(t.dtype);
    }
    const std::string made = op_.rule_for != nullptr ? op_.rule_for(*types_) : std::string();
    const std::string_view rule = op_.rule_for != nullptr ? std::string_view(made) : op_.rule;
    if (rule.empty()) base::fail<InternalError>("{}: the op has no sharding rule", op_.name);
    const auto& strategies = info_.rules.get(op_.name, rule, in_shapes, present_, out_shapes);
    if (op_.decompose != nullptr && propagate::splits_whole(strategies, operands, mesh_.sizes())) {
      plan_->decomposed = true;
      return;
    }
    auto choice = propagate::choose(op_.name, strategies, operands, {out_shapes, out_dtypes}, mesh_.sizes());
    route_operands(choice);
    for (std::size_t i = 0; i < results.size(); ++i) add_output(intern_spec(mesh_, choice.results[i], results[i].shape, results[i].dtype, device_));
    finish();
    fetch_windows(choice.windows);
  }

  void route_operands(const propagate::Choice& choice) {
    PlanBuilder builder(op_, {}, attributes_, *plan_);
    KernelStep& k = plan_->kernel;
    k.inputs.reserve(specs_.size());
    kernel_specs_.reserve(specs_.size());
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      const SpecRef& s = specs_[i];
      k.inputs.push_back(s ? builder.route(static_cast<int>(i), *s, choice.operands[i], true) : -1);
      kernel_specs_.push_back(!s || choice.operands[i] == s->layout ? s : intern_spec(mesh_, choice.operands[i], s->shape, s->dtype, device_));
    }
    if (const int viewed = info_.signature.view_of; viewed >= 0) {
      const auto i = static_cast<std::size_t>(viewed);
      plan_->copied_view = k.inputs[i] != viewed || (i < choice.windows.size() && !choice.windows[i].empty());
    }
  }

  // The kernel of a rank sees, of a dimension that it reads through a window, what its part of the results reads.
  void fetch_windows(std::span<std::vector<redistribute::WindowDim>> windows) {
    for (std::size_t i = 0; i < windows.size(); ++i) {
      if (windows[i].empty()) continue;
      const Spec& spec = *kernel_specs_[i];
      plan_->implicit = true;
      if (!spec.inside) continue;
      const redistribute::Window window{spec.layout, spec.shape, std::move(windows[i])};
      const auto runs = redistribute::wanted_runs(window, spec.coordinates);
      for (std::size_t k = 0; k < runs.size(); ++k) {
        auto& place = plan_->kernel.places[i].runs[static_cast<std::size_t>(window.dims[k].dim)];
        place.clear();
        for (const placements::Run& r : runs[k]) place.push_back({r.begin, r.length});
      }
      int& slot = plan_->kernel.inputs[i];
      const int out = plan_->slots++;
      plan_->steps.insert(plan_->steps.end() - 1, {StepKind::move, slot, out, static_cast<int>(plan_->moves.size())});
      plan_->moves.push_back(redistribute::prepare_window(window, mesh_.data(), spec.dtype, spec.coordinates));
      slot = out;
    }
  }

  // Results follow each other, so that the kernel finds them so.
  void add_output(SpecRef spec) {
    const int alias = info_.signature.output_written(static_cast<int>(plan_->outputs.size()));
    if (alias >= 0) keep_self(*specs_[static_cast<std::size_t>(alias)], spec, static_cast<std::size_t>(alias));
    plan_->outputs.reserve(types_->outputs().size());
    plan_->outputs.push_back({std::move(spec), plan_->slots++, alias});
  }

  void finish() {
    KernelStep& k = plan_->kernel;
    k.device = device_;
    k.view = info_.signature.view_of >= 0;
    for (int i : info_.signature.written)
      if (specs_[static_cast<std::size_t>(i)]) k.written.push_back(i);
    k.places.reserve(kernel_specs_.size() + plan_->outputs.size());
    k.shapes.reserve(plan_->outputs.size());
    for (const SpecRef& s : kernel_specs_) k.places.push_back(s ? place_of(*s) : Place());
    for (const PlanOutput& o : plan_->outputs) {
      k.places.push_back(place_of(*o.spec));
      k.shapes.push_back(o.spec->local_shape);
    }
    plan_->outside = !plan_->outputs.empty() && !plan_->outputs[0].spec->inside;
    plan_->steps.push_back({StepKind::kernel, -1, -1, 0});
  }

  // The result of an in-place op is self: its spec must say the same.
  void keep_self(const Spec& self, SpecRef& result, std::size_t input) const {
    if (self.shape == result->shape && self.dtype == result->dtype && placements::equivalent(*self.layout, *result->layout, self.shape)) {
      result = specs_[input];
      return;
    }
    base::fail<InvalidArgument>("{}: in-place result {} does not fit self {}; redistribute self first or use the form that returns a result",
                                op_.name, to_string(*result), to_string(self));
  }

  const OpInfo& info_;
  const OpDef& op_;
  std::span<const Attribute> attributes_;
  PlanRef plan_;
  std::vector<SpecRef> specs_, kernel_specs_;
  std::vector<bool> present_;
  std::optional<ShapeCall> types_;
  DeviceMesh mesh_;
  Device device_{};
};

}  // namespace

PlanRef build_plan(const OpInfo& info, std::span<const Input> inputs, std::span<const Attribute> attributes, const Placements* placements,
                   const DeviceMesh* mesh, Device device) {
  return Builder(info, inputs, attributes).build(placements, mesh, device);
}

}  // namespace tensor
}  // namespace dtensor
