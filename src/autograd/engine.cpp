// SPDX-License-Identifier: Apache-2.0
// Backward: nodes in descending creation number, the same on all ranks.
#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "autograd/node.h"
#include "base/error_text.h"
#include "dtensor/ops/binary.h"
#include "tensor/move_ops.h"

namespace dtensor::autograd {
namespace {

class Engine {
 public:
  Engine(std::span<const DTensor> wanted, bool retain_graph, bool create_graph)
      : wanted_(wanted), retain_(retain_graph), create_(create_graph), results_(wanted.size()) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const Edge e = edge_of(wanted[i]);
      if (e.node) wanted_results_[{e.node.get(), e.output}] = i;
      if (e.leaf) wanted_leaves_[e.leaf.impl()] = i;
    }
  }

  std::vector<DTensor> run(const std::vector<Root>& roots) {
    count_leaf_uses(roots);
    tensor::CallState& state = tensor::call_state();
    const bool was = state.grad_enabled;
    state.grad_enabled = create_;
    try {
      for (const Root& r : roots) deliver(edge_of(r.tensor), r.grad);
      while (!ready_.empty()) {
        const auto it = std::prev(ready_.end());
        const base::Ref<Node> node = it->second.node;
        std::vector<DTensor> grads = std::move(it->second.grads);
        ready_.erase(it);
        visit(*node, std::move(grads));
      }
    } catch (...) {
      state.grad_enabled = was;
      throw;
    }
    state.grad_enabled = was;
    return std::move(results_);
  }

 private:
  struct Pending {
    base::Ref<Node> node;
    std::vector<DTensor> grads;
  };

  // How many gradients each leaf will get, so that it can be finished as soon as the last has come.
  void count_leaf_uses(const std::vector<Root>& roots) {
    std::vector<Node*> stack;
    std::unordered_set<Node*> seen;
    const auto follow = [&](const Edge& e) {
      if (e.leaf) ++uses_[e.leaf.impl()];
      if (e.node && seen.insert(e.node.get()).second) stack.push_back(e.node.get());
    };
    for (const Root& r : roots) follow(edge_of(r.tensor));
    while (!stack.empty()) {
      const Node* n = stack.back();
      stack.pop_back();
      for (const Edge& e : n->edges) follow(e);
    }
  }

  void visit(Node& node, std::vector<DTensor> grads) {
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i]) continue;
      grads[i] = settle(node, i, grads[i]);
      for (const ResultHook& h : node.hooks)
        if (h.output == static_cast<int>(i))
          if (DTensor replaced = h.hook(grads[i])) grads[i] = replaced;
      if (const auto w = wanted_results_.find({&node, static_cast<int>(i)}); w != wanted_results_.end()) results_[w->second] = grads[i];
    }
    std::vector<DTensor> next = node.backward(grads);
    if (next.size() > node.edges.size())
      base::fail<InternalError>("backward: {} gave {} gradients for {} inputs", node.name(), next.size(), node.edges.size());
    for (std::size_t i = 0; i < node.edges.size(); ++i) deliver(node.edges[i], i < next.size() ? next[i] : DTensor());
    if (!retain_) node.forget();
  }

  // The gradient of a Partial result is never Partial on those axes.
  static DTensor settle(const Node& node, std::size_t output, const DTensor& grad) {
    const tensor::SpecRef& result = node.result_specs[output];
    const tensor::Spec& spec = *grad.impl()->spec;
    if (!result || !(spec.mesh == result->mesh)) return grad;
    placements::Layout layout = *spec.layout;
    bool changed = false;
    for (std::size_t a = 0; a < layout.partial.size(); ++a) {
      if (!layout.partial[a] || !result->layout->partial[a]) continue;
      layout.partial[a].reset();
      changed = true;
    }
    return changed ? tensor::redistribute_to(grad, placements::intern(std::move(layout))) : grad;
  }

  void deliver(const Edge& edge, const DTensor& grad) {
    if (edge.node && grad) {
      Pending& p = ready_[edge.node->number];
      if (!p.node) {
        p.node = edge.node;
        p.grads.resize(edge.node->result_specs.size());
      }
      DTensor& slot = p.grads[static_cast<std::size_t>(edge.output)];
      slot = slot ? slot + grad : grad;
    }
    if (edge.leaf) to_leaf(edge.leaf, grad);
  }

  void to_leaf(const DTensor& leaf, const DTensor& grad) {
    DTensor& sum = leaves_[leaf.impl()];
    if (grad) sum = sum ? sum + grad : grad;
    if (--uses_[leaf.impl()] > 0 || !sum) return;
    const DTensor total = std::move(sum);
    leaves_.erase(leaf.impl());
    finish_leaf(leaf, total);
  }

  void finish_leaf(const DTensor& leaf, const DTensor& total) {
    Meta& meta = ensure_meta(leaf);
    const tensor::Spec& spec = *leaf.impl()->spec;
    const auto layout = meta.keep_layout ? total.impl()->spec->layout : meta.grad_layout ? meta.grad_layout : tensor::without_partial(spec.layout);
    DTensor grad = total;
    if (grad.impl()->spec->layout != layout || grad.dtype() != leaf.dtype())
      grad = tensor::redistribute_to(total, layout, std::nullopt, leaf.dtype() == total.dtype() ? std::nullopt : std::optional(leaf.dtype()));
    for (const GradientHook& hook : meta.hooks)
      if (DTensor replaced = hook(grad)) grad = replaced;
    if (const auto w = wanted_leaves_.find(leaf.impl()); w != wanted_leaves_.end()) {
      results_[w->second] = grad;
      return;
    }
    if (!wanted_.empty()) return;
    meta.grad = meta.grad ? meta.grad + grad : (create_ ? grad : own(grad));
    for (const auto& hook : meta.ready) hook(leaf);
  }

  // Two leaves may get one tensor, and each may be changed in place.
  static DTensor own(const DTensor& grad) {
    const Tensor& local = grad.impl()->local;
    return tensor::make_dtensor(grad.impl()->spec, local ? local.shared_copy() : local);
  }

  std::span<const DTensor> wanted_;
  bool retain_, create_;
  std::vector<DTensor> results_;
  std::map<std::uint64_t, Pending> ready_;
  std::unordered_map<tensor::Impl*, int> uses_;
  std::unordered_map<tensor::Impl*, DTensor> leaves_;
  std::map<std::pair<Node*, int>, std::size_t> wanted_results_;
  std::unordered_map<tensor::Impl*, std::size_t> wanted_leaves_;
};

}  // namespace

std::vector<DTensor> run_backward(const std::vector<Root>& roots, std::span<const DTensor> wanted, bool retain_graph, bool create_graph) {
  TapeState& state = tape();
  struct Depth {
    TapeState& s;
    explicit Depth(TapeState& t) : s(t) { ++s.depth; }
    ~Depth() { --s.depth; }
    Depth(const Depth&) = delete;
  };
  const auto end = [&state] {
    if (state.depth > 0) return;
    for (const auto& c : std::exchange(state.at_end, {})) c();
  };
  std::vector<DTensor> results;
  try {
    const Depth depth(state);
    results = Engine(wanted, retain_graph || create_graph, create_graph).run(roots);
  } catch (...) {
    end();
    throw;
  }
  end();
  return results;
}

}  // namespace dtensor::autograd
