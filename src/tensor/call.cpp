// SPDX-License-Identifier: Apache-2.0
// call(): key -> plan -> run -> record.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <optional>

#include "base/error_text.h"
#include "base/inline_array.h"
#include "local/device.h"
#include "tensor/impl.h"
#include "tensor/signature.h"
#include "tensor/state.h"
#include "world/topology.h"

namespace dtensor {
namespace tensor {
namespace {

std::atomic<Recorder> recorder{nullptr};

constexpr std::size_t kMaxAttributes = 20;

// Key words in a fixed array; a long key (many inputs) goes to the heap.
class Key {
 public:
  void add(std::uint64_t word) {
    if (count_ < few_.size()) few_[count_] = word;
    else add_to_many(word);
    ++count_;
  }
  void add(const void* pointer) { add(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer))); }
  /// For this rank alone; every call takes it, so a word costs one rotation and one multiplication.
  std::uint64_t hash() const noexcept {
    std::uint64_t h = 0;
    for (std::uint64_t word : words()) h = (std::rotl(h, 5) ^ word) * 0x9e3779b97f4a7c15ull;
    return h ^ (h >> 32);
  }
  std::span<const std::uint64_t> words() const noexcept { return {many_.empty() ? few_.data() : many_.data(), count_}; }

 private:
  [[gnu::noinline]] void add_to_many(std::uint64_t word) {
    if (many_.empty()) many_.assign(few_.begin(), few_.end());
    many_.push_back(word);
  }
  std::array<std::uint64_t, 40> few_;  // NOLINT: filled as far as count_
  std::vector<std::uint64_t> many_;
  std::size_t count_ = 0;
};

void add_text(Key& key, std::string_view text) {
  for (std::size_t i = 0; i < text.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + i, std::min<std::size_t>(8, text.size() - i));
    key.add(word);
  }
}

void add_attribute(Key& key, const AttributeInfo& info, const Attribute& a) {
  const auto kind = static_cast<std::uint64_t>(a.kind());
  if (!info.is_static()) {
    // The value of a scalar is handed to the kernel; only its kind decides a dtype.
    key.add(kind | (info.type == AttributeType::number ? static_cast<std::uint64_t>(a.scalar().kind()) << 8 : 0));
    return;
  }
  switch (a.kind()) {
    case Attribute::Kind::none:
      key.add(kind);
      break;
    case Attribute::Kind::number:
    case Attribute::Kind::dtype:
      key.add(kind | (static_cast<std::uint64_t>(a.scalar().kind()) << 8));
      key.add(a.scalar().kind() == ScalarKind::floating ? std::bit_cast<std::uint64_t>(a.as_double()) : static_cast<std::uint64_t>(a.as_int()));
      break;
    case Attribute::Kind::list:
      key.add(kind | (a.as_list().size() << 8));
      for (std::int64_t v : a.as_list()) key.add(static_cast<std::uint64_t>(v));
      break;
    case Attribute::Kind::text:
      key.add(kind | (a.as_text().size() << 8));
      add_text(key, a.as_text());
      break;
    case Attribute::Kind::object:
      key.add(kind);
      key.add(a.as_object());
      break;
  }
}

// Attributes in declared order, defaults filled in.
std::span<const Attribute> complete(const OpInfo& info, std::span<const Attribute> given,
                                    std::optional<std::array<Attribute, kMaxAttributes>>& storage) {
  const auto& declared = info.signature.attributes;
  if (given.size() == declared.size()) return given;
  if (given.size() > declared.size() || declared.size() > kMaxAttributes)
    base::fail<InvalidArgument>("{}: {} attributes given for {}; the signature is \"{}\"", info.op->name, given.size(), declared.size(),
                                info.op->signature);
  auto& values = storage.emplace();
  std::copy(given.begin(), given.end(), values.begin());
  for (std::size_t i = given.size(); i < declared.size(); ++i) {
    if (!declared[i].has_default && !declared[i].optional)
      base::fail<InvalidArgument>("{}: attribute '{}' is missing; the signature is \"{}\"", info.op->name, declared[i].name, info.op->signature);
    values[i] = declared[i].fallback;
  }
  return {values.data(), declared.size()};
}

bool communicates(const Plan& plan) {
  return std::any_of(plan.moves.begin(), plan.moves.end(), [](const auto& m) { return m.communicates(); });
}
[[noreturn]] void refuse_implicit(const Plan& plan, std::string_view op) {
  std::string moves;
  for (const auto& m : plan.moves)
    if (m.communicates()) moves += fmt::format("{}{} {}", moves.empty() ? "" : ", ", redistribute::to_string(m.move.kind), m.detail);
  base::fail<InvalidArgument>("{}: implicit communication is refused here ({}); redistribute the inputs explicitly", op, moves);
}

struct Placed {
  const DeviceMesh* mesh;
  const Placements* placements;
  placements::LayoutRef layout;
  Device device;
};

