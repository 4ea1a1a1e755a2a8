// SPDX-License-Identifier: Apache-2.0
// Activation checkpointing: the function runs again in backward, with the generator state of the first run.
#include "autograd/node.h"
#include "base/error_text.h"
#include "dtensor/generator.h"

namespace dtensor {
namespace autograd {
void enable_recording();
namespace {

Generator& current_generator() {
  tensor::CallState& state = tensor::call_state();
  return state.generator != nullptr ? *state.generator : default_generator();
}

class CheckpointNode final : public Node {
 public:
  CheckpointNode(std::uint64_t n, CheckpointFunction function, std::span<const DTensor> inputs, const Generator& before)
      : Node(n), function_(std::move(function)), inputs_(inputs.begin(), inputs.end()), generator_(before) {
    for (const DTensor& in : inputs) edges.push_back(edge_of(in));
  }

  std::vector<DTensor> backward(std::span<const DTensor> grads) override {
    if (released_)
      base::fail<InvalidArgument>("backward: a checkpointed region was freed by an earlier backward; pass retain_graph = true to the first one");
    Generator& generator = current_generator();
    std::vector<DTensor> fresh;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      fresh.push_back(inputs_[i] ? inputs_[i].detach() : DTensor());
      if (edges[i]) fresh.back().set_requires_grad();
    }
    DTensor out;
    {
      const EnableGrad on;
      const Generator now = std::exchange(generator, generator_);
      try {
        out = function_(fresh);
      } catch (...) {
        generator = now;
        throw;
      }
      generator = now;
    }
    run_backward({{out, grads[0]}}, {}, false, false);
    std::vector<DTensor> result;
    for (std::size_t i = 0; i < fresh.size(); ++i) result.push_back(edges[i] ? fresh[i].grad() : DTensor());
    return result;
  }

  void forget() override {
    released_ = true;
    inputs_.clear();
    function_ = nullptr;
  }
  std::string_view name() const override { return "checkpoint"; }

 private:
  CheckpointFunction function_;
  std::vector<DTensor> inputs_;
  Generator generator_;  // as it was before the first run
  bool released_ = false;
};

}  // namespace
}  // namespace autograd

DTensor checkpoint(const CheckpointFunction& function, std::span<const DTensor> inputs) {
  if (!is_grad_enabled()) return function(inputs);
  autograd::enable_recording();
  const Generator before = autograd::current_generator();
  DTensor out;
  {
    const NoGrad off;
    out = function(inputs);
  }
  DTensor result = out.detach();
  auto node = base::make_ref<autograd::CheckpointNode>(autograd::tape().next_number++, function, inputs, before);
  node->result_specs.push_back(result.impl()->spec);
  autograd::Meta& meta = autograd::ensure_meta(result);
  meta.node = base::Ref<autograd::Node>(node.get());
  result.impl()->requires_grad = true;
  return result;
}

}  // namespace dtensor
