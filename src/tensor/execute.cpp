// SPDX-License-Identifier: Apache-2.0
// The one executor of plans.
#include "base/error_text.h"
#include "base/inline_array.h"
#include "local/storage.h"
#include "tensor/impl.h"
#include "tensor/state.h"

namespace dtensor::tensor {
namespace {

// Local tensors by slot: inputs are borrowed, the rest is owned here.
class Slots {
 public:
  Slots(const Plan& plan, std::span<const Input> inputs)
      : first_(plan.inputs), pointers_(static_cast<std::size_t>(plan.slots)), owned_(static_cast<std::size_t>(plan.slots - plan.inputs)) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool here = inputs[i].tensor != nullptr && *inputs[i].tensor;
      pointers_[i] = here ? &inputs[i].tensor->impl()->local : nullptr;
    }
  }
  const Tensor* operator[](int slot) const noexcept { return slot < 0 ? nullptr : pointers_[static_cast<std::size_t>(slot)]; }
  void set(int slot, Tensor tensor) noexcept { *fill(slot, 1) = std::move(tensor); }
  /// Consecutive slots that a step is about to fill.
  Tensor* fill(int slot, std::size_t count) noexcept {
    Tensor* tensors = &own(slot);
    for (std::size_t i = 0; i < count; ++i) pointers_[static_cast<std::size_t>(slot) + i] = tensors + i;
    return tensors;
  }
  /// Forgets what a step made; inputs stay. Peers may still read it.
  void release(int slot) {
    if (!owns(slot)) return;
    released_ = std::move(own(slot));
    pointers_[static_cast<std::size_t>(slot)] = nullptr;
  }
  /// Returns when nobody reads what was released last, so that its memory is free before more is taken.
  void drain() {
    if (!released_) return;
    if (released_.storage()->buffer().sharers.load(std::memory_order_acquire) == 1) released_.storage()->before_write();
    released_ = {};
  }
  /// What a slot holds at the end; one that a step made gives it away.
  Tensor take(int slot) { return owns(slot) ? std::move(own(slot)) : *(*this)[slot]; }

 private:
  Tensor& own(int slot) noexcept { return owned_[static_cast<std::size_t>(slot - first_)]; }
  bool owns(int slot) noexcept { return slot >= first_ && pointers_[static_cast<std::size_t>(slot)] == &own(slot); }
  int first_;
  base::InlineArray<const Tensor*, 12> pointers_;
  base::InlineArray<Tensor, 8> owned_;
  Tensor released_;
};

std::vector<const redistribute::PreparedMove*> moves_of(const Plan& plan, const Step& step) {
  std::vector<const redistribute::PreparedMove*> moves;
  if (step.kind == StepKind::move) moves.push_back(&plan.moves[static_cast<std::size_t>(step.index)]);
  if (step.kind == StepKind::moves)
    for (int m : plan.move_lists[static_cast<std::size_t>(step.index)].moves) moves.push_back(&plan.moves[static_cast<std::size_t>(m)]);
  return moves;
}

void notify(const Plan& plan, const Step& step, CallState& state) {
  const std::vector<const redistribute::PreparedMove*> moves = moves_of(plan, step);
  for (StepObserver* o : state.observers)
    o->on_step({step.kind, *plan.op, moves, plan, !moves.empty() && (!state.inserted.empty() || !plan.kernel.inputs.empty())});
}

void before_read(const Plan& plan, const Tensor& t, CallState& state) {
  local::Storage* storage = t.storage();
  if (!storage->buffer().writers.empty()) {
    if (!state.observers.empty()) notify(plan, {StepKind::wait, -1, -1, 0}, state);
    storage->before_read();
  }
  if (storage->buffer().bytes() == 0 && t.numel() > 0)
    base::fail<InvalidArgument>("{}: an input's memory was released ({}); restore it before use", plan.op->name, to_string(t.shape()));
}

void run_kernel(const Plan& plan, Slots& slots, std::span<const Attribute> attributes, std::uint64_t seed, std::uint64_t random_call,
                CallState& state) {
  const KernelStep& k = plan.kernel;
  const std::size_t n_in = k.inputs.size(), n_out = plan.outputs.size();
  base::InlineArray<const Tensor*, 8> inputs(n_in);
  Tensor* const outputs = n_out == 0 ? nullptr : slots.fill(plan.outputs[0].slot, n_out);
  std::vector<Tensor> copies;
  const bool meta = k.device.kind == DeviceKind::meta;
  for (std::size_t i = 0; i < n_in; ++i) {
    const Tensor* t = slots[k.inputs[i]];
    if (t != nullptr && !meta) {
      if (!k.view) before_read(plan, *t, state);
      if (plan.op->contiguous && !t->is_contiguous()) {
        copies.reserve(n_in);
        t = &copies.emplace_back(t->contiguous());
      }
    }
    inputs[i] = t;
  }
  for (int i : k.written) {
    const Tensor& t = *slots[k.inputs[static_cast<std::size_t>(i)]];
    if (!meta) t.storage()->before_write();
    t.bump_version();
  }
  for (std::size_t i = 0; i < n_out; ++i) {
    const PlanOutput& o = plan.outputs[i];
    if (o.alias >= 0) outputs[i] = *slots[k.inputs[static_cast<std::size_t>(o.alias)]];
    else if (!k.view || meta) outputs[i] = Tensor::empty(o.spec->local_shape, o.spec->dtype, k.device);
  }
  if (!meta) {
    auto* const own = k.device.kind == DeviceKind::cuda ? plan.op->cuda : plan.op->cpu;
    auto* const kernel = own != nullptr ? own : plan.op->kernel;
    KernelCall call;
    call.op_name = plan.op->name;
    call.inputs_ = inputs.data();
    call.outputs_ = outputs;
    call.output_shapes_ = k.shapes.data();
    call.places_ = k.places.data();
    call.attributes_ = attributes;
    call.num_inputs_ = static_cast<int>(n_in);
    call.num_outputs_ = static_cast<int>(n_out);
    call.seed_ = seed;
    call.random_call_ = random_call;
    kernel(call);
  }
}