class Invocation {
 public:
  Invocation(const OpDef& op, std::span<const Input> inputs, std::span<const Attribute> attributes, const Placed* placed)
      : rank_(base::require_rank(op.name)),
        state_(call_state(rank_)),
        info_(state_.info(op)),
        inputs_(inputs),
        attributes_(complete(info_, attributes, storage_)),
        placed_(placed) {
    rank_.last_call.store(op.name.data(), std::memory_order_relaxed);
    if (rank_.over != nullptr && rank_.over->load(std::memory_order_relaxed)) rank_.throw_over(rank_);
    find_plan();
  }

  std::size_t outputs() const noexcept { return plan_->outputs.size(); }
  bool decomposed() const noexcept { return plan_->decomposed; }
  bool wants_gradient() const noexcept { return wants_gradient_; }

  Results decompose() {
    std::vector<const DTensor*> pointers;
    for (const Input& in : inputs_) pointers.push_back(in.tensor);
    const DecomposeCall call{pointers, attributes_};
    if (is_composite(*info_.op) && info_.op->gradient == nullptr) return info_.op->decompose(call);  // its ops record themselves
    Results results;
    {
      struct Quiet {
        CallState& s;
        bool was;
        explicit Quiet(CallState& state) : s(state), was(state.recording) { s.recording = false; }
        ~Quiet() { s.recording = was; }
        Quiet(const Quiet&) = delete;
      } quiet(state_);
      results = info_.op->decompose(call);
    }
    record(results, results.size(), 0, 0);
    return results;
  }

  /// The first of the results, as many as `results` has room for; all of them where a gradient is wanted, of which the caller keeps the first `kept`.
  void run(std::span<DTensor> results, std::size_t kept) {
    if (state_.implicit != ImplicitPolicy::allow && (plan_->implicit || (!state_.inserted.empty() && communicates(*plan_)))) {
      const std::string_view op = state_.inserted.empty() ? info_.op->name : state_.inserted;
      if (state_.implicit == ImplicitPolicy::refuse) refuse_implicit(*plan_, op);
      std::fprintf(stderr, "[rank %d] warning: %s communicates implicitly\n", rank_.rank, op.data());
    }
    for (StepObserver* o : state_.observers) o->on_call(*info_.op, inputs_, attributes_);
    std::uint64_t seed = 0, random_call = 0;
    if (info_.op->random) {
      Generator& g = state_.generator != nullptr ? *state_.generator : default_generator();
      seed = g.seed();
      random_call = g.next_call();
      if (local::DeviceBackend* backend = local::cuda_backend()) backend->note_draw(g, seed, random_call);
    }
    if (plan_->outside) {
      for (std::size_t i = 0; i < results.size(); ++i) results[i] = outside(plan_->outputs[i]);
    } else {
      execute(*plan_, inputs_, attributes_, seed, random_call, state_, results);
    }
    if (const int viewed = info_.signature.view_of; viewed >= 0)
      results[0].impl()->copied_view = plan_->copied_view || inputs_[static_cast<std::size_t>(viewed)].tensor->impl()->copied_view;
    record(results, kept, seed, random_call);
  }

 private:
  void find_plan() {
    Key key;
    key.add(info_.op);
    key.add(base::rank_state<world::RankTopology>(rank_).hash);
    for (const Input& in : inputs_) {
      if (in.tensor == nullptr || !*in.tensor) {
        key.add(std::uint64_t{0});
        continue;
      }
      const Impl& impl = *in.tensor->impl();
      if (impl.owner != rank_.rank || impl.world != rank_.world_id) checked(*in.tensor, info_.op->name);
      key.add(impl.spec.get());
      wants_gradient_ = wants_gradient_ || impl.requires_grad;
    }
    for (std::size_t i = 0; i < attributes_.size(); ++i) add_attribute(key, info_.signature.attributes[i], attributes_[i]);
    if (placed_ != nullptr) {
      key.add(&placed_->mesh->data());
      key.add(placed_->layout.get());
      for (const auto& e : placed_->placements->entries()) {
        add_text(key, e.axis);
        add_text(key, to_string(e.placement));
      }
      key.add((static_cast<std::uint64_t>(placed_->device.kind) << 8) | static_cast<std::uint8_t>(placed_->device.index));
    }
    wants_gradient_ = wants_gradient_ && state_.grad_enabled && state_.recording;
    const std::uint64_t hash = key.hash();
    plan_ = PlanRef(state_.plans.find(hash, key.words()));
    if (!plan_) {
      plan_ = build_plan(info_, inputs_, attributes_, placed_ != nullptr ? placed_->placements : nullptr,
                         placed_ != nullptr ? placed_->mesh : nullptr, placed_ != nullptr ? placed_->device : Device{});
      plan_->key.assign(key.words().begin(), key.words().end());
      state_.plans.insert(hash, plan_);
    }
    if (!info_.signature.written.empty()) {
      refuse_copied_views();
      if (wants_gradient_) check_written();
    }
  }

