// SPDX-License-Identifier: Apache-2.0
// Recording a call on the tape.
#include "autograd/node.h"
#include "base/error_text.h"

namespace dtensor::autograd {
namespace {

// Attributes that outlive the call: lists and texts are copied, objects are held by the plan.
class OwnedAttributes {
 public:
  OwnedAttributes(std::span<const Attribute> attributes, std::pmr::memory_resource* memory)
      : values_(attributes.begin(), attributes.end(), memory), lists_(memory), texts_(memory) {
    std::size_t numbers = 0, letters = 0;
    for (const Attribute& a : attributes) {
      if (a.kind() == Attribute::Kind::list) numbers += a.as_list().size();
      if (a.kind() == Attribute::Kind::text) letters += a.as_text().size();
    }
    lists_.reserve(numbers);
    texts_.reserve(letters);
    for (Attribute& a : values_) {
      if (a.kind() == Attribute::Kind::list) {
        const auto list = a.as_list();
        const auto at = lists_.insert(lists_.end(), list.begin(), list.end());
        a = std::span<const std::int64_t>(std::to_address(at), list.size());
      } else if (a.kind() == Attribute::Kind::text) {
        const std::string_view text = a.as_text();
        const auto at = texts_.insert(texts_.end(), text.begin(), text.end());
        a = std::string_view(std::to_address(at), text.size());
      }
    }
  }
  std::span<const Attribute> view() const noexcept { return values_; }

 private:
  std::pmr::vector<Attribute> values_;
  std::pmr::vector<std::int64_t> lists_;
  std::pmr::vector<char> texts_;
};

class OpNode final : public Node {
 public:
  OpNode(std::uint64_t n, const tensor::CallRecord& r)
      : Node(n),
        op_(&r.op),
        attributes_(r.attributes, memory()),
        plan_(r.plan),
        seed_(r.seed),
        random_call_(r.random_call),
        inputs_(memory()),
        outputs_(memory()) {
    const tensor::Signature& s = r.signature;
    edges.reserve(r.inputs.size());
    inputs_.reserve(r.inputs.size());
    for (std::size_t i = 0; i < r.inputs.size(); ++i) {
      const bool here = r.inputs[i].tensor != nullptr && *r.inputs[i].tensor;
      const std::size_t declared = std::min(i, s.saved_inputs.size() - 1);
      edges.push_back(here ? edge_of(*r.inputs[i].tensor) : Edge());
      inputs_.push_back(here && s.saved_inputs[declared] ? save(*r.inputs[i].tensor) : Saved());
    }
    result_specs.reserve(r.outputs.size());
    outputs_.reserve(r.outputs.size());
    for (std::size_t i = 0; i < r.outputs.size(); ++i) {
      const DTensor& out = r.outputs[i];
      result_specs.push_back(out ? out.impl()->spec : tensor::SpecRef());
      const std::size_t declared = std::min(i, s.saved_outputs.size() - 1);
      const bool saved = out && s.saved_outputs[declared];
      // What the caller gets leads to this node, so the node keeps another handle of it.
      outputs_.push_back(saved ? save(i < r.kept ? tensor::make_dtensor(out.impl()->spec, out.impl()->local) : out) : Saved());
    }
  }

  std::vector<DTensor> backward(std::span<const DTensor> grads) override {
    if (released_)
      base::fail<InvalidArgument>("backward: the values that {} needs were freed by an earlier backward; pass retain_graph = true to the first one",
                                  op_->name);
    if (op_->gradient == nullptr) base::fail<Unsupported>("backward: {} has no gradient; detach its inputs or use another op", op_->name);
    GradientCall call;
    call.op = op_;
    std::vector<DTensor> inputs, outputs;
    for (const Saved& s : inputs_) inputs.push_back(load(s, "an input"));
    for (std::size_t i = 0; i < outputs_.size(); ++i) outputs.push_back(load_output(i));
    call.grads_ = grads;
    call.inputs_ = inputs;
    call.outputs_ = outputs;
    call.attributes_ = attributes_.view();
    std::vector<TensorType> types;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const tensor::SpecRef& spec = plan_->input_specs[i];
      types.push_back(spec ? TensorType{spec->shape, spec->dtype} : TensorType{});
    }
    call.input_types_ = types;
    for (const Edge& e : edges) call.needs_.push_back(static_cast<bool>(e));
    call.seed = seed_;
    call.random_call = random_call_;
    return op_->gradient(call);
  }

  void forget() override {
    released_ = true;
    inputs_.clear();
    outputs_.clear();
  }

  std::string_view name() const override { return op_->name; }

 private:
  static Saved save(const DTensor& t) { return {t, t.impl()->local.version()}; }

  DTensor load(const Saved& s, std::string_view what) const {
    if (!s.tensor) return {};
    const std::uint64_t now = s.tensor.impl()->local.version();
    if (now != s.version)
      base::fail<InvalidArgument>(
          "backward: {} of {} was modified in place after it was saved ({}, version {} at the call, {} now); clone it before, or use the form that "
          "returns a result",
          what, op_->name, to_string(s.tensor), s.version, now);
    return s.tensor;
  }

  // A result gets its history back while gradient runs, so that it can be differentiated again.
  DTensor load_output(std::size_t i) {
    DTensor t = load(outputs_[i], "a result");
    if (!t || !tensor::call_state().grad_enabled) return t;
    DTensor with_history = tensor::make_dtensor(t.impl()->spec, t.impl()->local);
    Meta& meta = ensure_meta(with_history);
    meta.node = base::Ref<Node>(this);
    meta.output = static_cast<int>(i);
    with_history.impl()->requires_grad = true;
    return with_history;
  }

  const OpDef* op_;
  OwnedAttributes attributes_;
  tensor::PlanRef plan_;
  std::uint64_t seed_, random_call_;
  std::pmr::vector<Saved> inputs_, outputs_;
  bool released_ = false;
};

void record(const tensor::CallRecord& r) {
  bool differentiable = false;
  for (const DTensor& out : r.outputs.first(r.kept)) differentiable = differentiable || (out && info(out.dtype()).floating);
  if (!differentiable) return;
  auto node = base::make_ref<OpNode>(tape().next_number++, r);
  for (std::size_t i = 0; i < r.kept; ++i) {
    const DTensor& out = r.outputs[i];
    if (!out || !info(out.dtype()).floating) continue;
    if (r.signature.output_written(static_cast<int>(i)) >= 0) out.impl()->autograd = base::Ref<base::RefCounted>();
    Meta& meta = ensure_meta(out);
    meta.node = base::Ref<Node>(node.get());
    meta.output = static_cast<int>(i);
    out.impl()->requires_grad = true;
  }
}

}  // namespace

TapeState& tape() { return base::rank_state<TapeState>(base::require_rank("autograd")); }

Meta* meta_of(const DTensor& t) noexcept { return t ? static_cast<Meta*>(t.impl()->autograd.get()) : nullptr; }

Meta& ensure_meta(const DTensor& t) {
  if (!t.impl()->autograd) t.impl()->autograd = base::Ref<base::RefCounted>(new Meta);
  return *static_cast<Meta*>(t.impl()->autograd.get());
}

Edge edge_of(const DTensor& t) {
  if (!t || !t.impl()->requires_grad) return {};
  Meta& meta = ensure_meta(t);
  if (meta.node) return {meta.node, meta.output, {}};
  return {{}, 0, t};
}

void enable_recording() { tensor::set_recorder(&record); }

}  // namespace dtensor::autograd
