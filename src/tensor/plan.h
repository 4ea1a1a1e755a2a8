// SPDX-License-Identifier: Apache-2.0
// Plan: what one call does on this rank, a straight-line program of steps over slots. Slots 0 .. inputs-1 are the local tensors of the inputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/op.h"
#include "redistribute/move.h"
#include "redistribute/plan/rounds.h"
#include "tensor/signature.h"
#include "tensor/spec.h"

namespace dtensor::tensor {

enum class StepKind : std::uint8_t {
  move,     ///< starts a move (communicating or local)
  moves,    ///< starts several that communicate, in one launch
  wait,     ///< the executor waited for a slot's works
  kernel,   ///< allocates results and runs the local kernel
  share,    ///< copy-on-write copy of a slot
  part,     ///< a slab of a slot, as a view
  place,    ///< copies a slot into a slab of another, which the first such step makes
  convert,  ///< dtype conversion of a slot
  carry,    ///< copy of a slot on the device of a result
};
std::string_view to_string(StepKind kind) noexcept;

struct Step {
  StepKind kind = StepKind::kernel;
  int in = -1, out = -1;  ///< slots
  int index = 0;          ///< of the move, of the list of moves or of the slab; the dtype of convert; 1 of carry: without blocking
};
/// Indices [begin, begin + length) of one dimension of a local tensor of `shape`.
struct Slab {
  int dim = 0;
  std::int64_t begin = 0, length = 0;
  Shape shape;
};
/// Moves of one launch: from in[i] to out[i] by moves[i].
struct MoveList {
  std::vector<int> in, out, moves;
};
/// Its results are those of the plan, in consecutive slots.
struct KernelStep {
  std::vector<int> inputs;    ///< slots, -1 absent
  std::vector<int> written;   ///< inputs that the kernel writes
  std::vector<Shape> shapes;  ///< local, per result
  std::vector<Place> places;  ///< inputs, then results
  Device device{};
  bool view = false;  ///< the kernel sets its output
};
struct PlanOutput {
  SpecRef spec;
  int slot = -1;
  int alias = -1;  ///< the result is input `alias` itself
};

class Plan final : public base::RefCounted {
 public:
  const OpDef* op = nullptr;
  int inputs = 0, slots = 0;
  std::vector<Step> steps;
  std::vector<redistribute::PreparedMove> moves;
  std::vector<MoveList> move_lists;
  std::vector<Slab> slabs;
  KernelStep kernel;
  std::vector<PlanOutput> outputs;
  std::vector<SpecRef> input_specs;                ///< these and `holds` keep the key's pointers valid
  std::vector<std::shared_ptr<const void>> holds;  ///< objects among the attributes
  bool decomposed = false;                         ///< run op->decompose instead
  bool outside = false;                            ///< this rank is not in the mesh
  bool implicit = false;                           ///< a move that the rule inserted communicates
  bool copied_view = false;                        ///< a view whose input moves: the result has memory of its own
  std::vector<std::uint64_t> key;
};
using PlanRef = base::Ref<Plan>;

/// Text: one line per step.
std::string to_string(const Plan& plan);

}  // namespace dtensor::tensor

namespace dtensor {

namespace tensor {
/// A tensor on its way to another layout.
struct Passenger {
  int slot = -1;  ///< where it is
  SpecRef from;
  placements::LayoutRef to;
  std::vector<int> moves = {};  ///< what brings it there, of the plan's moves
};
}  // namespace tensor

/// Builds a plan; given to ops that are their own plan.
class PlanBuilder {
 public:
  PlanBuilder(const OpDef& op_def, std::vector<tensor::SpecRef> input_specs, std::span<const Attribute> call_attributes, tensor::Plan& target)
      : op(&op_def), inputs(std::move(input_specs)), attributes(call_attributes), plan(&target) {}
  const OpDef* op;
  std::vector<tensor::SpecRef> inputs;  ///< null: absent
  std::span<const Attribute> attributes;
  tensor::Plan* plan;

  int new_slot() { return plan->slots++; }
  /// Moves slot `slot`, laid out as `from`, to `to`; returns the slot of the result.
  int route(int slot, const tensor::Spec& from, const placements::LayoutRef& to, bool implicit, std::int64_t memory_limit = 0);
  /// Follows a route from `from` to `to`, which may be of different meshes, as far as this rank has a part in it.
  int follow(int slot, const tensor::Spec& from, const tensor::Spec& to, const redistribute::Route& route);
  /// The same for several tensors, in the steps of redistribute/plan/rounds.h: together go moves of the same kind over the same ranks.
  void route_together(std::span<tensor::Passenger> tensors, std::int64_t memory_limit);
  int share(int slot);
  int convert(int slot, Dtype dtype);
  void output(tensor::SpecRef spec, int slot) { plan->outputs.push_back({std::move(spec), slot, -1}); }

 private:
  redistribute::RouteRef find(const tensor::Spec& from, const placements::LayoutRef& to, std::int64_t memory_limit) const;
  std::vector<int> add_moves(const tensor::Spec& from, const tensor::Spec& to, const redistribute::Route& route, const Shape& shape, Shape strides);
  int follow(int slot, std::span<const int> moves);
  int follow_in_chunks(int slot, const tensor::Spec& from, const tensor::Spec& to, const redistribute::Route& route);
  void depart(std::span<tensor::Passenger> tensors, std::span<const redistribute::Departure> departures);
};

}  // namespace dtensor