  // A view of rows that had to move is a copy: what is written to it would be lost.
  void refuse_copied_views() const {
    for (int i : info_.signature.written) {
      const auto at = static_cast<std::size_t>(i);
      if (at >= inputs_.size() || inputs_[at].tensor == nullptr || !*inputs_[at].tensor || !inputs_[at].tensor->impl()->copied_view) continue;
      base::fail<InvalidArgument>(
          "{}: '{}' is a view whose rows had to move ({}), so that a write would not reach the tensor it views; clone() it to write to the copy, or "
          "redistribute the tensor before the view",
          info_.op->name, info_.signature.inputs[at].name, to_string(*inputs_[at].tensor));
    }
  }

  // A leaf that asks for a gradient keeps its value while it is recorded.
  void check_written() const {
    for (int i : info_.signature.written) {
      const DTensor& t = *inputs_[static_cast<std::size_t>(i)].tensor;
      if (t.requires_grad() && t.is_leaf())
        base::fail<InvalidArgument>(
            "{}: a leaf that requires a gradient is written in place ({}); do it under NoGrad, or use the form that returns a result", info_.op->name,
            to_string(t));
    }
  }

  // The result of a rank that is not in the mesh.
  DTensor outside(const PlanOutput& o) const {
    if (o.alias >= 0) return *inputs_[static_cast<std::size_t>(o.alias)].tensor;
    return make_dtensor(o.spec, Tensor::empty(o.spec->local_shape, o.spec->dtype, o.spec->device));
  }

  void record(std::span<const DTensor> results, std::size_t kept, std::uint64_t seed, std::uint64_t random_call) {
    if (!wants_gradient_) return;
    recorder.load(std::memory_order_acquire)(CallRecord{*info_.op, info_.signature, inputs_, attributes_, results, kept, seed, random_call, plan_});
  }

  base::RankContext& rank_;
  CallState& state_;
  const OpInfo& info_;
  std::span<const Input> inputs_;
  std::optional<std::array<Attribute, kMaxAttributes>> storage_;
  std::span<const Attribute> attributes_;
  const Placed* placed_;
  PlanRef plan_;
  bool wants_gradient_ = false;
};

Results run_all(Invocation& invocation) {
  if (invocation.decomposed()) return invocation.decompose();
  Results results(invocation.outputs());
  invocation.run(results, results.size());
  return results;
}

}  // namespace

void set_recorder(Recorder r) noexcept { recorder.store(r, std::memory_order_release); }

}  // namespace tensor

DTensor call(const OpDef& op, std::initializer_list<Input> inputs, std::initializer_list<Attribute> attributes) {
  tensor::Invocation invocation(op, {inputs.begin(), inputs.size()}, {attributes.begin(), attributes.size()}, nullptr);
  if (invocation.decomposed()) return std::move(invocation.decompose().at(0));
  base::InlineArray<DTensor, 4> results(invocation.wants_gradient() ? invocation.outputs() : 1);
  invocation.run(results, 1);
  return std::move(results[0]);
}

Results call_all(const OpDef& op, std::span<const Input> inputs, std::span<const Attribute> attributes) {
  tensor::Invocation invocation(op, inputs, attributes, nullptr);
  return tensor::run_all(invocation);
}

DTensor call_on(const OpDef& op, const DeviceMesh& mesh, const Placements& placements, Device device, std::span<const Attribute> attributes) {
  const tensor::Placed placed{&mesh, &placements, nullptr, device};
  tensor::Invocation invocation(op, {}, attributes, &placed);
  return std::move(tensor::run_all(invocation).at(0));
}

Results call_named(const OpDef& op, std::span<const Input> inputs, std::span<const std::pair<std::string_view, Attribute>> attributes) {
  const tensor::OpInfo& info = tensor::call_state().info(op);
  const auto& declared = info.signature.attributes;
  std::vector<Attribute> values;
  std::vector<bool> set(declared.size());
  for (const auto& d : declared) values.push_back(d.fallback);
  for (const auto& [name, value] : attributes) {
    const auto it = std::find_if(declared.begin(), declared.end(), [&wanted = name](const auto& d) { return d.name == wanted; });
    if (it == declared.end()) base::fail<InvalidArgument>("{}: no attribute '{}'; the signature is \"{}\"", op.name, name, op.signature);
    values[static_cast<std::size_t>(it - declared.begin())] = value;
    set[static_cast<std::size_t>(it - declared.begin())] = true;
  }
  for (std::size_t i = 0; i < declared.size(); ++i)
    if (!set[i] && !declared[i].has_default && !declared[i].optional)
      base::fail<InvalidArgument>("{}: attribute '{}' is missing; the signature is \"{}\"", op.name, declared[i].name, op.signature);
  return call_all(op, inputs, values);
}

}  // namespace dtensor
