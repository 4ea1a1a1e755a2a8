// SPDX-License-Identifier: Apache-2.0
// The tape: nodes with edges to the producers of their inputs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <vector>

#include "base/ref.h"
#include "dtensor/autograd.h"
#include "tensor/impl.h"
#include "tensor/state.h"

namespace dtensor::autograd {

class Node;

/// Where a gradient goes: result `output` of `node`, or a leaf.
struct Edge {
  base::Ref<Node> node;
  int output = 0;
  DTensor leaf;
  explicit operator bool() const noexcept { return node || leaf; }
};

/// A value read by gradient, with the version that it had. Results of the node itself are kept without their history, which would be a cycle.
struct Saved {
  DTensor tensor;
  std::uint64_t version = 0;
};

/// A hook on result `output` of a node.
struct ResultHook {
  int output = 0;
  GradientHook hook;
};

class Node : public base::RefCounted {
  // A node of usual size is one allocation: its lists live here. They are reserved once and never grow past it on the way of a call.
  std::array<std::byte, 384> inside_;
  std::pmr::monotonic_buffer_resource memory_{inside_.data(), inside_.size()};

 public:
  explicit Node(std::uint64_t n) : number(n) {}
  /// One gradient per edge (empty: none). `grads` has one entry per result.
  virtual std::vector<DTensor> backward(std::span<const DTensor> grads) = 0;
  /// Drops what backward needs; a later backward is an error.
  virtual void forget() = 0;
  virtual std::string_view name() const = 0;
  std::uint64_t number;
  std::pmr::vector<Edge> edges{&memory_};
  std::pmr::vector<tensor::SpecRef> result_specs{&memory_};  ///< one per result, for the placement law of Partial results
  std::vector<ResultHook> hooks;

 protected:
  std::pmr::memory_resource* memory() noexcept { return &memory_; }
};

/// Attached to a DTensor's Impl.
struct Meta final : base::RefCounted {
  base::Ref<Node> node;  ///< null for a leaf
  int output = 0;
  DTensor grad;
  std::vector<GradientHook> hooks;  ///< of a leaf
  std::vector<std::function<void(const DTensor&)>> ready;
  placements::LayoutRef grad_layout;
  bool keep_layout = false;  ///< the gradient is not brought anywhere
};

/// Per-rank state of the tape.
struct TapeState {
  std::uint64_t next_number = 1;
  int depth = 0;  ///< nested backward calls
  std::vector<std::function<void()>> at_end;
};
TapeState& tape();
Meta* meta_of(const DTensor& tensor) noexcept;
Meta& ensure_meta(const DTensor& tensor);
/// The edge that a gradient of `tensor` takes; false when it asks for none.
Edge edge_of(const DTensor& tensor);

struct Root {
  DTensor tensor, grad;
};
/// Runs the tape. `wanted` empty: leaves accumulate; otherwise gradients of `wanted` are returned and leaves are not touched.
std::vector<DTensor> run_backward(const std::vector<Root>& roots, std::span<const DTensor> wanted, bool retain_graph, bool create_graph);

}  // namespace dtensor::autograd