void run_moves(const Plan& plan, const Step& step, Slots& slots) {
  const MoveList& list = plan.move_lists[static_cast<std::size_t>(step.index)];
  std::vector<const Tensor*> in;
  for (int slot : list.in) in.push_back(slots[slot]);
  std::vector<Tensor> out = redistribute::run_together(moves_of(plan, step), in);
  for (std::size_t i = 0; i < out.size(); ++i) {
    slots.set(list.out[i], std::move(out[i]));
    slots.release(list.in[i]);
  }
}

void place(const Slab& slab, const Step& step, Slots& slots) {
  const Tensor& part = *slots[step.in];
  if (slots[step.out] == nullptr) slots.set(step.out, Tensor::empty(slab.shape, part.dtype(), part.device()));
  if (part.device().kind != DeviceKind::meta) slots[step.out]->narrow(slab.dim, slab.begin, slab.length).copy_(part);
  slots.drain();
  slots.release(step.in);
}

void run_step(const Plan& plan, const Step& step, Slots& slots, std::span<const Attribute> attributes, std::uint64_t seed, std::uint64_t random_call,
              CallState& state) {
  switch (step.kind) {
    case StepKind::move:
      slots.drain();
      slots.set(step.out, redistribute::run(plan.moves[static_cast<std::size_t>(step.index)], *slots[step.in]));
      slots.release(step.in);
      break;
    case StepKind::moves:
      run_moves(plan, step, slots);
      break;
    case StepKind::share:
      slots.set(step.out, slots[step.in]->shared_copy());
      break;
    case StepKind::part: {
      const Slab& slab = plan.slabs[static_cast<std::size_t>(step.index)];
      slots.set(step.out, slots[step.in]->narrow(slab.dim, slab.begin, slab.length));
      break;
    }
    case StepKind::place:
      place(plan.slabs[static_cast<std::size_t>(step.index)], step, slots);
      break;
    case StepKind::convert:
      slots.set(step.out, slots[step.in]->to(static_cast<Dtype>(step.index)));
      slots.release(step.in);
      break;
    case StepKind::carry:
      slots.set(step.out, slots[step.in]->to(plan.outputs[0].spec->device, {.non_blocking = step.index == 1}));
      break;
    case StepKind::kernel:
      run_kernel(plan, slots, attributes, seed, random_call, state);
      break;
    case StepKind::wait:
      slots[step.in]->wait();
      break;
  }
}

}  // namespace

void execute(const Plan& plan, std::span<const Input> inputs, std::span<const Attribute> attributes, std::uint64_t seed, std::uint64_t random_call,
             CallState& state, std::span<DTensor> results) {
  Slots slots(plan, inputs);
  for (const Step& step : plan.steps) {
    if (!state.observers.empty()) notify(plan, step, state);
    run_step(plan, step, slots, attributes, seed, random_call, state);
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PlanOutput& o = plan.outputs[i];
    results[i] = o.alias >= 0 ? *inputs[static_cast<std::size_t>(o.alias)].tensor : make_dtensor(o.spec, slots.take(o.slot));
  }
}

std::string_view to_string(StepKind kind) noexcept {
  switch (kind) {
    case StepKind::move:
      return "move";
    case StepKind::moves:
      return "moves";
    case StepKind::wait:
      return "wait";
    case StepKind::kernel:
      return "kernel";
    case StepKind::share:
      return "share";
    case StepKind::convert:
      return "convert";
    case StepKind::carry:
      return "carry";
    case StepKind::part:
      return "part";
    case StepKind::place:
      return "place";
  }
  return "";
}

std::string to_string(const Plan& plan) {
  std::string text;
  for (const Step& s : plan.steps) {
    if (s.kind == StepKind::move) {
      const auto& m = plan.moves[static_cast<std::size_t>(s.index)];
      text += fmt::format("{} {} -> {}: {}, {} bytes received\n", redistribute::to_string(m.move.kind), s.in, s.out, m.detail, m.bytes_received);
    } else if (s.kind == StepKind::moves) {
      const MoveList& list = plan.move_lists[static_cast<std::size_t>(s.index)];
      const auto moves = moves_of(plan, s);
      text += fmt::format("{} of {} tensors, one launch\n", redistribute::to_string(moves[0]->move.kind), moves.size());
      for (std::size_t i = 0; i < moves.size(); ++i)
        text += fmt::format("  {} -> {}: {}, {} bytes received\n", list.in[i], list.out[i], moves[i]->detail, moves[i]->bytes_received);
    } else if (s.kind == StepKind::kernel) {
      std::vector<int> outputs;
      for (const PlanOutput& o : plan.outputs) outputs.push_back(o.slot);
      text += fmt::format("kernel {} ({}) -> ({})\n", plan.op->name, fmt::join(plan.kernel.inputs, ", "), fmt::join(outputs, ", "));
    } else {
      text += fmt::format("{} {} -> {}\n", to_string(s.kind), s.in, s.out);
    }
  }
  return text;
}

}  // namespace dtensor::tensor
